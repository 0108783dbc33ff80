"""Files that cannot be used at all, each counted once, as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from pipelines.synthesise.dirt.site import Kind, Planted, Site, put
from pipelines.synthesise.formats import csv_bytes, gzipped, parquet_bytes

_ROWS: Final = 200  # that such a file would have had

Made = tuple[str, bytes]  # ending and content


def _empty(site: Site, table: pa.Table) -> Iterator[Made]:
    yield from ((".parquet", b""), (".csv", b""), (".jsonl", b""))


def _parquet_truncated(site: Site, table: pa.Table) -> Iterator[Made]:
    data = parquet_bytes(table)
    yield ".parquet", data[: len(data) * 2 // 3]


def _gzip_truncated(site: Site, table: pa.Table) -> Iterator[Made]:
    data = gzipped(csv_bytes(table))
    yield ".csv.gz", data[: len(data) // 2]


def _parquet_garbage(site: Site, table: pa.Table) -> Iterator[Made]:
    """Whole columns are overwritten, so that there is a page's header among what is lost."""
    data = bytearray(parquet_bytes(table))
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    start, end = pages // 4, pages * 3 // 4
    data[start:end] = site.rng.integers(128, 256, end - start, dtype=np.uint8).tobytes()
    yield ".parquet", bytes(data)


def _csv_not_utf8(site: Site, table: pa.Table) -> Iterator[Made]:
    everywhere = pa.array([True] * table.num_rows)
    table = put(table, "user_id", everywhere, ("Zoë", "Jürgen", "François"), pa.string())
    yield ".csv", csv_bytes(table).decode().encode("cp1252")


def _without_column(site: Site, table: pa.Table) -> Iterator[Made]:
    for name in ("item_id", "user_id", "event_time"):
        yield ".parquet", parquet_bytes(table.drop_columns(name))
        yield ".csv", csv_bytes(table.drop_columns(name))


def _unknown_format(site: Site, table: pa.Table) -> Iterator[Made]:
    data = parquet_bytes(table)
    yield from ((ending, data) for ending in (".xlsx", ".avro", ".parquet.bak", ""))


def _plant(
    site: Site, files: int, *, make: Callable[[Site, pa.Table], Iterator[Made]], rule: str
) -> Planted:
    planted = Planted(rules={rule: files})
    for number in range(files):
        day = site.day()
        made = list(make(site, site.sound(day, _ROWS)))
        ending, data = made[number % len(made)]
        planted.files.append((site.name(day, ending), data))
    return planted


KINDS: Final = tuple(
    Kind(name, "files", (rule,), partial(_plant, make=make, rule=rule))
    for name, rule, make in (
        ("empty_file", "file_empty", _empty),
        ("parquet_truncated", "file_unreadable", _parquet_truncated),
        ("parquet_garbage", "file_unreadable", _parquet_garbage),
        ("gzip_truncated", "file_unreadable", _gzip_truncated),
        ("csv_not_utf8", "file_unreadable", _csv_not_utf8),
        ("without_column", "file_without_column", _without_column),
        ("unknown_ending", "file_of_unknown_format", _unknown_format),
    )
)
