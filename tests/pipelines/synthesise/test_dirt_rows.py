"""Every kind of dirt in rows is in the files as often as the ledger says."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.synthesise.shop import END, ROWS, Row, is_sound, read


def is_unprintable(text: str) -> bool:
    return any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text) and text.strip() != ""


ONE_BAD_VALUE: dict[str, Callable[[Row], bool]] = {
    **{
        f"{name}_{kind}": lambda row, name=name, bad=bad: bad(row[name])
        for name in ("user_id", "item_id")
        for kind, bad in {
            "null": lambda text: text is None,
            "empty": lambda text: text == "",
            "blank": lambda text: text != "" and text is not None and not text.strip(" \t"),
            "long": lambda text: len(text) > 255,
            "control": is_unprintable,
        }.items()
    },
    "event_type_word": lambda row: row["event_type"] in {"click", "wishlist", "returned"},
    "event_time_null": lambda row: row["event_time"] is None,
    "event_time_text": lambda row: isinstance(row["event_time"], str),
    "event_time_1970": lambda row: row["event_time"].year == 1970,
    "event_time_future": lambda row: row["event_time"] >= END,
    "quantity_zero": lambda row: row["event_type"] == "purchase" and row["quantity"] == 0,
    "quantity_negative": lambda row: row["event_type"] == "purchase" and row["quantity"] < 0,
    "price_below_zero": lambda row: row["price"] < 0,
    **{
        f"{name}_{kind}": lambda row, name=name, bad=bad: bad(row[name])
        for name in ("quantity", "price", "rating")
        for kind, bad in {"nan": math.isnan, "infinite": math.isinf}.items()
    },
}


@pytest.mark.parametrize("kind", ONE_BAD_VALUE)
def test_rows_with_one_bad_value(kind: str, dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"][kind]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    bad = [ONE_BAD_VALUE[kind](row) for row in rows]
    assert sum(bad) == ROWS
    assert list(entry["rules"].values()) == [ROWS]
    assert [is_sound(row) for row in rows] == [not each for each in bad]
    assert len(rows) - ROWS == entry["kept"] > 0
    assert 0 < len(entry["examples"]) <= 3
    # Among sound rows, not after them.
    assert bad != sorted(bad)


def test_lines_of_csv_with_a_field_too_many_or_too_few(dirty: Path, ledger: Row) -> None:
    for kind, surplus in (("csv_field_too_many", 1), ("csv_field_too_few", -1)):
        entry = ledger["kinds"][kind]
        (name,) = entry["files"]
        header, *lines = csv.reader(io.StringIO((dirty / name).read_text()))
        lengths = Counter(len(line) - len(header) for line in lines)
        assert lengths == {surplus: ROWS, 0: entry["kept"]}
        assert entry["rules"] == {"row_unreadable": ROWS}


def test_lines_of_json_that_are_broken_or_lists(dirty: Path, ledger: Row) -> None:
    def kind_of(line: str) -> str:
        try:
            return type(json.loads(line)).__name__
        except ValueError:
            return "broken"

    for kind, bad in (("json_line_broken", "broken"), ("json_line_list", "list")):
        entry = ledger["kinds"][kind]
        (name,) = entry["files"]
        kinds = Counter(kind_of(line) for line in (dirty / name).read_text().splitlines())
        assert kinds == {bad: ROWS, "dict": entry["kept"]}
        assert entry["rules"] == {"row_unreadable": ROWS}


@pytest.mark.parametrize(
    "kind", ["duplicate_within_file", "duplicate_on_another_day", "duplicate_file"]
)
def test_duplicates(kind: str, dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"][kind]
    files = [read(dirty / name) for name in entry["files"]]
    times_there = Counter(repr(row) for rows in files for row in rows)
    assert set(times_there.values()) == {2}
    assert len(times_there) == ROWS == entry["kept"]
    assert entry["rules"] == {"duplicate": ROWS}
    days = {name.split("/")[1] for name in entry["files"]}
    assert (len(files), len(days)) == {
        "duplicate_within_file": (1, 1),
        "duplicate_on_another_day": (2, 2),
        "duplicate_file": (2, 1),
    }[kind]
    if kind == "duplicate_file":
        contents = [(dirty / name).read_bytes() for name in entry["files"]]
        assert contents[0] == contents[1]


def test_repeated_events_differ_in_price_alone(dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"]["repeated_with_other_price"]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    events = Counter(repr({**row, "price": None}) for row in rows)
    assert set(events.values()) == {2}
    assert len({repr(row) for row in rows}) == 2 * ROWS
    assert entry["rules"] == {"repeated_event": ROWS}
    assert entry["kept"] == ROWS


def test_returned_purchases(dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"]["returned_purchase"]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    pairs = defaultdict(dict)
    for row in rows:
        pairs[row["user_id"], row["item_id"]][row["event_type"]] = row
    assert len(pairs) == ROWS
    for pair in pairs.values():
        assert pair.keys() == {"purchase", "return"}
        assert pair["purchase"]["event_time"] < pair["return"]["event_time"]
        assert abs(pair["return"]["quantity"]) == pair["purchase"]["quantity"]
    assert {pair["return"]["quantity"] < 0 for pair in pairs.values()} == {True, False}
    assert entry["rules"] == {"return": ROWS, "cancelled_purchase": ROWS}
    assert entry["kept"] == 0


def test_a_bot_has_more_than_a_thousand_events_in_a_day(dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"]["bot"]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    assert len({row["user_id"] for row in rows}) == 1
    days = Counter(row["event_time"].date() for row in rows)
    assert max(days.values()) > 1000
    assert len(days) == 2
    assert len({repr(row) for row in rows}) == len(rows) == entry["rules"]["bot"]
    assert all(is_sound(row) for row in rows)
