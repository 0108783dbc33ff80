"""The raw layout: which blobs belong to a run, and how Spark reads them.

``az://`` and ``file://`` are read by Spark's Python workers through `pipelines.storage`: no jar is
needed, and a worker signs in from its own environment. ``abfss://`` is read by the connector
of the platform that Spark runs on, which signs in as the platform does. Either way a file's bytes
go through `formats.decode`, so that a bad file has the same fate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
from pyspark.sql import DataFrame

from pipelines.errors import PipelineError, UsageError
from pipelines.preprocess.files import UnreadableFileError
from pipelines.preprocess.formats import decode, unreadable_file
from pipelines.preprocess.tables import INTERACTIONS, ITEMS, RawTable
from pipelines.storage import Blob, Storage, is_visible, open_storage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DAY = re.compile(rf"{INTERACTIONS.folder}/dt=(\d{{4}}-\d{{2}}-\d{{2}})/")

# Files are read in groups of about this size, so that a year of small days is not 365 tasks.
_GROUP_BYTES = 16 << 20
_GROUPS_AT_LEAST = 8

# A file costs something however small it is.
_OPENING_BYTES = 1 << 16


def day_of(name: str) -> str | None:
    """The day, YYYY-MM-DD, of a blob of interactions; None where its name says none.

    A date that the calendar does not have, such as 2024-02-30 or 0000-00-00, is no day.
    """
    found = _DAY.match(name)
    return found[1] if found and _is_date(found[1]) else None


def impossible_date(name: str) -> str | None:
    """What stands for the day of a blob of interactions where the calendar has no such day."""
    found = _DAY.match(name)
    return found[1] if found and not _is_date(found[1]) else None


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def raw_listing(storage: Storage, as_of: date, first_day: date | None = None) -> list[Blob]:
    """The blobs that a run reads, by name: interactions of its days, and the catalogue.

    Interactions without a day, such as those that the importer could not date (``dt=unknown``),
    belong to every run: their rows are judged by their own times alone. Blobs with a part that
    starts with an underscore or a dot are other tools' own, such as what a Spark job that was
    killed has left in ``_temporary/``, and are left out.

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
    return [blob for blob in storage.list(f"{table.folder}/") if is_visible(blob.name)]


def read_raw(spark: SparkSession, url: str, listing: Sequence[Blob], table: RawTable) -> DataFrame:
    """The rows of one raw table in a listing.

    A file that cannot be read is one row with `file_error`; see `RawTable.spark_schema`.

    Args:
        spark: the session.
        url: storage that the listing is of.
        listing: blobs of a run; those of other tables are passed over.
        table: the table to read.

    Raises:
        UsageError: an ``abfss://`` address where Spark has no connector for it.
        PipelineError: a file is not what it was when it was listed; also while rows are read.
    """
    files = [(blob.name, blob.size) for blob in listing if blob.name.startswith(f"{table.folder}/")]
    if not files:
        return spark.createDataFrame([], table.spark_schema)
    if urlsplit(url).scheme == "abfss":
        return read_by_connector(spark, url, files, table)
    groups = group_files(files)

    def read_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        storage = open_storage(url)
        for batch in batches:
            for number in batch["id"].to_pylist():
                for name, size in groups[number]:
                    yield from _rows(storage.read(name), name, size, url, table)

    # A task for each group. As a Python data source the same takes half as long again: Spark then
    # starts a process to plan it and turns every batch into rows.
    numbers = spark.range(0, len(groups), 1, numPartitions=len(groups))
    return numbers.mapInArrow(read_groups, table.spark_schema)


def read_by_connector(
    spark: SparkSession, url: str, files: list[tuple[str, int]], table: RawTable
) -> DataFrame:
    """The rows of files (name, size) that Spark's own file systems read; as `read_raw`."""
    # Spark passes over files of no bytes, and they would be missing without a word.
    empty = [batch for name, size in files if not size for batch in _rows(b"", name, 0, url, table)]
    stand_ins = [spark.createDataFrame(pa.Table.from_batches(empty))] if empty else []
    paths = {f"{url.rstrip('/')}/{name}": (name, size) for name, size in files if size}
    if not paths:
        return stand_ins[0]
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(_GROUP_BYTES))
    spark.conf.set("spark.sql.files.openCostInBytes", str(_OPENING_BYTES))
    try:
        contents = (
            spark.read.format("binaryFile")
            # Names as they stand: no folders like dt=2024-01-01 as columns, no [ab] as patterns.
            .options(recursiveFileLookup="true", __globPaths__="false")
            .load(list(paths))
            .select("path", "content")
        )
    except Exception as error:
        if re.search("No FileSystem for scheme|AzureBlobFileSystem not found", str(error)):
            raise UsageError(
                f"Spark cannot read {url} here, since no connector for it is installed: run on a "
                "platform that has one, or give the address as az://CONTAINER/FOLDER."
            ) from error
        if "PATH_NOT_FOUND" in str(error):
            raise _changed(str(error).splitlines()[0], url) from error
        raise

    def decode_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path, content in zip(batch["path"], batch["content"], strict=True):
                name, size = paths[path.as_py()]
                yield from _rows(content.as_py(), name, size, url, table)

    rows = contents.mapInArrow(decode_files, table.spark_schema)
    return reduce(DataFrame.unionAll, stand_ins, rows)


def _rows(data: bytes, name: str, size: int, url: str, table: RawTable) -> Iterator[pa.RecordBatch]:
    if len(data) != size:
        raise _changed(name, url)
    try:
        yield from decode(data, name, table)
    except UnreadableFileError as error:
        yield unreadable_file(table, name, error)


def _changed(name: str, url: str) -> PipelineError:
    return PipelineError(
        f"{name} in {url} changed while it was read: give the same command again, which starts a "
        "run over the new file."
    )


def group_files(files: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Files in groups of similar size: largest first, each into the group that is least full."""
    total = sum(size for _, size in files)
    count = min(len(files), max(_GROUPS_AT_LEAST, -(-total // _GROUP_BYTES)))
    groups: list[list[tuple[str, int]]] = [[] for _ in range(count)]
    filled = [0] * count
    for name, size in sorted(files, key=lambda file: (-file[1], file[0])):
        least = filled.index(min(filled))
        groups[least].append((name, size))
        filled[least] += size + _OPENING_BYTES
    return groups
