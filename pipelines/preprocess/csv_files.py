"""The rows of a CSV file: all of them text, a line with another number of fields set aside."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from pipelines.preprocess.files import (
    BATCH_ROWS,
    SHOWN_CHARACTERS,
    UnreadableFileError,
    wanted_columns,
)
from pipelines.preprocess.tables import RawTable

_LARGEST_BLOCK = (1 << 31) - 1

_HEADER_BYTES = 1 << 16


def read_csv(data: bytes, table: RawTable, errors: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of the wanted columns, every one string[n].

    Args:
        data: the file, with or without a byte order mark.
        table: which columns to read.
        errors: gets a text for every line that has too few or too many fields.

    Raises:
        UnreadableFileError: no such columns, or a quotation mark that is never closed.
        pa.ArrowException: not CSV, or not UTF-8 in a wanted column.
    """
    start = data[:_HEADER_BYTES].decode("utf-8-sig", "replace")
    columns = wanted_columns(next(csv.reader(io.StringIO(start, newline="")), []), table)
    if _ends_inside_quotes(data):
        raise UnreadableFileError(
            "a quotation mark at the start of a field is never closed and takes the rest of the "
            "file with it"
        )

    if not data.endswith(b"\n"):
        data += b"\n"  # without it a header alone is no file to Arrow

    def note(row: Any) -> str:
        # A stray quotation mark can make one row of several lines: each of them is a lost row.
        counted = f"{row.actual_columns} fields instead of {row.expected_columns}"
        errors.extend(f"{counted}: {line[:SHOWN_CHARACTERS]}" for line in row.text.splitlines())
        return "skip"

    yield from pyarrow.csv.read_csv(
        pa.BufferReader(data),
        # In one block, so that no line can be too long for it.
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=min(len(data) + 1, _LARGEST_BLOCK)
        ),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=columns,
            # Text throughout: the casts know what a value may look like, CSV does not.
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    ).to_batches(BATCH_ROWS)


def _ends_inside_quotes(data: bytes) -> bool:
    """Whether a quoted value is still open at the end of the file, as no parser reports."""
    # Well-formed files have an even number of them and need no second look.
    if data.count(b'"') % 2 == 0:
        return False
    text = io.StringIO(data.decode("utf-8-sig", "replace") + "\nend", newline="")
    try:
        (last,) = deque(csv.reader(text), maxlen=1)
    except csv.Error:  # a field of more than 128 kB
        return True
    return last != ["end"]
