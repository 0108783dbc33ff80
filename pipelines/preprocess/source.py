"""The raw layout: which blobs belong to a run, and a Spark data source that reads them.

The source reads through `pipelines.storage`, so ``file://`` and ``az://`` work alike and no jar
is needed. Its options carry a URL and file names; a worker signs in from its own environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from pipelines.errors import PipelineError, UsageError
from pipelines.preprocess.files import UnreadableFileError
from pipelines.preprocess.formats import decode, unreadable_file
from pipelines.preprocess.tables import INTERACTIONS, ITEMS, TABLES, RawTable
from pipelines.storage import Blob, Storage, open_storage

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

_DAY = re.compile(rf"{INTERACTIONS.folder}/dt=(\d{{4}}-\d{{2}}-\d{{2}})/")

# Files are read in groups of about this size, so that a year of small days is not 365 tasks.
_GROUP_BYTES = 16 << 20
_GROUPS_AT_LEAST = 8


def day_of(name: str) -> str | None:
    """The day, YYYY-MM-DD, of a blob of interactions; None where its name says none."""
    found = _DAY.match(name)
    return found[1] if found else None


def raw_listing(storage: Storage, as_of: date, first_day: date | None = None) -> list[Blob]:
    """The blobs that a run reads, by name: interactions of its days, and the catalogue.

    Interactions that the importer could not date (``dt=unknown``) belong to every run. Blobs whose
    last part starts with an underscore are other tools' markers and are left out.

    Args:
        storage: of the raw layout.
        as_of: the last day.
        first_day: of the window; None for all days there are.

    Raises:
        UsageError: there are no interactions, or none up to `as_of`.
    """
    interactions = _blobs(storage, INTERACTIONS)
    if not interactions:
        raise UsageError(
            f"There are no interactions in {storage.url}: expected "
            f"{INTERACTIONS.folder}/dt=YYYY-MM-DD/*.parquet (or .csv, .jsonl, also .gz); check the "
            "address, or import a file with `hyperrec import`."
        )
    days = {blob.name: day_of(blob.name) for blob in interactions}
    dated = sorted(filter(None, days.values()))
    if dated and as_of.isoformat() < dated[0]:
        raise UsageError(
            f"There are no interactions up to {as_of} in {storage.url}: its days go from "
            f"{dated[0]} to {dated[-1]}; choose as_of among them."
        )
    first = "" if first_day is None else first_day.isoformat()
    wanted = [
        blob
        for blob in interactions
        if (day := days[blob.name]) is None or first <= day <= as_of.isoformat()
    ]
    return sorted([*wanted, *_blobs(storage, ITEMS)], key=lambda blob: blob.name)


def _blobs(storage: Storage, table: RawTable) -> list[Blob]:
    blobs = storage.list(f"{table.folder}/")
    return [blob for blob in blobs if not blob.name.rpartition("/")[2].startswith("_")]


def read_raw(spark: SparkSession, url: str, listing: Sequence[Blob], table: RawTable) -> DataFrame:
    """The rows of one raw table in a listing.

    A file that cannot be read is one row with `file_error`; see `RawTable.spark_schema`.

    Args:
        spark: the session.
        url: storage that the listing is of.
        listing: blobs of a run; those of other tables are passed over.
        table: the table to read.
    """
    files = [(blob.name, blob.size) for blob in listing if blob.name.startswith(f"{table.folder}/")]
    spark.dataSource.register(RawBlobs)
    return (
        spark.read.format(RawBlobs.name())
        .options(url=url, table=table.folder, files=json.dumps(files))
        .load()
    )


class RawBlobs(DataSource):
    """Spark data source over raw blobs; options `url`, `table` and `files` (name, size)."""

    @classmethod
    def name(cls) -> str:
        return "hyperrec_raw"

    def schema(self) -> str:
        return TABLES[self.options["table"]].spark_schema

    def reader(self, schema: object) -> RawBlobsReader:
        return RawBlobsReader(
            self.options["url"],
            TABLES[self.options["table"]],
            [(name, size) for name, size in json.loads(self.options["files"])],
        )


class FileGroup(InputPartition):
    """Some files of the listing, read by one task."""

    def __init__(self, files: list[tuple[str, int]]) -> None:
        self.files = files


class RawBlobsReader(DataSourceReader):
    """Reads groups of files on the workers."""

    def __init__(self, url: str, table: RawTable, files: list[tuple[str, int]]) -> None:
        self.url = url
        self.table = table
        self.files = files

    def partitions(self) -> list[FileGroup]:
        return [FileGroup(group) for group in group_files(self.files)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        assert isinstance(partition, FileGroup)  # noqa: S101  Spark hands back what it was given
        storage = open_storage(self.url)
        for name, size in partition.files:
            data = storage.read(name)
            if len(data) != size:
                raise PipelineError(
                    f"{name} in {self.url} changed while it was read: give the same command again, "
                    "which starts a run over the new file."
                )
            try:
                yield from decode(data, name, self.table)
            except UnreadableFileError as error:
                yield unreadable_file(self.table, name, error)


def group_files(files: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Files in groups of similar size: largest first, each into the group that is least full."""
    total = sum(size for _, size in files)
    count = min(len(files), max(_GROUPS_AT_LEAST, -(-total // _GROUP_BYTES)))
    groups: list[list[tuple[str, int]]] = [[] for _ in range(count)]
    filled = [0] * count
    for name, size in sorted(files, key=lambda file: (-file[1], file[0])):
        least = filled.index(min(filled))
        groups[least].append((name, size))
        # A file costs something however small it is.
        filled[least] += size + (1 << 16)
    return groups
