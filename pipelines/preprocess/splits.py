"""Limits on counts, the order of a user's events, and which of them are whose labels.

A label's history is what the user did strictly earlier, in whole seconds: events of the same
second (one basket) never explain each other.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.preprocess.config import PreprocessConfig

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
    """Order each user's interactions, cap them, and give each label to one split.

    A label is an event of `config.label_events` with a strictly earlier event of the same user.

    ``last_week``: labels of the last `test_days` days up to `as_of` are test; of the earlier ones
    a share, drawn by a seeded hash of the event, is validation; the rest is train. Train rows hold
    the events before the test days without the validation labels, which thus are neither label nor
    history of anything trained on. Evaluation rows hold every earlier event.

    ``leave_last_out``: the last purchase is the test label, the one before it the validation label
    and the events before that the train row. Users with fewer than three purchases, or with fewer
    than two that have an earlier event, are in train alone, as in the papers.

    Ties in time are ordered by a seeded hash of (user, item, event type): row order is not stable
    and order by item would favour some items as last ones.

    Args:
        settled: frame of `returns.settle`; rows with `dropped_by` pass through without position.
        config: split, its parameters and `maximum_history`.
        as_of: last day of the data.
        seed: of the order of ties and of the validation draw.

    Returns:
        `user_id`, `item_id`, `seconds` (since 1970), `position` (rank within the user, from 1),
        `label` (train, validation, test or null), `in_train`, `in_validation`, `in_test` (whether
        that split's row of the user has the event), `starts_user` (one row a user), `train_only`
        and `dropped_by`.
    """
    event = ("user_id", "item_id", "event_type")
    # Dropped rows stand in a partition of their own, so that no position counts them.
    user = Window.partitionBy("user_id", "was_dropped")
    ordered = user.orderBy("event_time", "tie", "item_id", "event_type")
    passed = ordered.rowsBetween(Window.unboundedPreceding, Window.currentRow)

    rows = settled.select(
        "*",
        F.col("dropped_by").isNotNull().alias("was_dropped"),
        F.unix_seconds("event_time").alias("seconds"),
        F.xxhash64(F.lit(seed), *event).alias("tie"),
    )
    rows = rows.withColumn("position", F.row_number().over(ordered))
    rows = rows.withColumn("newer", F.count("*").over(user) - F.col("position"))
    capped = ~F.col("was_dropped") & (F.col("newer") >= config.maximum_history)
    rows = rows.withColumn("dropped_by", F.coalesce("dropped_by", F.when(capped, "history_cap")))
    kept = F.col("dropped_by").isNull()
    rows = rows.withColumn("first", F.min(F.when(kept, F.col("seconds"))).over(user))
    rows = rows.withColumn("eligible", kept & F.col("event_type").isin(*config.label_events))
    rows = rows.withColumn("has_history", F.col("eligible") & (F.col("seconds") > F.col("first")))
    if config.split == "last_week":
        rows = _last_week(
            rows, config, as_of, F.xxhash64(F.lit(seed), F.lit("draw"), *event, "seconds")
        )
    else:
        rows = _leave_last_out(rows, user, passed)
    oldest = F.min(F.when(kept, F.col("position"))).over(user)

    def last(split: str) -> Column:
        return F.max(F.when(F.col("label") == split, F.col("position"))).over(user)

    def reaches(split: str) -> Column:
        return kept & F.coalesce(F.col("position") <= last(split), F.lit(False))

    return rows.select(
        "user_id",
        "item_id",
        "seconds",
        "position",
        "label",
        (kept & F.col("in_train")).alias("in_train"),
        reaches("validation").alias("in_validation"),
        reaches("test").alias("in_test"),
        (kept & (F.col("position") == oldest)).alias("starts_user"),
        "train_only",
        "dropped_by",
    )


def _last_week(rows: DataFrame, config: PreprocessConfig, as_of: date, draw: Column) -> DataFrame:
    start = datetime.combine(as_of + timedelta(days=1), datetime.min.time(), UTC)
    start -= timedelta(days=config.test_days)
    in_window = F.col("seconds") >= int(start.timestamp())
    steps = 1 << 32
    drawn = F.pmod(draw, F.lit(steps)) < int(config.validation_share * steps)
    label = (
        F.when(~F.col("has_history"), None)
        .when(in_window, "test")
        .when(drawn, "validation")
        .otherwise("train")
    )
    return (
        rows.withColumn("label", label)
        .withColumn("in_train", ~in_window & ~F.col("label").eqNullSafe("validation"))
        .withColumn("train_only", F.lit(False))
    )


def _leave_last_out(rows: DataFrame, user: object, passed: object) -> DataFrame:
    eligible, has_history = F.col("eligible").cast("int"), F.col("has_history").cast("int")
    rows = rows.withColumn("purchases", F.sum(eligible).over(user))
    rows = rows.withColumn("newer_purchases", F.col("purchases") - F.sum(eligible).over(passed))
    few = (F.col("purchases") < 3) | (F.sum(has_history).over(user) < 2)
    rows = rows.withColumn("train_only", few)
    held = ~F.col("train_only")
    label = (
        F.when(~F.col("has_history"), None)
        .when(held & (F.col("newer_purchases") == 0), "test")
        .when(held & (F.col("newer_purchases") == 1), "validation")
        .otherwise("train")
    )
    # Before the validation label: at least that label and the test label are still to come.
    return rows.withColumn("label", label).withColumn(
        "in_train", F.col("train_only") | (F.col("newer_purchases") >= 2)
    )
