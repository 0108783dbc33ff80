"""One raw column as its canonical type, leniently: what does not fit becomes null.

Days of one feed differ in types: an id as int64 or, where pandas met a null, float64; a time as
text, date, epoch or nanoseconds. The import reads a retailer's own file by the same functions.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines import convert
from pipelines.preprocess.tables import ARROW_TYPES, Kind


def cast(column: pa.Array, kind: Kind, *, untyped: bool) -> pa.Array:
    """A column of any Arrow type as `ARROW_TYPES[kind]`, of the same length.

    Args:
        column: what a file holds.
        kind: what it should be.
        untyped: whether the file's format writes numbers as text (see `convert.text`).
    """
    match kind:
        case "text":
            return convert.text(column, untyped=untyped)
        case "number":
            return convert.real(column)
        case "time":
            return convert.moment(column)
        case "flag":
            return convert.flag(column)
        case "path":
            return _path(column)


def _path(column: pa.Array) -> pa.Array:
    """Lists of strings; a text is a path of one level."""
    kind = column.type
    if pa.types.is_nested(kind):
        try:
            return column.cast(ARROW_TYPES["path"])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pa.nulls(len(column), ARROW_TYPES["path"])
    texts = convert.blank_as_null(convert.text(column)).to_pylist()
    return pa.array([text and [text] for text in texts], ARROW_TYPES["path"])
