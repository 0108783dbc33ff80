"""The two raw tables: their columns, types and which columns must be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Kind = Literal["text", "number", "time", "flag", "path"]

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "number": pa.float64(),
    "time": pa.timestamp("us", tz="UTC"),
    "flag": pa.bool_(),
    "path": pa.list_(pa.string()),
}

_SPARK_TYPES: dict[Kind, str] = {
    "text": "string",
    "number": "double",
    "time": "timestamp",
    "flag": "boolean",
    "path": "array<string>",
}

_ORIGIN = ("source_file", "row_error", "file_error", "file_rule")


@dataclass(frozen=True)
class RawTable:
    """A raw table: what its files are expected to hold."""

    folder: str
    columns: dict[str, Kind]
    required: tuple[str, ...]

    @property
    def spark_schema(self) -> str:
        """The canonical columns, and where a row comes from or why it could not be read.

        `row_error` is set on a row that stands for an unreadable line, `file_error` and
        `file_rule` (one of `rules.FILE_RULES`) on the one row that stands for an unreadable file;
        the table's own columns are null in both. A row whose flag says neither true nor false has
        `row_error` too, and its other columns.
        """
        columns = [f"{name} {_SPARK_TYPES[kind]}" for name, kind in self.columns.items()]
        return ", ".join([*columns, *(f"{name} string" for name in _ORIGIN)])

    @property
    def arrow_schema(self) -> pa.Schema:
        """The same columns in Arrow's types."""
        columns = [(name, ARROW_TYPES[kind]) for name, kind in self.columns.items()]
        return pa.schema([*columns, *((name, pa.string()) for name in _ORIGIN)])


INTERACTIONS = RawTable(
    folder="interactions",
    columns={
        "user_id": "text",
        "item_id": "text",
        "event_type": "text",
        "event_time": "time",
        "quantity": "number",
        "price": "number",
        "rating": "number",
        "market": "text",
    },
    required=("user_id", "item_id", "event_time"),
)

ITEMS = RawTable(
    folder="items",
    columns={"item_id": "text", "category": "path", "is_live": "flag", "title": "text"},
    required=("item_id",),
)
