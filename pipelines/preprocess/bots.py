"""Bots: users with more events than a person has, left out with all their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.preprocess.config import PreprocessConfig

# Rows that are no events of the user's: a file that is delivered again makes nobody a bot.
_NO_EVENTS = ("outside_window", "duplicate")


def mark_bots(settled: DataFrame, config: PreprocessConfig) -> DataFrame:
    """Mark all events of users over a limit with ``bot``, whatever marked them before.

    A user's events are all but the duplicates and those outside the window, which keep their mark:
    returns and cancelled purchases are events, too.

    Args:
        settled: frame of `returns.settle`. Partitioned by `user_id` it is not shuffled again, and
            sorted by it, as `settle` leaves it, not sorted again either.
        config: `bot_events_per_day` and `bot_events`.

    Returns:
        The same rows and columns.
    """
    per_day, in_all = config.bot_events_per_day, config.bot_events
    limits = [limit for limit in (per_day, in_all) if limit]
    if not limits:
        return settled
    user = Window.partitionBy("user_id")
    is_event = F.coalesce(~F.col("dropped_by").isin(*_NO_EVENTS), F.lit(True))
    # What one select asks of a window costs one walk over the rows.
    events = F.count(F.when(is_event, 1)).over(user).alias("events")
    busiest = F.mode(F.when(is_event, _day())).over(user).alias("busiest")
    rows = settled.select("*", events, busiest) if per_day else settled.select("*", events)
    is_bot = F.col("events") > in_all if in_all else F.lit(False)
    if per_day:
        in_busiest = F.count(F.when(is_event & (_day() == F.col("busiest")), 1))
        rows = rows.withColumn("most_in_a_day", in_busiest.over(user))
        is_bot |= F.col("most_in_a_day") > per_day
    return rows.withColumn(
        "dropped_by", F.when(is_bot & is_event, "bot").otherwise(F.col("dropped_by"))
    ).select(*settled.columns)


def bots(marked: DataFrame) -> DataFrame:
    """The bots of a frame of `mark_bots`: `user_id`, `events` and `most_in_a_day`."""
    days = marked.where(F.col("dropped_by") == "bot").groupBy("user_id", _day().alias("day"))
    return (
        days.agg(F.count("*").alias("events"))
        .groupBy("user_id")
        .agg(F.sum("events").alias("events"), F.max("events").alias("most_in_a_day"))
    )


def _day() -> Column:
    """Days since 1970, UTC, whatever the session's time zone."""
    return F.expr("unix_seconds(event_time) div 86400")
