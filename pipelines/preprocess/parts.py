"""Reading back what the job has kept: Parquet parts of a storage as one frame."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema

from pipelines.errors import CorruptOutputError
from pipelines.preprocess.compact_rows import Part
from pipelines.preprocess.files import BATCH_ROWS
from pipelines.preprocess.source import FileGroup, group_files
from pipelines.storage import open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType


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
        return spark.read.schema(kinds).parquet(*(f"{url}/{part.name}" for part in parts))
    spark.dataSource.register(PartBlobs)
    files = [(part.name, part.bytes, part.sha256) for part in parts]
    return (
        spark.read.format(PartBlobs.name())
        .schema(kinds)
        .options(url=url, files=json.dumps(files))
        .load()
    )


class PartBlobs(DataSource):
    """Spark data source over Parquet parts; options `url` and `files` (name, size, sha256)."""

    @classmethod
    def name(cls) -> str:
        return "hyperrec_parts"

    def reader(self, schema: StructType) -> PartBlobsReader:
        return PartBlobsReader(self.options["url"], json.loads(self.options["files"]))


class PartBlobsReader(DataSourceReader):
    """Reads groups of parts on the workers."""

    def __init__(self, url: str, files: list[tuple[str, int, str]]) -> None:
        self.url = url
        self.checksums = {name: sha256 for name, _, sha256 in files}
        self.sizes = [(name, size) for name, size, _ in files]

    def partitions(self) -> list[FileGroup]:
        return [FileGroup(group) for group in group_files(self.sizes)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        assert isinstance(partition, FileGroup)  # noqa: S101  Spark hands back what it was given
        storage = open_storage(self.url)
        for name, _ in partition.files:
            data = storage.read(name)
            if hashlib.sha256(data).hexdigest() != self.checksums[name]:
                raise CorruptOutputError(
                    f"{name} in {self.url} differs from the sha256 in its manifest: delete its "
                    "folder and give the same command again, which reads that day anew."
                )
            yield from pq.ParquetFile(pa.BufferReader(data)).iter_batches(
                BATCH_ROWS, use_threads=False
            )
