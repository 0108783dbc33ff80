"""Limits on counts, the order of a user's events, and which of them are whose labels.

A label's history is what the user did strictly earlier, in whole seconds: events of the same
second (one basket) never explain each other.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.order import newest_first

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def below_minimum(settled: DataFrame, config: PreprocessConfig) -> DataFrame:
    """Mark interactions of users and items that have too few, both counted on the same rows.

    Args:
        settled: frame of `returns.settle`; cached, since items are counted in a pass of their own.
        config: the two minimum counts.
    """
    user = Window.partitionBy("user_id", F.col("dropped_by").isNull())
    items = (
        settled.where(F.col("dropped_by").isNull()).groupBy("item_id").agg(F.count("*").alias("n"))
    )
    rare = items.where(F.col("n") < config.minimum_item_interactions).select(
        "item_id", F.lit(True).alias("is_rare")
    )
    few = F.count("*").over(user) < config.minimum_user_interactions
    reason = F.when(few, "user_below_minimum").when(F.col("is_rare"), "item_below_minimum")
    return (
        settled.join(F.broadcast(rare), "item_id", "left")
        .withColumn("dropped_by", F.coalesce("dropped_by", reason))
        .drop("is_rare")
    )


def assign_splits(
    settled: DataFrame, config: PreprocessConfig, as_of: date, seed: int
) -> DataFrame:
    """Order and cap each user's interactions, and give each label to one split.

    A label is an event of `config.label_events` with a strictly earlier event of the same user.

    ``last_week``: labels of the last `test_days` days up to `as_of` are test; of the earlier ones
    a share, drawn by a seeded hash of the event, is validation; the rest is train. Train rows hold
    the events before the test days without the validation labels, which thus are neither label nor
    history of anything trained on. Evaluation rows hold every earlier event.

    ``leave_last_out``: the last purchase is the test label, the one before it the validation label
    and the events before that the train row. Users with fewer than three purchases, or with fewer
    than two that have an earlier event, are in train alone, as in the papers.

    Args:
        settled: frame of `returns.settle`; rows with `dropped_by` pass through without position.
        config: split, its parameters and `maximum_history`.
        as_of: last day of the data.
        seed: of the validation draw.

    Returns:
        `user_id`, `item_id`, `event_type`, `seconds` (since 1970), `newer` (how many interactions
        of the user come after it), `label` (train, validation, test or null), `in_train`,
        `in_validation`, `in_test` (whether that split's row of the user holds the event; for
        evaluation, of users that have a label), `is_newest` (one row a user), `train_only`,
        `interactions` (that the user keeps) and `dropped_by`.
    """
    seconds = F.unix_seconds("event_time")
    going = F.col("dropped_by").isNull()
    draw = F.xxhash64(
        F.lit(seed), F.lit("validation"), "user_id", "item_id", "event_type", "event_time"
    )
    in_window = seconds >= _test_start(as_of, config.test_days)
    rows = settled.select(
        "*",
        seconds.alias("seconds"),
        going.alias("going"),
        (going & F.col("event_type").isin(*config.label_events)).alias("eligible"),
        in_window.alias("in_window"),
        (~in_window & _share(draw, config.validation_share)).alias("drawn"),
    )
    # Newest first, so that the cap cuts the tail and what is left counts as if the rest had never
    # been. Each set of columns over one window is one select: Spark walks the rows once for it.
    from_here = newest_first().rowsBetween(Window.unboundedPreceding, Window.currentRow)
    rows = rows.select(
        "*",
        (_count("going").over(from_here) - 1).alias("newer"),
        _count("eligible").over(from_here).alias("left"),
        _count("eligible", "in_window").over(from_here).alias("left_in_window"),
        _count("eligible", "drawn").over(from_here).alias("left_drawn"),
    )
    kept = F.col("going") & (F.col("newer") < config.maximum_history)
    last_but_one = kept & F.col("eligible") & (F.col("left") == 2)
    user = Window.partitionBy("user_id")
    rows = rows.select(
        "*",
        F.min(F.when(kept, F.col("seconds"))).over(user).alias("first"),
        F.max(F.when(kept, F.col("left"))).over(user).alias("purchases"),
        F.max(F.when(last_but_one, F.col("seconds"))).over(user).alias("last_but_one"),
        F.max(F.when(kept, F.col("newer") + 1)).over(user).alias("interactions"),
    )
    dropped_by = F.coalesce("dropped_by", F.when(~kept, "history_cap"))
    rows = rows.withColumn("dropped_by", dropped_by)
    rows = rows.withColumn("has_history", F.col("eligible") & (F.col("seconds") > F.col("first")))
    rows = _last_week(rows) if config.split == "last_week" else _leave_last_out(rows)
    stays = F.col("dropped_by").isNull()
    return rows.select(
        "user_id",
        "item_id",
        "event_type",
        "seconds",
        "newer",
        F.when(stays & F.col("has_history"), F.col("label")).alias("label"),
        *((stays & F.col(name)).alias(name) for name in ("in_train", "in_validation", "in_test")),
        (stays & (F.col("newer") == 0)).alias("is_newest"),
        "train_only",
        "interactions",
        "dropped_by",
    )


def _count(*flags: str) -> Column:
    return F.sum(reduce(and_, (F.col(flag) for flag in flags)).cast("int"))


def _share(draw: Column, share: float) -> Column:
    steps = 1 << 32
    return F.pmod(draw, F.lit(steps)) < int(share * steps)


def _test_start(as_of: date, test_days: int) -> int:
    start = datetime.combine(as_of + timedelta(days=1 - test_days), time(), UTC)
    return int(start.timestamp())


def _last_week(rows: DataFrame) -> DataFrame:
    label = F.when(F.col("in_window"), "test").when(F.col("drawn"), "validation").otherwise("train")
    # A drawn event without history is no label and stays in the train row.
    held_out = F.col("drawn") & F.col("has_history")
    return rows.withColumns(
        {
            "label": label,
            "in_train": ~F.col("in_window") & ~held_out,
            # As long as a label of the split is still to come, or is this one.
            "in_validation": F.col("left_drawn") > 0,
            "in_test": F.col("left_in_window") > 0,
            "train_only": F.lit(False),
        }
    )


def _leave_last_out(rows: DataFrame) -> DataFrame:
    held_out = (F.col("purchases") >= 3) & (F.col("last_but_one") > F.col("first"))
    held_out = F.coalesce(held_out, F.lit(False))
    left = F.col("left")
    label = (
        F.when(held_out & (left == 1), "test")
        .when(held_out & (left == 2), "validation")
        .otherwise("train")
    )
    # Before the validation label, two purchases are still to come.
    to_come = left - F.col("eligible").cast("int")
    return rows.withColumns(
        {
            "label": label,
            "in_train": ~held_out | (to_come >= 2),
            "in_validation": held_out & (left >= 2),
            "in_test": held_out & (left >= 1),
            "train_only": ~held_out,
        }
    )
