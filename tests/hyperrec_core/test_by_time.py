"""Splitting by time: labels, their histories and the vocabulary, told row by row by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperrec_core.analysis.by_time import split_by_time
from hyperrec_core.analysis.datasets import DatasetError
from hyperrec_core.histories import Histories


@pytest.fixture(autouse=True)
def anew() -> None:
    split_by_time.cache_clear()


def written(folder: Path, rows: list[tuple[str, str, int]], name: str = "ml-100k") -> Path:
    users, items, times = zip(*rows, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    if name == "ml-1m":
        table = table.append_column("position", pa.array(range(len(rows))))
    (folder / name).mkdir()
    pq.write_table(table, folder / name / "interactions.parquet")
    return folder


def told(histories: Histories, names: list[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Of every user with labels: the items of the longest history, and the labels."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for row, end, place in zip(
        histories.rows, histories.ends, histories.label_positions, strict=True
    ):
        user = str(histories.user_ids[int(row)])
        items = [names[i] for i in histories.items[histories.offsets[row] : end]]
        found[user] = (items, [*found.get(user, ([], []))[1], names[histories.items[place]]])
    return found


def test_labels_are_first_events_of_their_time_and_the_cold_are_dropped(tmp_path: Path) -> None:
    rows = [(f"u{user}", f"i{(user + time) % 5}", time) for user in range(9) for time in range(10)]
    rows += [("u1", "i2", 200), ("u1", "i3", 201), ("new", "i1", 202)]
    rows += [("u1", "late", 300), ("u1", "i4", 301), ("u2", "i0", 302)]
    data = written(tmp_path, rows)
    # 96 events: the quantiles of 0.96 and 0.98 are the 92nd and the 94th in time.
    split = split_by_time("ml-100k", data)
    names = split.item_ids.to_pylist()
    assert sorted(names) == ["i0", "i1", "i2", "i3", "i4"]
    times = sorted(time for *_, time in rows)
    validation, test = np.quantile(times, [0.96, 0.98], method="nearest")
    assert (validation, test) == (201, 300)
    before = [f"i{(1 + time) % 5}" for time in range(10)]
    assert told(split.validation, names) == {"u1": ([*before, "i2"], ["i3"])}
    assert told(split.test, names) == {
        "u1": ([*before, "i2", "i3"], ["i4"]),
        "u2": ([f"i{(2 + time) % 5}" for time in range(10)], ["i0"]),
    }
    train = told(split.train, names)
    assert train["u1"] == (before, [*before[1:], "i2"])
    assert "new" not in split.train.user_ids.to_pylist()
    assert split.counts.tolist() == sorted(split.counts, reverse=True)
    assert split.counts.sum() == 91


def test_a_position_says_more_than_times_that_tie(tmp_path: Path) -> None:
    rows = [("a", item, 5) for item in "zyxw"]
    rows += [("b", "zyxw"[time % 4], time) for time in range(6, 106)]
    rows += [("a", "y", 104), ("a", "x", 105)]
    split = split_by_time("ml-1m", written(tmp_path, rows, "ml-1m"))
    names = split.item_ids.to_pylist()
    assert told(split.train, names)["a"] == (list("zyx"), list("yxw"))
    assert told(split.test, names)["a"] == (list("zyxw"), ["y"])


def test_a_set_without_a_late_event_of_a_known_user_is_refused(tmp_path: Path) -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3)]
    with pytest.raises(DatasetError, match="ml-100k has nothing to judge"):
        split_by_time("ml-100k", written(tmp_path, rows))


def test_a_set_that_does_not_say_when_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path, [("a", "x", 1), ("a", "y", 2), ("b", "x", 3)])
    path = data / "ml-100k" / "interactions.parquet"
    times = pa.array([1.0, None, 3.0])
    pq.write_table(pq.read_table(path).set_column(2, "timestamp", times), path)
    with pytest.raises(DatasetError, match="no time for 1 of its 3 events"):
        split_by_time("ml-100k", data)
