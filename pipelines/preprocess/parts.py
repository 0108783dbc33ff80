"""Reading back what the job has kept: Parquet parts of a storage as one frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import from_arrow_schema

from pipelines.errors import CorruptOutputError
from pipelines.preprocess.compact_rows import Part
from pipelines.preprocess.files import BATCH_ROWS
from pipelines.preprocess.source import group_files
from pipelines.storage import Storage, open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def read_parts(
    spark: SparkSession, url: str, parts: Sequence[Part], schema: pa.Schema
) -> DataFrame:
    """The rows of parts below a storage, none when there are no parts.

    Files of a folder are read by Spark itself, others through `pipelines.storage`.

    Args:
        spark: the session.
        url: the storage.
        parts: of one kind, whose checksums are verified where they are not read by Spark.
        schema: theirs.
    """
    kinds = from_arrow_schema(schema)
    if not parts:
        return spark.createDataFrame([], kinds)
    if url.startswith("file://"):
        # Paths as they stand, not quoted as in a URL: no [ab] as patterns, no a=b as columns.
        whole = spark.read.options(recursiveFileLookup="true", __globPaths__="false")
        return whole.schema(kinds).parquet(*(f"{unquote(url)}/{part.name}" for part in parts))
    checksums = {part.name: part.sha256 for part in parts}
    groups = group_files([(part.name, part.bytes) for part in parts])

    def read_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        storage = open_storage(url)
        for batch in batches:
            for number in batch["id"].to_pylist():
                for name, _ in groups[number]:
                    yield from _rows(storage, name, checksums[name])

    # As `source.read_raw`: a task for each group.
    numbers = spark.range(0, len(groups), 1, numPartitions=len(groups))
    return numbers.mapInArrow(read_groups, kinds)


def _rows(storage: Storage, name: str, sha256: str) -> Iterator[pa.RecordBatch]:
    data = storage.read(name)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptOutputError(
            f"{name} in {storage.url} differs from the sha256 in its manifest: delete its folder "
            "and give the same command again, which reads that day anew."
        )
    yield from pq.ParquetFile(pa.BufferReader(data)).iter_batches(BATCH_ROWS, use_threads=False)
