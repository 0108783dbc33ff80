"""The rows of a JSON lines file: by Arrow where every line is well formed, else line by line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.json

from pipelines.preprocess.files import (
    BATCH_ROWS,
    SHOWN_CHARACTERS,
    UnreadableFileError,
    wanted_columns,
)
from pipelines.preprocess.tables import ARROW_TYPES, RawTable

_LARGEST_BLOCK = (1 << 31) - 1

# Arrow's parser recurses, and a line of a hundred thousand brackets ends the process.
_DEEPEST = 500


def read_json(data: bytes, table: RawTable, errors: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of the wanted columns, of whatever type the file gives them.

    Args:
        data: the file, with or without a byte order mark.
        table: which columns to read.
        errors: gets a text for every line that is not a JSON object.

    Raises:
        UnreadableFileError: no line is an object, or no line has a required column.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    if _may_be_deep(data):
        yield from _read_lines(data, table, errors)
        return
    texts = [name for name, kind in table.columns.items() if kind == "text"]
    try:
        rows = pyarrow.json.read_json(
            pa.BufferReader(data),
            # In one block, so that no line can be too long for it.
            read_options=pyarrow.json.ReadOptions(
                use_threads=False, block_size=min(len(data) + 1, _LARGEST_BLOCK)
            ),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_text_types(data, texts)),
        )
    except pa.ArrowInvalid:
        # A broken line or a value whose type changes between lines.
        yield from _read_lines(data, table, errors)
        return
    # The explicit schema adds its columns whether or not the file has them.
    found = [name for name in rows.column_names if name not in texts or _has_key(data, name)]
    yield from rows.select(wanted_columns(found, table)).to_batches(BATCH_ROWS)


def _may_be_deep(data: bytes) -> bool:
    # A line opens as many brackets as it is deep; in most files each opens one.
    if _brackets(data) <= data.count(b"\n") + _DEEPEST:
        return False
    return any(_brackets(line) > _DEEPEST for line in data.splitlines())


def _brackets(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _text_types(data: bytes, texts: list[str]) -> pa.Schema:
    """Text columns as text, since an id that looks like a date would be read as one.

    Where the first line has a whole number it is a number, since to Arrow that is no text.
    """
    first = _parse(data[: data.find(b"\n") + 1] or data)
    numbers = {name for name in texts if isinstance(first, dict) and type(first.get(name)) is int}
    return pa.schema([(name, pa.int64() if name in numbers else pa.string()) for name in texts])


def _has_key(data: bytes, name: str) -> bool:
    return json.dumps(name).encode() in data


def _read_lines(data: bytes, table: RawTable, errors: list[str]) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    for line in data.splitlines():
        if not line.strip():
            continue
        row = _parse(line)
        if isinstance(row, dict):
            rows.append(row)
        else:
            shown = line[:SHOWN_CHARACTERS].decode("utf-8", "replace")
            errors.append(f"not a JSON object: {shown}")
    if not rows:
        raise UnreadableFileError("no line is a JSON object")
    columns = wanted_columns(list({name: None for row in rows for name in row}), table)
    for start in range(0, len(rows), BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        yield pa.RecordBatch.from_pydict(
            {
                name: pa.array([_path(row.get(name)) for row in part], ARROW_TYPES["path"])
                if table.columns[name] == "path"
                else pa.array([_text(row.get(name)) for row in part], pa.string())
                for name in columns
            }
        )


def _parse(line: bytes) -> Any:
    """The value of a line; None when it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which no text can hold
        return None
    return value


def _path(value: Any) -> list[str | None] | None:
    if isinstance(value, list):
        return [_text(part) for part in value]
    text = _text(value)
    return None if text is None else [text]
