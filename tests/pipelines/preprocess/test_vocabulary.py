"""Ids by falling count, whatever the order of rows; the catalogue joined without losing an item."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hyperrec_core.histories import EVENT_TYPES
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
            ("a", None, None, None, "items/features.parquet"),  # it has another column
            ("c", None, None, "see", "items/1.parquet"),
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


def test_live_items_without_interactions_come_last_and_leave_the_others_their_ids(spark, assigned):
    rows = [
        ("a", ["x"], False, "items/1.parquet"),
        ("unseen", ["x", "y"], True, "items/1.parquet"),
        ("0", ["z"], None, "items/1.parquet"),
        ("postage", [], True, "items/1.parquet"),
        ("fee", None, True, "items/1.parquet"),
        ("gone", ["x"], False, "items/1.parquet"),
        ("back", ["x"], False, "items/1.parquet"),
        ("back", ["x"], True, "items/2.parquet"),
        *((bad, ["x"], True, "items/1.parquet") for bad in (None, " ", "n" * 256)),
    ]
    catalogue = spark.createDataFrame(
        [(item, path, live, None, file) for item, path, live, file in rows],
        "item_id string, category array<string>, is_live boolean, title string, source_file string",
    )
    table = to_table(vocabulary(assigned, catalogue))
    assert table.schema == VOCABULARY
    plain = to_table(vocabulary(assigned, None))
    columns = ["item", "item_id", "count"]
    assert table.slice(0, 4).select(columns).equals(plain.select(columns))
    assert table.slice(4).to_pylist() == [
        {"item": 4 + n, "item_id": item, "count": 0, "category": path, "is_live": True,
         "title": None}
        for n, (item, path) in enumerate([("0", ["z"]), ("back", ["x"]), ("unseen", ["x", "y"])])
    ]  # fmt: skip


def test_items_outside_the_vocabulary_leave_histories_and_their_labels_are_counted(spark):
    rows = [
        ("u", "new", "view", 0, 2, None, False, False, True),
        ("u", "a", "purchase", 5, 1, "test", False, False, True),
        ("u", "new", "purchase", 9, 0, "test", False, False, True),
        ("v", "a", "save", 0, 2, None, False, False, True),
        ("v", "a", "purchase", 5, 1, "test", False, False, True),
        ("v", "b", "purchase", 9, 0, "test", False, False, False),
    ]
    assigned = spark.createDataFrame(
        rows,
        "user_id string, item_id string, event_type string, seconds long, newer int, label string, "
        "in_train boolean, in_validation boolean, in_test boolean",
    )
    items = spark.createDataFrame(
        pa.table({"item_id": ["a", "b"], "item": pa.array([0, 1], pa.int32())})
    )
    found = {row.user_id: row for row in histories(assigned, items).collect()}
    # u's first event is gone, so that its label has no history left.
    assert found["u"].test is None
    assert (found["u"].test_unseen, found["u"].test_lonely) == (1, 1)
    assert found["v"].train is None
    row = found["v"].test
    assert (row.split, row.user_id, row.times) == ("test", "v", [0, 5])
    assert (row.items, row.is_label) == ([0, 0], [False, True])
    assert row.events == [EVENT_TYPES.index("save"), EVENT_TYPES.index("purchase")]
