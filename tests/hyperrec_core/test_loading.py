"""Parquet parts to flat arrays, against a plain reading of the contract."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core import loading
from hyperrec_core.histories import EVENT_TYPES, Histories, HistoriesError

ITEMS = 10
ARRAYS = ("items", "offsets", "rows", "label_positions", "ends", "users", "events")
Row = tuple[str, list[int], list[int], list[bool], list[int]]


def table(rows: list[Row], *, events: bool = False) -> pa.Table:
    users, items, times, labels, kinds = zip(*rows, strict=True) if rows else ([],) * 5
    columns = {
        "user_id": pa.array(users, pa.string()),
        "items": pa.array(items, pa.list_(pa.int32())),
        "times": pa.array(times, pa.list_(pa.int64())),
        "is_label": pa.array(labels, pa.list_(pa.bool_())),
    }
    return pa.table(columns | ({"events": pa.array(kinds, pa.list_(pa.int8()))} if events else {}))


def written(tables: list[pa.Table], folder: Path) -> list[Path]:
    """The tables as files, of several row groups where they are long."""
    paths = [folder / f"part-{number}.parquet" for number in range(len(tables))]
    for path, part in zip(paths, tables, strict=True):
        pq.write_table(part, path, row_group_size=2)
    return paths


def plainly(rows: list[Row]) -> dict[str, list[int]]:
    """The arrays of `Histories`, position by position."""
    found: dict[str, list[int]] = {name: [] for name in ARRAYS}
    found["offsets"].append(0)
    for row, (_, items, times, labels, kinds) in enumerate(sorted(rows, key=lambda r: r[0])):
        start = len(found["items"])
        for place, label in enumerate(labels):
            if label:
                found["rows"].append(row)
                found["label_positions"].append(start + place)
                found["ends"].append(start + times.index(times[place]))
        found["items"] += items
        found["events"] += kinds
        found["offsets"].append(len(found["items"]))
        found["users"].append(row)
    return found


@st.composite
def rows_in_parts(draw: st.DrawFn) -> list[list[Row]]:
    parts: list[list[Row]] = [[] for _ in range(draw(st.integers(1, 4)))]
    users = draw(st.lists(st.text("aäbЖz", min_size=1, max_size=3), max_size=8, unique=True))
    for user in users:
        length = draw(st.integers(0, 7))

        def numbers(most: int, length: int = length) -> list[int]:
            return draw(st.lists(st.integers(0, most), min_size=length, max_size=length))

        times = sorted(numbers(4))
        labels = [bool(w) and t > times[0] for w, t in zip(numbers(1), times, strict=True)]
        row = (user, numbers(ITEMS - 1), times, labels, numbers(len(EVENT_TYPES) - 1))
        parts[draw(st.integers(0, len(parts) - 1))].append(row)
    return parts


@given(rows_in_parts(), st.booleans(), st.booleans(), st.integers(1, 3))
def test_the_arrays_are_what_the_contract_says(
    parts: list[list[Row]], events: bool, spooled: bool, at_once: int
) -> None:
    tables = [table(part, events=events) for part in parts]
    rows = [row for part in parts for row in part]
    expected = plainly(rows)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_ROWS_AT_ONCE", at_once)
        folder = Path(name)
        paths = written(tables, folder)
        found = [
            Histories.from_parquet(paths, items=ITEMS, spool=folder if spooled else None),
            Histories.from_tables(tables, items=ITEMS),
        ]
    for histories in found:
        # The folder is gone, and what was mapped from it can still be read.
        assert histories.user_ids.to_pylist() == sorted(row[0] for row in rows)
        for array in ARRAYS:
            values = getattr(histories, array)
            if array == "events" and not events:
                assert values is None
            else:
                assert values.tolist() == expected[array], array
        kinds = {"items": np.int32, "events": np.int8}
        present = [name for name in ARRAYS if getattr(histories, name) is not None]
        assert {n: getattr(histories, n).dtype for n in present} == {
            n: kinds.get(n, np.int64) for n in present
        }


def test_spooled_arrays_are_files_of_the_folder(tmp_path: Path) -> None:
    rows: list[Row] = [("a", [3, 1, 4], [1, 2, 2], [False, True, True], [0, 1, 2])]
    paths = written([table(rows, events=True)], tmp_path)
    histories = Histories.from_parquet(paths, items=ITEMS, spool=tmp_path)
    names = ("items", "events", "rows", "label_positions", "ends")
    for name in names:
        assert np.load(tmp_path / f"{name}.npy").tolist() == getattr(histories, name).tolist()
    assert len(list(tmp_path.glob("*.npy"))) == len(names)
    histories.items[0] = 9
    assert np.load(tmp_path / "items.npy")[0] == 9


FINE: Row = ("fine", [1, 2], [1, 2], [False, True], [0, 0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("u", [0, 1], [5, 5], [False, True], [0, 0]), "label of user 'u' has no strictly earlier"),
        (("u", [0, 1], [5, 6], [True, False], [0, 0]), "label of user 'u' has no strictly earlier"),
        (("u", [0, 10], [1, 2], [False, True], [0, 0]), "Item 10 of user 'u' is beyond the vocab"),
        (("u", [-1, 0], [1, 2], [False, True], [0, 0]), "Item -1 of user 'u' is beyond the vocab"),
        (("u", [0, 1], [2, 1], [False, False], [0, 0]), "history of user 'u'; it must be ordered"),
        (("u", [0, 1], [1, 2], [False], [0, 0]), "of user 'u' differ in length"),
        (("u", [0], [1, 2], [False, True], [0, 0]), "of user 'u' differ in length"),
        (("u", [0, 1], [1], [False, True], [0, 0]), "of user 'u' differ in length"),
        (("u", [0, 1], [1, 2], [False, True], [0]), "of user 'u' differ in length"),
        (("u", [0, 1], [1, 2], [False, True], [0, 6]), "Event 6 of user 'u' is none of the 6"),
        (("u", [0, 1], [1, 2], [False, True], [0, -1]), "Event -1 of user 'u' is none of the 6"),
        (("u", [0, None], [1, 2], [False, True], [0, 0]), "contain nulls"),
        (("u", [0, 1], [1, None], [False, True], [0, 0]), "contain nulls"),
        (("u", [0, 1], [1, 2], [False, None], [0, 0]), "contain nulls"),
        (("u", [0, 1], [1, 2], [False, True], [0, None]), "contain nulls"),
        (("u", None, [1, 2], [False, True], [0, 0]), "contain nulls"),
        (("u", [0, 1], [1, 2], None, [0, 0]), "contain nulls"),
        ((None, [0, 1], [1, 2], [False, True], [0, 0]), "contain nulls"),
    ],
)
def test_a_row_that_breaks_the_contract_is_named(row: Row, message: str, tmp_path: Path) -> None:
    tables = [table([FINE], events=True), table([FINE, row, FINE], events=True)]
    with pytest.raises(HistoriesError, match=message):
        Histories.from_parquet(written(tables, tmp_path), items=ITEMS)


def test_rows_whose_lengths_make_up_for_each_other_are_refused() -> None:
    rows: list[Row] = [
        ("a", [1, 2, 3], [1, 2], [False, True], [0, 0]),
        ("b", [1], [1, 2], [False, True], [0, 0]),
    ]
    with pytest.raises(HistoriesError, match="user 'a' differ in length"):
        Histories.from_tables([table(rows)], items=ITEMS)


def test_parts_with_and_without_events_are_refused() -> None:
    with pytest.raises(HistoriesError, match="others lack it"):
        Histories.from_tables([table([FINE]), table([FINE], events=True)], items=ITEMS)


@pytest.mark.parametrize("name", ["user_id", "items", "times", "is_label"])
def test_a_missing_column_is_named_in_whichever_part_lacks_it(name: str, tmp_path: Path) -> None:
    paths = written([table([FINE]), table([FINE]).drop_columns([name])], tmp_path)
    with pytest.raises(HistoriesError, match=rf"lack the columns \['{name}'\]"):
        Histories.from_parquet(paths, items=ITEMS)


def test_ids_too_large_for_their_type_are_refused() -> None:
    wide = table([FINE]).set_column(1, "items", pa.array([[1, 2 + (1 << 32)]]))
    with pytest.raises(HistoriesError, match="items of the histories are no int32"):
        Histories.from_tables([wide], items=ITEMS)


def test_slices_and_chunks_of_a_table_are_read_where_they_begin() -> None:
    rows: list[Row] = [(f"u{n}", [n, n], [1, 2], [False, True], [0, 0]) for n in range(6)]
    whole = table(rows)
    chunked = pa.concat_tables([whole.slice(4, 2), whole.slice(0, 3)]).slice(1, 3)
    histories = Histories.from_tables([chunked], items=ITEMS)
    assert histories.user_ids.to_pylist() == ["u0", "u1", "u5"]
    assert histories.items.tolist() == [0, 0, 1, 1, 5, 5]
