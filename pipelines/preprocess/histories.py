"""Labelled histories: one row a user and split, as the contract of DESIGN has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pyspark.sql import Column, Observation
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from hyperrec_core.histories import EVENT_TYPES
from pipelines.preprocess.sink import write_parts_by

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.runs import Attempt

log = logging.getLogger(__name__)

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


def histories(assigned: DataFrame, items: DataFrame) -> DataFrame:
    """The rows of all splits: every user's for training, those with a label for the others.

    Interactions with items that are not in the vocabulary are left out. A position is a label when
    the split assigned it and a strictly earlier position is left. A reader computes the history of
    position p as ``items[:i]`` with i the first index whose time equals ``times[p]``.

    Args:
        assigned: frame of `splits.assign_splits`.
        items: the vocabulary's `item_id` and `item`, small enough to broadcast.

    Returns:
        `user_id` and, for each split, an array of no or one row: `items`, `times`, `is_label` and
        `events`, the places of the event types in `hyperrec_core.histories.EVENT_TYPES` (all oldest
        first); and for counting, of each split, `<split>_unseen` (labels whose item is not in the
        vocabulary) and `<split>_lonely` (labels left without any history).
    """
    known = F.col("item").isNotNull()
    kind = F.array_position(F.array(*map(F.lit, EVENT_TYPES)), F.col("event_type")) - 1
    position = F.struct(
        "newer",
        "item",
        F.col("seconds").alias("time"),
        "label",
        kind.cast("tinyint").alias("event"),
        *(F.col(f"in_{split}") for split in SPLITS),
    )
    users = (
        assigned.where(" OR ".join(f"in_{split}" for split in SPLITS))
        .join(F.broadcast(items), "item_id", "left")
        .groupBy("user_id")
        .agg(
            F.sort_array(F.collect_list(F.when(known, position)), asc=False).alias("positions"),
            *(
                F.sum((F.col("label").eqNullSafe(split) & ~known).cast("int")).alias(
                    f"{split}_unseen"
                )
                for split in SPLITS
            ),
        )
    )
    # Each split's positions stand in a column of their own before anything is made of them, or
    # they would be filtered anew for each use.
    chosen = users.select(
        "user_id",
        *(f"{split}_unseen" for split in SPLITS),
        *(_of(split).alias(split) for split in SPLITS),
    )
    marked = chosen.select(
        "*",
        *(_labels(split, later=True).alias(f"{split}_is_label") for split in SPLITS),
        *(
            F.size(F.filter(_labels(split, later=False), lambda lonely: lonely)).alias(
                f"{split}_lonely"
            )
            for split in SPLITS
        ),
    )
    return marked.select(
        "user_id",
        *(_row(split).alias(split) for split in SPLITS),
        *(f"{split}_{count}" for split in SPLITS for count in ("unseen", "lonely")),
    )


def _of(split: Split) -> Column:
    return F.filter("positions", lambda e: e[f"in_{split}"])


def _labels(split: Split, *, later: bool) -> Column:
    """Of each position of a split, whether it is a label with, or without, an earlier position."""
    first = F.try_element_at(F.col(f"{split}.time"), F.lit(1))

    def is_label(e: Column) -> Column:
        mine = e["label"].eqNullSafe(split)
        return mine & (e["time"] > first if later else e["time"] <= first)

    return F.transform(split, is_label)


def _row(split: Split) -> Column:
    """The row of a split, null where it has none.

    Every user is trained on, as context at least; only users with labels are evaluated.
    """
    marks = f"{split}_is_label"
    belongs = F.size(split) > 0 if split == "train" else F.exists(marks, lambda label: label)
    return F.when(
        belongs,
        F.struct(
            F.lit(split).alias("split"),
            "user_id",
            F.col(f"{split}.item").alias("items"),
            F.col(f"{split}.time").alias("times"),
            F.col(marks).alias("is_label"),
            F.col(f"{split}.event").alias("events"),
        ),
    )


def write_histories(
    users: DataFrame, attempt: Attempt, labels: Mapping[Split, int]
) -> dict[str, Any]:
    """Write ``histories/<split>/part-*.parquet``, users of a part in order.

    Args:
        users: frame of `histories`.
        attempt: where to.
        labels: how many labels each split was assigned.

    Returns:
        Metrics: labels by split, and those that came to nothing.
    """
    observation = Observation("histories")
    counts = [f"{split}_{count}" for split in SPLITS for count in ("unseen", "lonely")]
    rows = (
        users.observe(observation, *(F.sum(name).alias(name) for name in counts))
        .sortWithinPartitions("user_id")
        .select(F.inline(F.array_compact(F.array(*SPLITS))))
    )
    write_parts_by(rows, attempt, "histories", HISTORIES, by="split", values=SPLITS)
    found = {name: int(value or 0) for name, value in observation.get.items()}
    unseen, lonely = ({s: found[f"{s}_{count}"] for s in SPLITS} for count in ("unseen", "lonely"))
    written = {split: labels[split] - unseen[split] - lonely[split] for split in SPLITS}
    log.info("Wrote the histories: %s labels.", written)
    return {
        "labels": written,
        "labels_unseen_item": unseen,
        "labels_without_history": lonely,
    }
