"""The one order of a user's events that the job sorts by: newest first.

Every window over a user names the same columns in the same order, or a part of them, so that Spark
sorts the rows once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Window, WindowSpec
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SECONDS_OF_A_DAY = 86_400


def with_order(rows: DataFrame, seed: int) -> DataFrame:
    """Add `days_ago` and `tie` to rows with `user_id`, `item_id`, `event_type`, `event_time`.

    `days_ago` is the UTC day with the other sign: it rises where the order goes back in time.
    Ties in time are ordered by `tie`, a seeded hash of (user, item, event type): row order is not
    stable, and order by item would favour some items as last ones.
    """
    day = F.floor(F.unix_seconds("event_time") / _SECONDS_OF_A_DAY)
    return rows.withColumns(
        {
            "days_ago": (-day).cast("int"),
            "tie": F.xxhash64(F.lit(seed), "user_id", "item_id", "event_type"),
        }
    )


def newest_first(*further: str) -> WindowSpec:
    """A user's events, the newest first; equal events stand side by side.

    Args:
        further: columns that order equal events.
    """
    return Window.partitionBy("user_id").orderBy(
        F.asc("days_ago"),
        *(F.desc(name) for name in ("event_time", "tie", "item_id", "event_type", *further)),
    )
