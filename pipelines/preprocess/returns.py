"""Duplicates, returns and repeated events: which valid rows do not become interactions.

Equal rows stand side by side in the one order that the whole job uses (`order`), so finding them
costs no sort of its own. Returns are settled within their (user, item) pairs, which are few, apart
from all other rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.preprocess.order import newest_first, with_order

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def settle(events: DataFrame, returns: DataFrame | None, partitions: int, seed: int) -> DataFrame:
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
        events: rows of `compact_rows.ROWS` that are no returns.
        returns: the returns, likewise; None when there are none.
        partitions: into which the rows are shuffled, by user.
        seed: of the order of ties.

    Returns:
        `user_id`, `item_id`, `event_type`, `event_time`, the columns of `order` and `dropped_by`
        (string or null), a row for every row given; partitioned by `user_id`.
    """
    if returns is None:
        rows = events.repartition(partitions, "user_id").withColumn("dropped_by", _nothing())
    else:
        # By hash, which is small: a pair that shares another's is settled apart for nothing.
        pair = F.xxhash64("user_id", "item_id")
        contested = F.broadcast(returns.select(pair.alias("contested")).distinct())
        shuffled = (
            events.unionByName(returns)
            .join(contested, pair == F.col("contested"), "left")
            .repartition(partitions, "user_id")
        )
        apart = F.col("contested").isNotNull()
        rows = _cancel(shuffled.where(apart)).unionByName(
            shuffled.where(~apart).drop("contested").withColumn("dropped_by", _nothing())
        )
    rows = with_order(rows, seed).drop("quantity")

    def as_next(name: str) -> Column:
        return F.lead(name).over(newest_first("fingerprint")).eqNullSafe(F.col(name))

    # Of equal rows the last in the order stays. Later windows have an order that this one begins
    # with, so that the rows are sorted once.
    rows = rows.select(
        "*",
        as_next("event_time").alias("same_time"),
        (as_next("item_id") & as_next("event_type")).alias("same_event"),
        as_next("fingerprint").alias("same_row"),
    )
    repeated = F.col("same_time") & F.col("same_event")
    found = F.when(repeated & F.col("same_row"), "duplicate").when(repeated, "repeated_event")
    # The pairs with returns are settled already, and all of a pair's rows together.
    settled = F.col("dropped_by").isNotNull()
    return rows.withColumn(
        "dropped_by", F.when(settled, F.nullif("dropped_by", F.lit(_STAYS))).otherwise(found)
    ).drop("same_time", "same_event", "same_row")


_STAYS = "stays"
"""Of a row in a pair with returns that no rule leaves out."""


def _nothing() -> Column:
    return F.lit(None).cast("string")


def _cancel(events: DataFrame) -> DataFrame:
    """`settle` for the pairs with returns: `dropped_by` is a rule, or `_STAYS`."""
    # Latest first: sums over the rows already passed are then sums over all later rows.
    pair = Window.partitionBy("user_id", "item_id").orderBy(
        F.desc("event_time"), F.desc("is_return"), F.desc("event_type"), F.desc("fingerprint")
    )
    later = pair.rowsBetween(Window.unboundedPreceding, -1)
    here_and_later = pair.rowsBetween(Window.unboundedPreceding, Window.currentRow)

    def as_before(name: str) -> Column:
        return F.lead(name).over(pair).eqNullSafe(F.col(name))

    rows = events.withColumn("is_return", F.col("event_type") == "return")
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
    dropped_by = (
        F.when(F.col("duplicate"), "duplicate")
        .when(F.col("is_return"), "return")
        .when(cancelled, "cancelled_purchase")
        .when(F.col("repeated"), "repeated_event")
        .otherwise(_STAYS)
    )
    return rows.select(*ROWS, dropped_by.alias("dropped_by"))


ROWS = ("user_id", "item_id", "event_type", "event_time", "quantity", "fingerprint")


def _change() -> Column:
    pieces = F.abs(F.coalesce("quantity", F.lit(1.0)))
    return (
        F.when(F.col("duplicate"), 0.0)
        .when(F.col("event_type") == "purchase", pieces)
        .when(F.col("is_return"), -pieces)
        .otherwise(0.0)
    )
