"""Ids by falling count, whatever the order of rows; the catalogue joined without losing an item."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.preprocess.histories import histories
from pipelines.preprocess.vocabulary import VOCABULARY, to_table, vocabulary

TRAINED = ["b"] * 3 + ["a"] * 3 + ["c"] + ["Z"]


@pytest.fixture
def assigned(spark):
    rows = [(item, True) for item in TRAINED] + [("unseen", False)]
    return spark.createDataFrame(rows, "item_id string, in_train boolean")


def test_ids_are_dense_by_falling_count_then_item_id(assigned):
    table = to_table(vocabulary(assigned, None))
    assert table.schema == VOCABULARY
    columns = table.select(["item", "item_id", "count"]).to_pydict()
    assert columns == {
        "item": [0, 1, 2, 3],
        "item_id": ["a", "b", "Z", "c"],
        "count": [3, 3, 1, 1],
    }
    assert (
        table.select(["category", "is_live", "title"]).to_pylist()
        == [{"category": [], "is_live": True, "title": None}] * 4
    )


def test_the_same_rows_in_another_order_give_the_same_table(assigned):
    other = assigned.orderBy("in_train", "item_id").repartition(3)
    assert to_table(vocabulary(other, None)).equals(to_table(vocabulary(assigned, None)))


def test_the_last_file_describes_an_item_and_nothing_else_changes(spark, assigned):
    catalogue = spark.createDataFrame(
        [
            ("a", ["old"], True, "old", "items/1.parquet"),
            ("a", ["new", "er"], False, "new", "items/2.parquet"),
            ("c", None, None, "see", "items/1.parquet"),
            ("nobody bought", [], True, "x", "items/1.parquet"),
            (None, [], True, "x", "items/1.parquet"),
        ],
        "item_id string, category array<string>, is_live boolean, title string, source_file string",
    )
    with_titles = to_table(vocabulary(assigned, catalogue))
    plain = ["item", "item_id", "count"]
    assert with_titles.select(plain).equals(to_table(vocabulary(assigned, None)).select(plain))
    assert with_titles.drop_columns(["item", "count"]).to_pylist() == [
        {"item_id": "a", "category": ["new", "er"], "is_live": False, "title": "new"},
        {"item_id": "b", "category": [], "is_live": True, "title": None},
        {"item_id": "Z", "category": [], "is_live": True, "title": None},
        {"item_id": "c", "category": [], "is_live": True, "title": "see"},
    ]


def test_items_outside_the_vocabulary_leave_histories_and_their_labels_are_counted(spark):
    rows = [
        ("u", "new", 0, 2, None, True),
        ("u", "a", 5, 1, "test", True),
        ("u", "new", 9, 0, "test", True),
        ("v", "a", 0, 2, None, True),
        ("v", "a", 5, 1, "test", True),
        ("v", "b", 9, 0, "test", False),
    ]
    assigned = spark.createDataFrame(
        rows,
        "user_id string, item_id string, seconds long, newer int, label string, in_test boolean",
    )
    items = spark.createDataFrame(
        pa.table({"item_id": ["a", "b"], "item": pa.array([0, 1], pa.int32())})
    )
    found = {row.user_id: row.asDict() for row in histories(assigned, items, "test").collect()}
    # u's first event is gone, so that its label has no history left.
    assert found["u"] == {
        "user_id": "u",
        "items": [0],
        "times": [5],
        "is_label": [False],
        "unseen_labels": 1,
        "lonely_labels": 1,
    }
    assert (found["v"]["items"], found["v"]["is_label"]) == ([0, 0], [False, True])
