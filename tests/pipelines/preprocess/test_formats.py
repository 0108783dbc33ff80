"""Files of every format and fault, decoded without Spark."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.preprocess.files import UnreadableFileError
from pipelines.preprocess.formats import decode, unreadable_file
from pipelines.preprocess.rules import FILE_RULES
from pipelines.preprocess.tables import INTERACTIONS, ITEMS
from tests.pipelines.preprocess.support import parquet

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def rows(data: bytes, name: str, table=INTERACTIONS):
    return pa.Table.from_batches(decode(data, name, table), table.arrow_schema).to_pylist()


def whole_row(**given):
    empty = dict.fromkeys([*INTERACTIONS.columns, "row_error", "file_error", "file_rule"])
    return empty | {"event_type": "purchase", "event_time": NOON} | given


WANTED = whole_row(user_id="7", item_id="007", quantity=2.0, price=1.5)
CSV = b"item_id,user_id,event_time,quantity,price,other\n007,7,2024-03-01T12:00:00Z,2,1.5,x\n"
LINE = {
    "user_id": "7",
    "item_id": "007",
    "event_time": NOON.isoformat(),
    "quantity": 2,
    "price": 1.5,
}
JSON = json.dumps(LINE).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", parquet([{**LINE, "event_time": NOON, "other": [1]}])),
        ("a.csv", CSV),
        ("a.csv", b"\xef\xbb\xbf" + CSV),
        ("a.csv.gz", gzip.compress(CSV)),
        ("a.jsonl", JSON),
        ("a.json.gz", gzip.compress(JSON)),
        ("a.ndjson", b"\n" + JSON + b"\n"),
    ],
)
def test_every_format_gives_the_same_row(name, data):
    assert rows(data, name) == [WANTED | {"source_file": name}]


FAR = datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("event_time", pa.array([NOON], pa.timestamp("ns")), NOON),
        ("event_time", pa.array([NOON], pa.timestamp("s")), NOON),
        ("event_time", pa.array([FAR], pa.timestamp("us")), FAR),
        ("event_time", pa.array([date(9999, 12, 31)]), FAR),
        ("event_time", pa.array([int(NOON.timestamp())]), NOON),
        ("event_time", pa.array([NOON.timestamp()]), NOON),
        ("event_time", pa.array(["2024-03-01 13:00+01:00"]), NOON),
        ("event_time", pa.array(["9999-12-31T00:00:00"]), FAR),
        ("event_time", pa.array(["soon"]), None),
        ("event_time", pa.array([{"at": 1}]), None),
        ("user_id", pa.array([12345.0]), "12345"),
        ("user_id", pa.array([12345]), "12345"),
        ("user_id", pa.array([12345], pa.uint32()), "12345"),
        ("user_id", pa.array([12345]).dictionary_encode(), "12345"),
        ("user_id", pa.array(["12345"]).dictionary_encode(), "12345"),
        ("user_id", pa.array(["12345"], pa.large_string()), "12345"),
        ("user_id", pa.array(["12345"], pa.large_string()).dictionary_encode(), "12345"),
        ("user_id", pa.array(["12345"], pa.string_view()), "12345"),
        ("user_id", pa.array([b"12345"]), "12345"),
        ("user_id", pa.array([Decimal("12345.00")]), "12345"),
        ("user_id", pa.array([["12345"]]), None),
        ("user_id", pa.nulls(1), None),
        ("quantity", pa.array([" 3 "]), 3.0),
        ("quantity", pa.array([3], pa.int8()), 3.0),
        ("quantity", pa.array(["three"]), None),
        ("quantity", pa.array([float("inf")]), float("inf")),
        ("quantity", pa.array(["-Infinity"]), float("-inf")),
        ("quantity", pa.array([{"pieces": 1}]), None),
        ("event_type", pa.array([None], pa.string()), "purchase"),
        ("event_type", pa.array(["view"]), "view"),
    ],
)
def test_drift_of_a_columns_type_is_followed(column, values, expected):
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "event_time": [NOON]})
    table = table.drop_columns(column) if column in table.column_names else table
    [row] = rows(parquet(table.append_column(column, values)), "a.parquet")
    assert row[column] == expected


@pytest.mark.parametrize("values", [pa.array([float("nan")]), pa.array(["NaN"])])
def test_a_value_that_is_no_number_stays_one_for_the_rules(values):
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "event_time": [NOON], "price": values})
    [row] = rows(parquet(table), "a.parquet")
    assert math.isnan(row["price"])


def test_times_of_the_old_twelve_byte_kind_do_not_wrap():
    times = pa.array([datetime(1500, 1, 1), datetime(2024, 3, 1, 12)], pa.timestamp("us"))
    table = pa.table({"user_id": ["u", "u"], "item_id": ["i", "i"], "event_time": times})
    read = rows(parquet(table, use_deprecated_int96_timestamps=True), "a.parquet")
    assert [row["event_time"] for row in read] == [datetime(1500, 1, 1, tzinfo=UTC), NOON]


SPARE = {"user_id": "u", "item_id": "i", "event_time": NOON.isoformat()}


def lines(*given: object) -> bytes:
    texts = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in given]
    return b"\n".join(texts) + b"\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("crlf.csv", CSV.replace(b"\n", b"\r\n")),
        ("crlf.jsonl", JSON.replace(b"\n", b"\r\n")),
        ("mark.jsonl", b"\xef\xbb\xbf" + JSON),
        ("quoted.csv", CSV.replace(b",x\n", b',"x\ny, ""z"""\n')),
        ("inch.csv", CSV.replace(b",x\n", b',5" pipe\n')),
        ("elsewhere.csv", CSV.replace(b",x\n", b",\xe9\n")),
        ("long.csv", CSV.replace(b",x\n", b"," + b"x" * 3_000_000 + b"\n")),
        ("long.jsonl", lines({**LINE, "other": "x" * 3_000_000})),
        ("nested.jsonl", lines({**LINE, "other": {"a": [1, {"b": []}]}})),
        ("numbers.jsonl", lines({**LINE, "user_id": 7})),
        ("members.csv.gz", gzip.compress(CSV[:40]) + gzip.compress(CSV[40:])),
        ("packed.parquet.gz", gzip.compress(parquet([{**LINE, "event_time": NOON}]))),
        ("epoch.jsonl", lines({**LINE, "event_time": int(NOON.timestamp())})),
    ],
)
def test_spellings_of_the_same_row(name, data):
    assert rows(data, name) == [WANTED | {"source_file": name}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", parquet(pa.table({k: pa.array([], pa.string()) for k in SPARE}))),
        ("a.csv", b"user_id,item_id,event_time\n"),
        ("a.csv", b"user_id,item_id,event_time"),
    ],
)
def test_a_file_without_rows_is_none_that_cannot_be_read(name, data):
    assert rows(data, name) == []


