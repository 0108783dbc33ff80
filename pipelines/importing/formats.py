"""The rows of a file in batches: Parquet, CSV and JSON lines.

CSV and JSON have no types worth trusting (a reader that guesses them from the first rows turns the
id 00123 into 123), so their values arrive as text and `convert` reads them.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipelines.errors import UsageError
from pipelines.importing.sources import SourceFile

BATCH_ROWS: Final = 131_072
CSV_BLOCK_BYTES: Final = 16 << 20
# A JSON line names only the columns it has; these many lines stand for all when columns are listed.
JSON_HEAD_LINES: Final = 10_000


def column_names(file: SourceFile) -> list[str]:
    """The columns of a file, in its order.

    Raises:
        UsageError: the file cannot be read.
    """
    with _readable(file), file.open() as stream:
        if file.kind == "parquet":
            return list(pq.ParquetFile(stream).schema_arrow.names)
        if file.kind == "csv":
            return _header(stream)[0]
        head = itertools.islice(_json_rows(stream), JSON_HEAD_LINES)
        return list(dict.fromkeys(name for row in head for name in row))


def batches(file: SourceFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in its order, a bounded number at a time.

    Args:
        file: what to read.
        columns: the columns wanted. Parquet keeps its types, CSV gives strings, JSON strings or
            lists of strings.

    Raises:
        UsageError: the file cannot be read to its end.
    """
    wanted = list(dict.fromkeys(columns))
    with _readable(file), file.open() as stream:
        if file.kind == "parquet":
            parquet = pq.ParquetFile(stream)
            yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        elif file.kind == "csv":
            yield from _csv_batches(file, wanted, stream)
        else:
            rows = _json_rows(stream)
            while some := list(itertools.islice(rows, BATCH_ROWS)):
                arrays = [_json_column([row.get(name) for row in some]) for name in wanted]
                yield pa.RecordBatch.from_arrays(arrays, names=wanted)


def _header(stream: BinaryIO) -> tuple[list[str], str]:
    """The names in the first line of a CSV file, and the delimiter that splits it most."""
    line = stream.readline().decode("utf-8-sig")
    if not line.strip():
        raise ValueError("its first line, which should name the columns, is empty")
    delimiter = max(",;\t|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def _csv_batches(file: SourceFile, wanted: list[str], stream: BinaryIO) -> Iterator[pa.RecordBatch]:
    with file.open() as first:
        names, delimiter = _header(first)
    with pacsv.open_csv(
        stream,
        pacsv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=wanted,
            strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


def _json_rows(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not an object; one object a line is expected")
        yield row


def _json_column(values: list[Any]) -> pa.Array:
    # Most columns are texts alone, which need no look at each value.
    with contextlib.suppress(pa.ArrowTypeError, pa.ArrowInvalid, UnicodeEncodeError):
        return pa.array(values, pa.string())
    if any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) or value is None else [value] for value in values]
        texts = [None if value is None else [_json_text(v) for v in value] for value in lists]
        return pa.array(texts, pa.list_(pa.string()))
    return pa.array([_json_text(value) for value in values], pa.string())


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no UTF-8 text can hold.
        return value.encode("utf-8", "replace").decode()
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return json.dumps(value)


@contextlib.contextmanager
def _readable(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Cannot read {file.address}: it is not UTF-8 text; convert it (for example with "
            "iconv -f WINDOWS-1252 -t UTF-8) and import it again."
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException, ValueError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
        hint = "whole" if file.kind != "json" else "whole, one JSON object a line"
        raise UsageError(
            f"Cannot read {file.address} as {file.kind}: {reason.rstrip('.')}; check that the "
            f"file is {hint} and that you may read it."
        ) from error
