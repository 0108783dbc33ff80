"""Labelled histories: one row a user and split, as the contract of DESIGN has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from hyperrec_core.histories import EVENT_TYPES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

HISTORIES = pa.schema(
    [
        ("user_id", pa.string()),
        ("items", pa.list_(pa.int32())),
        ("times", pa.list_(pa.int64())),
        ("is_label", pa.list_(pa.bool_())),
        ("events", pa.list_(pa.int8())),
    ]
)


def histories(assigned: DataFrame, items: DataFrame, split: Split) -> DataFrame:
    """One row a user of a split.

    Interactions with items that are not in the vocabulary are left out. A position is a label when
    the split assigned it and a strictly earlier position is left. A reader computes the history of
    position p as ``items[:i]`` with i the first index whose time equals ``times[p]``.

    Args:
        assigned: frame of `splits.assign_splits`.
        items: the vocabulary's `item_id` and `item`, small enough to broadcast.
        split: which rows.

    Returns:
        `user_id`, `items`, `times`, `is_label` and `events`, the places of the event types in
        `hyperrec_core.histories.EVENT_TYPES` (all oldest first), and, for counting,
        `unseen_labels` (labels whose item is not in the vocabulary) and `lonely_labels` (labels
        left without any history). Users without a label are still there.
    """
    label = F.col("label").eqNullSafe(split)
    known = F.col("item").isNotNull()
    kind = F.array_position(F.array(*map(F.lit, EVENT_TYPES)), F.col("event_type")) - 1
    event = F.struct(
        "newer",
        "item",
        F.col("seconds").alias("time"),
        label.alias("label"),
        kind.cast("tinyint").alias("kind"),
    )
    users = (
        assigned.where(F.col(f"in_{split}"))
        .join(F.broadcast(items), "item_id", "left")
        .groupBy("user_id")
        .agg(
            F.sort_array(F.collect_list(F.when(known, event)), asc=False).alias("positions"),
            F.sum((label & ~known).cast("int")).alias("unseen_labels"),
        )
    )
    first = F.try_element_at("positions.time", F.lit(1))
    is_label = F.transform("positions", lambda e: e["label"] & (e["time"] > first))
    lonely = F.filter("positions", lambda e: e["label"] & (e["time"] <= first))
    return users.select(
        "user_id",
        F.col("positions.item").alias("items"),
        F.col("positions.time").alias("times"),
        is_label.alias("is_label"),
        F.col("positions.kind").alias("events"),
        "unseen_labels",
        F.size(lonely).alias("lonely_labels"),
    )
