"""Duplicates, returns and repeated events: which valid rows do not become interactions.

All of it happens inside one (user, item) pair, in one sort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_COMPARED = ("quantity", "price", "rating", "market")


def settle(events: DataFrame) -> DataFrame:
    """Mark the rows that are duplicates, returns, cancelled purchases or repeated events.

    The rules, in this order; a row carries the first that applies:

    - ``duplicate``: equal in every column to another row, which stays.
    - ``return``: a return only cancels; it is no interaction.
    - ``cancelled_purchase``: returns cancel last in, first out. A purchase is cancelled when, at
      some later row of the pair, the running balance (purchases minus returns, by time, purchases
      first where times are equal) is no more than it was just before the purchase. So a purchase
      that is returned in part stays. A missing quantity is one piece.
    - ``repeated_event``: same user, item, event type and time as another row that stays.

    Args:
        events: valid rows with the columns of `tables.INTERACTIONS`; partitioned by `user_id`
            they are not shuffled again.

    Returns:
        `user_id`, `item_id`, `event_type`, `event_time` and `dropped_by` (string or null), a row
        for every row given.
    """
    # Latest first: sums over the rows already passed are then sums over all later rows.
    pair = Window.partitionBy("user_id", "item_id").orderBy(
        F.desc("event_time"), F.desc("is_return"), F.desc("event_type"), F.desc("fingerprint")
    )
    later = pair.rowsBetween(Window.unboundedPreceding, -1)
    here_and_later = pair.rowsBetween(Window.unboundedPreceding, Window.currentRow)

    def as_before(name: str) -> Column:
        return F.col(f"earlier_{name}").eqNullSafe(F.col(name))

    rows = events.select(
        "user_id",
        "item_id",
        "event_type",
        "event_time",
        "quantity",
        (F.col("event_type") == "return").alias("is_return"),
        _fingerprint().alias("fingerprint"),
    )
    # What one select asks of a window costs one walk over the rows.
    compared = ("event_time", "event_type", "fingerprint")
    rows = rows.select(
        "*", *(F.lead(name).over(pair).alias(f"earlier_{name}") for name in compared)
    )
    # Of equal rows and of repeated events the earliest in this order stays: it is the last one
    # that returns would cancel, so it is there whenever any of them is left.
    rows = rows.withColumn("repeated", as_before("event_time") & as_before("event_type"))
    rows = rows.withColumn("duplicate", F.col("repeated") & as_before("fingerprint"))
    rows = rows.withColumn("change", _change())
    rows = rows.withColumn("from_here", F.sum("change").over(here_and_later))
    # The changes from a row to a later row j add up to at most 0 ⇔ those from the row to the end
    # are at most those after j.
    rows = rows.withColumn("most_after", F.max(F.col("from_here") - F.col("change")).over(later))
    cancelled = (F.col("event_type") == "purchase") & (F.col("most_after") >= F.col("from_here"))
    return rows.select(
        "user_id",
        "item_id",
        "event_type",
        "event_time",
        F.when(F.col("duplicate"), "duplicate")
        .when(F.col("is_return"), "return")
        .when(cancelled, "cancelled_purchase")
        .when(F.col("repeated"), "repeated_event")
        .alias("dropped_by"),
    )


def _fingerprint() -> Column:
    # The hash passes over nulls, so (null, 1) and (1, null) differ only by the flags.
    return F.xxhash64(*_COMPARED, *(F.isnull(name) for name in _COMPARED))


def _change() -> Column:
    pieces = F.abs(F.coalesce("quantity", F.lit(1.0)))
    return (
        F.when(F.col("duplicate"), 0.0)
        .when(F.col("event_type") == "purchase", pieces)
        .when(F.col("is_return"), -pieces)
        .otherwise(0.0)
    )
