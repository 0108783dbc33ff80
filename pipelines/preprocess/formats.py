"""One raw file's bytes as batches of its table's canonical columns.

Parquet, CSV and JSON lines, plain or gzip. A file is decoded whole before its first row is handed
on, so that one that breaks in the middle contributes nothing and is quarantined as a file; a CSV
or JSON line that cannot be read is one row with `row_error`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import convert
from pipelines.preprocess.casts import cast
from pipelines.preprocess.csv_files import read_csv
from pipelines.preprocess.files import (
    BATCH_ROWS,
    SHOWN_CHARACTERS,
    UnreadableFileError,
    not_utf8,
    wanted_columns,
)
from pipelines.preprocess.json_files import read_json
from pipelines.preprocess.tables import ARROW_TYPES, RawTable

_Reader = Callable[[bytes, RawTable, list[str]], Iterator[pa.RecordBatch]]


def decode(data: bytes, name: str, table: RawTable) -> list[pa.RecordBatch]:
    """The rows of a raw file.

    Args:
        data: the file's bytes.
        name: its name, whose endings say the format; it becomes `source_file`.
        table: which columns to read and which must be there.

    Returns:
        Batches of the columns of `table.spark_schema`; none for a file without rows.

    Raises:
        UnreadableFileError: the file breaks one of `rules.FILE_RULES`.
    """
    stem = name.removesuffix(".gz")
    read = _reader(stem)
    is_text = read is not _read_parquet
    plain = b""
    errors: list[str] = []
    try:
        plain = gzip.decompress(data) if stem != name else data
        if _is_empty(plain, is_text=is_text):
            raise UnreadableFileError("the file holds nothing", "file_empty")
        batches = [
            _canonical(batch, name, table, untyped=is_text) for batch in read(plain, table, errors)
        ]
    except UnreadableFileError as error:
        # Columns that are not there may be there in another encoding.
        if is_text and error.rule == "file_without_column" and (why := not_utf8(plain)):
            raise UnreadableFileError(why) from error
        raise
    except (
        pa.ArrowException,
        OSError,
        EOFError,
        zlib.error,
        UnicodeError,
        OverflowError,
        csv.Error,
    ) as error:
        raise UnreadableFileError((is_text and not_utf8(plain)) or _first_line(error)) from error
    if errors:
        batches.append(_stand_ins(table, name, row_errors=errors))
    return batches


def unreadable_file(table: RawTable, name: str, error: UnreadableFileError) -> pa.RecordBatch:
    """The one row that stands for a file that cannot be read."""
    return _stand_ins(table, name, file_error=error)


def _reader(stem: str) -> _Reader:
    if stem.endswith(".parquet"):
        return _read_parquet
    if stem.endswith(".csv"):
        return read_csv
    if stem.endswith((".json", ".jsonl", ".ndjson")):
        return read_json
    raise UnreadableFileError(
        "its name ends in none of .parquet, .csv, .json, .jsonl, .ndjson", "file_of_unknown_format"
    )


def _is_empty(plain: bytes, *, is_text: bool) -> bool:
    if not is_text:
        return not plain
    bom = codecs.BOM_UTF8
    # Most files show at once that they are not.
    return not plain[:64].removeprefix(bom).strip() and not plain.removeprefix(bom).strip()


def _read_parquet(data: bytes, table: RawTable, _: list[str]) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(
        pa.BufferReader(data),
        # Nanoseconds would wrap a date outside the years 1677 to 2262.
        coerce_int96_timestamp_unit="us",
        page_checksum_verification=True,
    )
    columns = wanted_columns(file.schema_arrow.names, table)
    yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


def _canonical(
    batch: pa.RecordBatch, name: str, table: RawTable, *, untyped: bool
) -> pa.RecordBatch:
    rows = batch.num_rows
    found = set(batch.schema.names)
    columns = [
        cast(batch.column(column), kind, untyped=untyped)
        if column in found
        else pa.nulls(rows, ARROW_TYPES[kind])
        for column, kind in table.columns.items()
    ]
    if "event_type" in table.columns:
        position = list(table.columns).index("event_type")
        columns[position] = columns[position].fill_null("purchase")
    text = pa.string()
    columns += [pa.repeat(pa.scalar(name, text), rows), _flag_errors(batch, columns, table)]
    columns += [pa.nulls(rows, text) for _ in ("file_error", "file_rule")]
    return pa.RecordBatch.from_arrays(columns, schema=table.arrow_schema)


def _flag_errors(batch: pa.RecordBatch, read: list[pa.Array], table: RawTable) -> pa.Array:
    """string[n]: what is wrong with a flag that says something, and neither true nor false."""
    errors = pa.nulls(batch.num_rows, pa.string())
    for (name, kind), values in zip(table.columns.items(), read, strict=True):
        if kind == "flag" and name in batch.schema.names:
            given = batch.column(name)
            shown = pc.utf8_slice_codeunits(convert.text(given).fill_null("?"), 0, SHOWN_CHARACTERS)
            told = pc.binary_join_element_wise(f"{name} is neither true nor false", shown, ": ")
            errors = pc.if_else(pc.and_(convert.given(given), values.is_null()), told, errors)
    return errors


def _stand_ins(
    table: RawTable,
    name: str,
    *,
    row_errors: list[str] | None = None,
    file_error: UnreadableFileError | None = None,
) -> pa.RecordBatch:
    rows = len(row_errors) if row_errors else 1
    text = pa.string()
    return pa.RecordBatch.from_arrays(
        [
            *(pa.nulls(rows, ARROW_TYPES[kind]) for kind in table.columns.values()),
            pa.repeat(pa.scalar(name, text), rows),
            pa.array(row_errors, text) if row_errors else pa.nulls(rows, text),
            pa.repeat(pa.scalar(str(file_error) if file_error else None, text), rows),
            pa.repeat(pa.scalar(file_error.rule if file_error else None, text), rows),
        ],
        schema=table.arrow_schema,
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
