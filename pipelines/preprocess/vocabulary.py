"""The vocabulary: items with their dense ids and catalogue entries.

The items of training rows come first: the model is trained on them. After them come the
catalogue's live items that no training row has and that have a category, with count 0; they are
placed by it after training and published with the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.preprocess.quality import is_item_id

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

VOCABULARY = pa.schema(
    [
        ("item", pa.int32()),
        ("item_id", pa.string()),
        ("count", pa.int64()),
        ("category", pa.list_(pa.string())),
        ("is_live", pa.bool_()),
        ("title", pa.string()),
    ]
)


def vocabulary(assigned: DataFrame, catalogue: DataFrame | None) -> DataFrame:
    """Items by falling count, ties by item_id, so that ids are reproducible.

    Args:
        assigned: frame of `splits.assign_splits`.
        catalogue: rows of `tables.ITEMS`, possibly several an item: the one of the last file, by
            name, counts. None when the input has no catalogue.

    Returns:
        Columns of `VOCABULARY`, in no order. An item the catalogue does not know has no category,
        no title, and counts as live. A catalogue's item that is not live, has no category, or
        whose id breaks the rules of raw rows, is there only when training rows have it.
    """
    counts = assigned.where("in_train").groupBy("item_id").agg(F.count("*").alias("count"))
    if catalogue is None:
        items = counts.select(
            "*",
            F.lit(None).cast("array<string>").alias("category"),
            F.lit(True).alias("is_live"),
            F.lit(None).cast("string").alias("title"),
        )
    else:
        entry = F.struct("category", F.coalesce("is_live", F.lit(True)).alias("is_live"), "title")
        newest = F.max_by(entry, F.struct("source_file", F.xxhash64(entry))).alias("entry")
        # A file of features alone says nothing of this.
        says = F.expr("category IS NOT NULL OR is_live IS NOT NULL OR title IS NOT NULL")
        known = catalogue.where(is_item_id("item_id") & says).groupBy("item_id").agg(newest)
        items = counts.join(known, "item_id", "full").select("item_id", "count", "entry.*")
        # Without a category nothing says where such an item belongs; catalogues made from
        # transactions have none and name fees and postage, too.
        placeable = F.col("is_live") & (F.size("category") > 0)
        items = items.where(F.col("count").isNotNull() | placeable)
    order = Window.orderBy(F.desc("count"), "item_id")
    return items.select(
        "item_id",
        F.coalesce("count", F.lit(0)).alias("count"),
        F.coalesce("category", F.array().cast("array<string>")).alias("category"),
        F.coalesce("is_live", F.lit(True)).alias("is_live"),
        "title",
    ).withColumn("item", F.row_number().over(order) - 1)


def to_table(frame: DataFrame) -> pa.Table:
    """The vocabulary on the driver, by item, in the contract's types."""
    table = frame.toArrow().select(VOCABULARY.names).cast(VOCABULARY)
    return table.sort_by("item").combine_chunks()
