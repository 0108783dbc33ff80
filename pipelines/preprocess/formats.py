"""One raw file's bytes as batches of its table's canonical columns.

Parquet, CSV and JSON lines, plain or gzip. A file is decoded whole before its first row is handed
on, so that one that breaks in the middle contributes nothing and is quarantined as a file; a CSV
or JSON line that cannot be read is one row with `row_error`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipelines.preprocess.casts import cast
from pipelines.preprocess.tables import ARROW_TYPES, RawTable

# Large enough that Spark's cost per batch does not show (256 k rows: 3.6 s, 10 k: 9.5 s for 5 M).
BATCH_ROWS = 262_144

# An unreadable line is shown in quarantine up to this many characters.
_SHOWN_CHARACTERS = 500


class UnreadableFileError(ValueError):
    """A raw file cannot be used; the message is the reason given in its quarantine."""


def decode(data: bytes, name: str, table: RawTable) -> list[pa.RecordBatch]:
    """The rows of a raw file.

    Args:
        data: the file's bytes.
        name: its name, whose endings say the format; it becomes `source_file`.
        table: which columns to read and which must be there.

    Returns:
        Batches of the columns of `table.spark_schema`.

    Raises:
        UnreadableFileError: truncated, not of its format, or without a required column.
    """
    try:
        plain, stem = _decompress(data, name)
        if not plain:
            raise UnreadableFileError("the file is empty")
        errors: list[str] = []
        untyped = not stem.endswith(".parquet")
        batches = [
            _canonical(batch, name, table, untyped=untyped)
            for batch in _read_format(plain, stem, table, errors)
        ]
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError, csv.Error) as error:
        raise UnreadableFileError(_first_line(error)) from error
    if errors:
        batches.append(_stand_ins(table, name, row_errors=errors))
    return batches


def unreadable_file(table: RawTable, name: str, reason: str) -> pa.RecordBatch:
    """The one row that stands for a file that cannot be read."""
    return _stand_ins(table, name, file_error=reason)


def _decompress(data: bytes, name: str) -> tuple[bytes, str]:
    if name.endswith(".gz"):
        return gzip.decompress(data), name.removesuffix(".gz")
    return data, name


def _read_format(
    data: bytes, stem: str, table: RawTable, errors: list[str]
) -> Iterator[pa.RecordBatch]:
    if stem.endswith(".parquet"):
        return _read_parquet(data, table)
    if stem.endswith(".csv"):
        return _read_csv(data, table, errors)
    if stem.endswith((".json", ".jsonl", ".ndjson")):
        return _read_json(data, table, errors)
    raise UnreadableFileError("its name ends in none of .parquet, .csv, .json, .jsonl, .ndjson")


def _read_parquet(data: bytes, table: RawTable) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(pa.BufferReader(data))
    columns = _present(file.schema_arrow.names, table)
    yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


def _read_csv(data: bytes, table: RawTable, errors: list[str]) -> Iterator[pa.RecordBatch]:
    header = next(csv.reader(io.StringIO(data[: 1 << 16].decode("utf-8-sig", "replace"))), [])
    columns = _present(header, table)

    def note(row: Any) -> str:
        errors.append(
            f"{row.actual_columns} fields instead of {row.expected_columns}: "
            f"{row.text[:_SHOWN_CHARACTERS]}"
        )
        return "skip"

    yield from pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=columns,
            # Text throughout: the casts know what a value may look like, CSV does not.
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    ).to_batches(BATCH_ROWS)


def _read_json(data: bytes, table: RawTable, errors: list[str]) -> Iterator[pa.RecordBatch]:
    texts = [name for name, kind in table.columns.items() if kind == "text"]
    try:
        rows = pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(use_threads=False),
            # Without it an id that looks like a date would be read as one.
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema([(name, pa.string()) for name in texts])
            ),
        )
    except pa.ArrowInvalid:
        # A broken line or a value whose type changes between lines: line by line, in Python.
        yield from _read_json_lines(data, table, errors)
        return
    # The explicit schema adds its columns whether or not the file has them.
    found = [name for name in rows.column_names if name not in texts or _has_key(data, name)]
    yield from rows.select(_present(found, table)).to_batches(BATCH_ROWS)


def _has_key(data: bytes, name: str) -> bool:
    return json.dumps(name).encode() in data


def _read_json_lines(data: bytes, table: RawTable, errors: list[str]) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    for line in data.splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            row = error
        if isinstance(row, dict):
            rows.append(row)
        else:
            shown = line[:_SHOWN_CHARACTERS].decode("utf-8", "replace")
            errors.append(f"not a JSON object: {shown}")
    if not rows:
        raise UnreadableFileError("no line is a JSON object")
    columns = _present(list({name: None for row in rows for name in row}), table)
    for start in range(0, len(rows), BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        yield pa.RecordBatch.from_pydict(
            {
                name: pa.array(
                    [_json_value(row.get(name), table.columns[name] == "path") for row in part],
                    ARROW_TYPES["path"] if table.columns[name] == "path" else pa.string(),
                )
                for name in columns
            }
        )


def _json_value(value: Any, is_path: bool) -> Any:
    if is_path:
        return [str(part) for part in value] if isinstance(value, list) else None
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _present(found: list[str], table: RawTable) -> list[str]:
    missing = [name for name in table.required if name not in found]
    if missing:
        raise UnreadableFileError(
            f"it has no column {', '.join(missing)}; its columns are {', '.join(found)}"
        )
    return [name for name in table.columns if name in found]


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
    columns += [pa.repeat(pa.scalar(name, text), rows), pa.nulls(rows, text), pa.nulls(rows, text)]
    return pa.RecordBatch.from_arrays(columns, schema=_arrow_schema(table))


def _stand_ins(
    table: RawTable,
    name: str,
    *,
    row_errors: list[str] | None = None,
    file_error: str | None = None,
) -> pa.RecordBatch:
    rows = len(row_errors) if row_errors else 1
    text = pa.string()
    return pa.RecordBatch.from_arrays(
        [
            *(pa.nulls(rows, ARROW_TYPES[kind]) for kind in table.columns.values()),
            pa.repeat(pa.scalar(name, text), rows),
            pa.array(row_errors, text) if row_errors else pa.nulls(rows, text),
            pa.repeat(pa.scalar(file_error, text), rows),
        ],
        schema=_arrow_schema(table),
    )


def _arrow_schema(table: RawTable) -> pa.Schema:
    names = {name: ARROW_TYPES[kind] for name, kind in table.columns.items()}
    names |= dict.fromkeys(("source_file", "row_error", "file_error"), pa.string())
    return pa.schema(list(names.items()))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