@pytest.mark.parametrize("value", [{"id": 7}, [7], "\ud800"])
def test_a_json_value_that_is_no_id_is_missing_in_its_row_alone(value):
    read = rows(lines(SPARE, {**SPARE, "user_id": value}), "a.jsonl")
    assert [(row["user_id"], row["row_error"]) for row in read] == [("u", None), (None, None)]


def test_bytes_that_are_no_text_are_missing_in_their_row_alone():
    table = pa.table({"user_id": ["u", "u2"], "item_id": ["i", "i"], "event_time": [NOON] * 2})
    data = parquet(table, compression="none", use_dictionary=False)
    read = rows(data.replace(b"u2", b"u\xff"), "a.parquet")
    assert [row["user_id"] for row in read] == ["u", None]


def test_a_quotation_mark_out_of_place_loses_no_line():
    data = b'user_id,item_id,event_time,x\nu,"i,2024-03-01,\nv,i,2024-03-01,"x\nw,i,2024-03-01,\n'
    assert [(row["user_id"], row["row_error"]) for row in rows(data, "a.csv")] == [
        ("w", None),
        (None, '2 fields instead of 4: u,"i,2024-03-01,'),
        (None, '2 fields instead of 4: v,i,2024-03-01,"x'),
    ]


def test_a_line_of_brackets_is_a_bad_line_and_not_the_end_of_the_process():
    deep = json.dumps(SPARE)[:-1].encode() + b', "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    good, bad = rows(lines(SPARE, deep), "a.jsonl")
    assert (good["user_id"], bad["row_error"][:18]) == ("u", "not a JSON object:")


def test_a_value_whose_type_changes_between_json_lines_is_read():
    lines = [LINE, {**LINE, "user_id": 7, "quantity": "2"}, {**LINE, "user_id": None}]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    assert [(row["user_id"], row["quantity"]) for row in rows(data, "a.jsonl")] == [
        ("7", 2.0),
        ("7", 2.0),
        (None, 2.0),
    ]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.csv", CSV + b"1,2\n", "2 fields instead of 6: 1,2"),
        ("a.jsonl", JSON + b'{"user_id": \n', 'not a JSON object: {"user_id": '),
        ("a.jsonl", JSON + b"[1]\n", "not a JSON object: [1]"),
    ],
)
def test_a_broken_line_is_one_row_and_the_others_are_read(name, data, error):
    good, bad = rows(data, name)
    assert good == WANTED | {"source_file": name}
    assert (bad["row_error"], bad["user_id"], bad["source_file"]) == (error, None, name)


THOUSAND = pa.table(
    {
        "user_id": [f"user {number}" for number in range(1000)],
        "item_id": ["i"] * 1000,
        "event_time": [NOON] * 1000,
    }
)
GOOD = parquet(THOUSAND)
CHECKED = parquet(THOUSAND, compression="none", use_dictionary=False, write_page_checksum=True)
TWICE = pa.table([*THOUSAND.columns, THOUSAND["item_id"]], [*THOUSAND.column_names, "item_id"])


