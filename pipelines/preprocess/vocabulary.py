"""The vocabulary: the items of the training rows with their dense ids and catalogue entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import Window
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

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
    """Items of training rows, by falling count, ties by item_id, so that ids are reproducible.

    Args:
        assigned: frame of `splits.assign_splits`.
        catalogue: rows of `tables.ITEMS`, possibly several an item: the one of the last file, by
            name, counts. None when the input has no catalogue.

    Returns:
        Columns of `VOCABULARY`, in no order. An item the catalogue does not know has no category,
        no title, and counts as live.
    """
    counts = assigned.where("in_train").groupBy("item_id").agg(F.count("*").alias("count"))
    order = Window.orderBy(F.desc("count"), "item_id")
    items = counts.withColumn("item", F.row_number().over(order) - 1)
    if catalogue is None:
        entries = items.select(
            "*",
            F.lit(None).cast("array<string>").alias("category"),
            F.lit(None).cast("boolean").alias("is_live"),
            F.lit(None).cast("string").alias("title"),
        )
    else:
        entry = F.struct("category", "is_live", "title")
        newest = F.max_by(entry, F.struct("source_file", F.xxhash64(entry))).alias("entry")
        known = catalogue.where(F.col("item_id").isNotNull()).groupBy("item_id").agg(newest)
        entries = items.join(known, "item_id", "left").select("item_id", "count", "item", "entry.*")
    return entries.select(
        F.col("item").cast("int").alias("item"),
        "item_id",
        "count",
        F.coalesce("category", F.array().cast("array<string>")).alias("category"),
        F.coalesce("is_live", F.lit(True)).alias("is_live"),
        "title",
    )


def to_table(frame: DataFrame) -> pa.Table:
    """The vocabulary on the driver, by item, in the contract's types."""
    table = frame.toArrow().select(VOCABULARY.names).cast(VOCABULARY)
    return table.sort_by("item").combine_chunks()
