"""Public sets: read, put in order, split; on small files of the same form as the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core.analysis.datasets import (
    DatasetError,
    Interactions,
    Order,
    Split,
    leave_last_out,
    load,
)

Events = list[tuple[int, int, int]]  # user, item, time


def interactions(events: Events, order: Order = "strict") -> Interactions:
    users, items, times = (np.array(column) for column in zip(*events, strict=True))
    return Interactions(
        name="made-up",
        order=order,
        users=users.astype(np.int32),
        items=items.astype(np.int32),
        times=times.astype(np.int64),
        user_ids=pa.array([f"u{n}" for n in range(users.max() + 1)]),
        item_ids=pa.array([f"i{n}" for n in range(items.max() + 1)]),
        categories=None,
    )


def rows(split: Split, part: str) -> dict[str, tuple[list[str], list[str]]]:
    """Of each user the items of the row, oldest first, and its labels, by item id."""
    histories = getattr(split, part)
    ids = split.item_ids.to_pylist()
    result = {}
    for number, user in enumerate(histories.user_ids.to_pylist()):
        start, end = histories.offsets[number : number + 2]
        labels = histories.label_positions[histories.rows == number]
        result[user] = (
            [ids[i] for i in histories.items[start:end]],
            [ids[i] for i in histories.items[labels]],
        )
    return result


def test_last_is_test_and_the_one_before_validation() -> None:
    split = leave_last_out(interactions([(0, item, item * 10) for item in range(5)]), seed=1)
    assert rows(split, "train") == {"u0": (["i0", "i1", "i2"], ["i1", "i2"])}
    assert rows(split, "validation") == {"u0": (["i0", "i1", "i2", "i3"], ["i3"])}
    assert rows(split, "test") == {"u0": (["i0", "i1", "i2", "i3", "i4"], ["i4"])}


def test_users_with_fewer_than_two_labels_are_in_train_alone() -> None:
    events = [(0, 0, 1), (1, 0, 1), (1, 1, 2), (2, 0, 1), (2, 1, 2), (2, 2, 3)]
    split = leave_last_out(interactions(events), seed=1)
    assert rows(split, "train") == {
        "u0": (["i0"], []),
        "u1": (["i0", "i1"], ["i1"]),
        "u2": (["i0"], []),
    }
    assert list(rows(split, "test")) == ["u2"]
    assert split.item_ids.to_pylist() == ["i0", "i1", "i2"]
    assert split.counts.tolist() == [3, 1, 0]


def test_a_basket_does_not_foretell_itself_unless_every_event_has_its_place() -> None:
    basket = [(0, 0, 1), (0, 1, 5), (0, 2, 5), (0, 3, 5)]
    strict = leave_last_out(interactions(basket), seed=1).test
    assert strict.ends[0] - strict.offsets[strict.rows[0]] == 1
    ordered = leave_last_out(interactions(basket, "ordered"), seed=1).test
    assert ordered.ends[0] == ordered.label_positions[0] == 3


def test_ties_are_broken_by_the_seed_and_favour_no_item() -> None:
    tied = [(user, item, 0) for user in range(400) for item in range(4)]
    last = [labels[0] for _, labels in rows(_split(tied, 1), "test").values()]
    counts = np.unique(last, return_counts=True)[1]
    # Binomial(400, 1/4) has a standard deviation of 8.7.
    assert len(counts) == 4
    assert abs(counts - 100).max() < 40
    again = [labels[0] for _, labels in rows(_split(tied, 1), "test").values()]
    other = [labels[0] for _, labels in rows(_split(tied, 2), "test").values()]
    assert last == again != other


def _split(events: Events, seed: int) -> Split:
    return leave_last_out(interactions(events, "ordered"), seed=seed)


def test_nobody_to_hold_out_is_an_error() -> None:
    with pytest.raises(DatasetError, match="No user of made-up has two labels"):
        leave_last_out(interactions([(0, 0, 1), (0, 1, 1)]), seed=1)


events_lists = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 6)),
    min_size=1,
    max_size=60,
    unique=True,
)


@given(events=events_lists, order=st.sampled_from(["strict", "ordered"]), data=st.data())
def test_the_splits_partition_the_labels_of_the_users(
    events: Events, order: Order, data: st.DataObject
) -> None:
    events += [(6, 0, 0), (6, 1, 1), (6, 2, 2)]
    split = leave_last_out(interactions(events, order), seed=3)
    shuffled = data.draw(st.permutations(events))
    assert rows(leave_last_out(interactions(shuffled, order), seed=3), "test") == rows(
        split, "test"
    ), "the order of the file's rows has no say"

    parts = {part: rows(split, part) for part in ("train", "validation", "test")}
    assert set(parts["validation"]) == set(parts["test"])
    assert len(parts["train"]) == len({user for user, _, _ in events})
    for user, (items, labels) in parts["test"].items():
        times = {f"i{i}": t for u, i, t in sorted(events, key=lambda e: e[2]) if f"u{u}" == user}
        before, held = parts["validation"][user]
        assert len(labels) == len(held) == 1
        assert items[: len(before)] == before, "the validation item is part of the test history"
        assert before[: len(parts["train"][user][0])] == parts["train"][user][0]
        assert items[-1] == labels[0]
        assert times[labels[0]] == max(times.values())
    train = split.train
    assert split.counts.tolist() == np.bincount(train.items, minlength=split.items).tolist()
    assert (np.diff(split.counts) <= 0).all()


def write(folder: Path, name: str, columns: dict[str, list[object]]) -> None:
    (folder / name).mkdir()
    pq.write_table(pa.table(columns), folder / name / "interactions.parquet")


def test_online_retail_keeps_products_once_a_basket(tmp_path: Path) -> None:
    write(
        tmp_path,
        "online-retail",
        {
            "user_id": ["7", "7", "7", "7"],
            "item_id": ["85123A", "85123A", "POST", "22423"],
            "timestamp": [60, 60, 60, 120],
        },
    )
    loaded = load("online-retail", tmp_path)
    assert loaded.item_ids.to_pylist() == ["22423", "85123A"]
    assert sorted(zip(loaded.times.tolist(), loaded.items.tolist(), strict=True)) == [
        (60, 1),
        (120, 0),
    ]


def test_movielens_1m_goes_by_position_and_has_categories(tmp_path: Path) -> None:
    write(
        tmp_path,
        "ml-1m",
        {
            "user_id": ["1", "1", "1"],
            "item_id": ["a", "b", "c"],
            "timestamp": [5, 5, 1],
            "position": [2, 0, 1],
        },
    )
    pq.write_table(
        pa.table({"item_id": ["c", "a"], "categories": [["Drama", "War"], ["Comedy"]]}),
        tmp_path / "ml-1m" / "item_categories.parquet",
    )
    split = leave_last_out(load("ml-1m", tmp_path), seed=1)
    assert rows(split, "test") == {"1": (["b", "c", "a"], ["a"])}
    categories = dict(zip(split.item_ids.to_pylist(), split.categories.to_pylist(), strict=True))
    assert categories == {"a": ["Comedy"], "b": None, "c": ["Drama", "War"]}


def test_items_have_features_of_attributes_or_else_of_categories(tmp_path: Path) -> None:
    columns = {"user_id": ["1"] * 4, "item_id": list("abcd"), "timestamp": [1, 2, 3, 4]}
    write(tmp_path, "renttherunway", columns)
    assert leave_last_out(load("renttherunway", tmp_path), seed=1).features is None
    ids = ["c", "b", "a"]
    for what, lists in (
        ("categories", [["coat", "long"], ["coat"], ["hat"]]),
        ("attributes", [[3], [3, 4], [4]]),
    ):
        path = tmp_path / "renttherunway" / f"item_{what}.parquet"
        pq.write_table(pa.table({"item_id": ids, what: lists}), path)
        split = leave_last_out(load("renttherunway", tmp_path), seed=1)
        assert split.features is not None
        found = dict(zip(split.item_ids.to_pylist(), split.features.tolist(), strict=True))
        if what == "categories":
            assert found == {"a": [0.0], "b": [1.0], "c": [1.0], "d": [0.0]}
        else:
            assert found["d"] == [0.0, 0.0]
            assert found["b"] == pytest.approx([0.5**0.5] * 2)
            assert sorted((found["a"], found["c"])) == [[0.0, 1.0], [1.0, 0.0]]


def test_order_of_cellphones_is_random(tmp_path: Path) -> None:
    items = [f"{n}" for n in range(10, 40)]
    columns = {"user_id": ["1"] * 30, "item_id": items, "position": list(range(30))}
    write(tmp_path, "amazon-cellphones-5core", columns)
    split = leave_last_out(load("amazon-cellphones-5core", tmp_path), seed=1)
    assert sorted(rows(split, "test")["1"][0]) == items != rows(split, "test")["1"][0]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No data set is called 'netflix'"):
        load("netflix", tmp_path)
    with pytest.raises(DatasetError, match="HYPERREC_DATASETS"):
        load("ml-1m", tmp_path)