@pytest.mark.parametrize(
    ("name", "data", "rule", "detail"),
    [
        ("a.parquet", b"", "file_empty", "holds nothing"),
        ("a.csv", b"", "file_empty", "holds nothing"),
        ("a.csv", b"\xef\xbb\xbf\r\n\n", "file_empty", "holds nothing"),
        ("a.jsonl.gz", gzip.compress(b""), "file_empty", "holds nothing"),
        ("a.parquet", GOOD[:-20], "file_unreadable", "Parquet magic bytes not found"),
        ("a.parquet", b"PAR1 but not really PAR1", "file_unreadable", "."),
        ("a.parquet", GOOD[:99] + b"garbage" + GOOD[106:], "file_unreadable", "."),
        ("a.parquet", CHECKED.replace(b"user 500", b"user 5OO", 1), "file_unreadable", "checksum"),
        ("a.parquet", parquet(TWICE), "file_unreadable", "more than one column item_id"),
        ("a.csv.gz", gzip.compress(CSV)[:-9], "file_unreadable", "ended before"),
        ("a.csv.gz", CSV, "file_unreadable", "Not a gzipped file"),
        ("a.csv", CSV.replace(b"007,7", b"\xe9,7"), "file_unreadable", "0xE9 in line 2.*iconv"),
        ("a.csv", CSV.decode().encode("utf-16"), "file_unreadable", "-f UTF-16"),
        ("a.csv", bytes(range(256)), "file_unreadable", "not UTF-8"),
        ("a.csv", CSV + b'1,2,3,4,5,"x\n' + CSV, "file_unreadable", "never closed"),
        ("a.csv", b"item_id,user_id,user_id,event_time\n", "file_unreadable", "one column user_id"),
        ("a.jsonl", b"nonsense\n", "file_unreadable", "no line is a JSON object"),
        ("a.json", json.dumps([LINE, LINE]).encode(), "file_unreadable", "no line is a JSON"),
        (
            "a.csv",
            b"item_id,when\n1,2\n",
            "file_without_column",
            "no column user_id, event_time; its columns are item_id",
        ),
        (
            "a.jsonl",
            b'{"user_id": "u", "item_id": "i"}\n',
            "file_without_column",
            "no column event_time",
        ),
        (
            "a.parquet",
            parquet(THOUSAND.slice(0, 0).drop_columns("item_id")),
            "file_without_column",
            "no column item_id",
        ),
        ("a.xlsx", b"PK", "file_of_unknown_format", "ends in none of"),
        ("a.gz", b"PK", "file_of_unknown_format", "ends in none of"),
    ],
)
def test_a_file_that_cannot_be_used_says_which_rule_and_why(name, data, rule, detail):
    with pytest.raises(UnreadableFileError, match=detail) as caught:
        decode(data, name, INTERACTIONS)
    assert caught.value.rule == rule
    assert rule in FILE_RULES
    assert "\n" not in str(caught.value)


@given(st.integers(1, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused_but_raises_nothing_else(position, noise):
    damaged = GOOD[:position] + noise + GOOD[position + len(noise) :]
    try:
        decode(damaged, "a.parquet", INTERACTIONS)
    except UnreadableFileError as error:
        assert str(error)


def test_the_stand_in_for_a_file_names_it():
    error = UnreadableFileError("it holds nothing", "file_empty")
    [row] = unreadable_file(INTERACTIONS, "a.csv", error).to_pylist()
    assert row == dict.fromkeys(row) | {
        "source_file": "a.csv",
        "file_error": "it holds nothing",
        "file_rule": "file_empty",
    }


def test_the_catalogue_is_read_leniently():
    table = pa.table(
        {"item_id": [1, 2, 3], "category": [["a", "b"], [], None], "is_live": ["no", "TRUE", "?"]}
    )
    read = rows(parquet(table), "items.parquet", ITEMS)
    assert [(row["item_id"], row["category"], row["is_live"]) for row in read] == [
        ("1", ["a", "b"], False),
        ("2", [], True),
        ("3", None, None),
    ]
    assert [row["row_error"] for row in read] == [
        None, None, "is_live is neither true nor false: ?",
    ]  # fmt: skip
    # pandas writes flags with a gap among them as numbers.
    read = rows(b"item_id,is_live\n1,0.0\n2, 1.00\n3,\n4,Off\n5,0.5\n", "items.csv", ITEMS)
    assert [row["is_live"] for row in read] == [False, True, None, False, None]
    assert [row["row_error"] is None for row in read] == [True] * 4 + [False]
    [row] = rows(b"item_id,category,title\n1,Toys,A toy\n", "items.csv", ITEMS)
    assert (row["category"], row["title"]) == (["Toys"], "A toy")
