"""Files of every format and fault, decoded without Spark."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.preprocess.formats import UnreadableFileError, decode, unreadable_file
from pipelines.preprocess.tables import INTERACTIONS, ITEMS
from tests.pipelines.preprocess.support import parquet

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def rows(data: bytes, name: str, table=INTERACTIONS):
    return pa.Table.from_batches(decode(data, name, table)).to_pylist()


def whole_row(**given):
    empty = dict.fromkeys([*INTERACTIONS.columns, "row_error", "file_error"])
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


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("event_time", pa.array([NOON], pa.timestamp("ns")), NOON),
        ("event_time", pa.array([int(NOON.timestamp())]), NOON),
        ("event_time", pa.array(["2024-03-01 13:00+01:00"]), NOON),
        ("event_time", pa.array(["soon"]), None),
        ("user_id", pa.array([12345.0]), "12345"),
        ("user_id", pa.array([12345]), "12345"),
        ("user_id", pa.array(["12345"]).dictionary_encode(), "12345"),
        ("quantity", pa.array([" 3 "]), 3.0),
        ("quantity", pa.array(["three"]), None),
        ("quantity", pa.array([float("nan")]), None),
        ("event_type", pa.array([None], pa.string()), "purchase"),
        ("event_type", pa.array(["view"]), "view"),
    ],
)
def test_drift_of_a_columns_type_is_followed(column, values, expected):
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "event_time": [NOON]})
    table = table.drop_columns(column) if column in table.column_names else table
    [row] = rows(parquet(table.append_column(column, values)), "a.parquet")
    assert row[column] == expected


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


GOOD = parquet([{**LINE, "event_time": NOON}] * 1000)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.parquet", b"", "the file is empty"),
        ("a.parquet", GOOD[:-20], "Parquet magic bytes not found"),
        ("a.parquet", b"PAR1 but not really PAR1", "."),
        ("a.csv.gz", gzip.compress(CSV)[:-9], "ended before"),
        ("a.csv.gz", CSV, "Not a gzipped file"),
        ("a.csv", CSV.replace(b"007,7", b"\xff\xfe,7"), "UTF8"),
        ("a.csv", b"item_id,when\n1,2\n", "no column user_id, event_time; its columns are item_id"),
        ("a.jsonl", b'{"user_id": "u", "item_id": "i"}\n', "no column event_time"),
        ("a.jsonl", b"nonsense\n", "no line is a JSON object"),
        ("a.xlsx", b"PK", "ends in none of"),
    ],
)
def test_an_unreadable_file_has_its_reason(name, data, reason):
    with pytest.raises(UnreadableFileError, match=reason):
        decode(data, name, INTERACTIONS)


@given(st.integers(1, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused_but_raises_nothing_else(position, noise):
    damaged = GOOD[:position] + noise + GOOD[position + len(noise) :]
    try:
        decode(damaged, "a.parquet", INTERACTIONS)
    except UnreadableFileError as error:
        assert str(error)


def test_the_stand_in_for_a_file_names_it():
    [row] = unreadable_file(INTERACTIONS, "a.csv", "it is empty").to_pylist()
    assert (row["source_file"], row["file_error"], row["event_type"]) == (
        "a.csv",
        "it is empty",
        None,
    )


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
    [row] = rows(b"item_id,category,title\n1,Toys,A toy\n", "items.csv", ITEMS)
    assert (row["category"], row["title"]) == (["Toys"], "A toy")
