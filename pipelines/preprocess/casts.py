"""Lenient casts of one Arrow column: a value that does not fit becomes null, never an error.

Days of one feed differ in types (an id as int64 or, where pandas met a null, float64; a time as
text, date, epoch or nanoseconds). Every cast maps all of them onto the one canonical type.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.preprocess.tables import ARROW_TYPES, Kind

# An epoch count of this size or more is in the next smaller unit: 1e11 s is the year 5138,
# 1e11 ms is 1973.
_MILLISECONDS_FROM, _MICROSECONDS_FROM, _NANOSECONDS_FROM = 10**11, 10**14, 10**17

_TRUE, _FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}


def cast(column: pa.Array, kind: Kind) -> pa.Array:
    """A column as its canonical type; values that cannot be cast are null.

    Args:
        column: any Arrow type.
        kind: what it should be.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if column.type == ARROW_TYPES[kind]:
        return column if kind != "number" else _finite(column)
    return _CASTS[kind](column)


def _is_scalar(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_null(kind))


def _nulls(column: pa.Array, kind: Kind) -> pa.Array:
    return pa.nulls(len(column), ARROW_TYPES[kind])


def _text(column: pa.Array) -> pa.Array:
    if not _is_scalar(column.type):
        return _nulls(column, "text")
    if pa.types.is_floating(column.type):
        column = _finite(column.cast(pa.float64()))
        # 12345.0 is the id 12345 of a day on which pandas met a null.
        whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        as_integer = pc.cast(column, pa.int64(), safe=False).cast(pa.string())
        return pc.if_else(whole, as_integer, column.cast(pa.string()))
    return column.cast(pa.string())


def _number(column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type):
        return _finite(_parse(column, pa.float64(), float))
    kind = column.type
    if pa.types.is_boolean(kind) or not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    ):
        return _nulls(column, "number")
    return _finite(column.cast(pa.float64(), safe=False))


def _finite(column: pa.Array) -> pa.Array:
    """NaN and infinities are how other tools write "nothing"; sums must not meet them."""
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))


def _time(column: pa.Array) -> pa.Array:
    kind, target = column.type, ARROW_TYPES["time"]
    if pa.types.is_timestamp(kind):
        # A timestamp without zone is taken as UTC, which is what the raw layout says it is.
        return column.cast(pa.timestamp(kind.unit, tz="UTC")).cast(target, safe=False)
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("us")).cast(target)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _epoch(column)
    if pa.types.is_string(kind):
        return _parse(column, target, _parse_time)
    return _nulls(column, "time")


def _epoch(column: pa.Array) -> pa.Array:
    number = _finite(column.cast(pa.float64(), safe=False))
    size = pc.abs(number)
    scale = pc.if_else(
        pc.less(size, float(_MILLISECONDS_FROM)),
        1e6,
        pc.if_else(
            pc.less(size, float(_MICROSECONDS_FROM)),
            1e3,
            pc.if_else(pc.less(size, float(_NANOSECONDS_FROM)), 1.0, 1e-3),
        ),
    )
    micros = pc.floor(pc.multiply(number, scale))
    return pc.cast(micros, pa.int64(), safe=False).cast(ARROW_TYPES["time"])


def _parse_time(text: str) -> int | None:
    """Microseconds since 1970 of ISO 8601 text or of an epoch count written as text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        number = float(text)
        micros = _epoch(pa.array([number])).cast(pa.int64())[0].as_py()
        return None if micros is None else int(micros)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _flag(column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type):
        return _parse(pc.utf8_lower(column), pa.bool_(), _parse_flag)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return pc.not_equal(column, 0)
    return _nulls(column, "flag")


def _parse_flag(text: str) -> bool | None:
    return True if text in _TRUE else False if text in _FALSE else None


def _path(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type):
            return column.cast(ARROW_TYPES["path"])
        return _nulls(column, "path")
    if pa.types.is_string(kind):
        return pa.array(
            [None if v is None else [v] for v in column.to_pylist()], pa.list_(pa.string())
        )
    return _nulls(column, "path")


def _parse(column: pa.Array, kind: pa.DataType, parse: Callable[[str], Any]) -> pa.Array:
    """Parse text: by Arrow when it can read every value, else each distinct value by `parse`."""
    text = pc.utf8_trim_whitespace(column)
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        encoded = text.dictionary_encode()
    values = []
    for value in encoded.dictionary.to_pylist():
        try:
            values.append(parse(value))
        except (ValueError, OverflowError):
            values.append(None)
    return pa.array(values, kind).take(encoded.indices)


_CASTS: dict[Kind, Callable[[pa.Array], pa.Array]] = {
    "text": _text,
    "number": _number,
    "time": _time,
    "flag": _flag,
    "path": _path,
}
