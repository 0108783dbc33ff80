"""A retailer's values as the raw contract's types.

Every function takes a column of any Arrow type and returns one of a fixed type and the same
length. A value that cannot be read so becomes null; none raises for a value.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MICROSECONDS: Final = pa.timestamp("us", tz="UTC")

# The years 1 to 9999, in microseconds since 1970: what a dt=YYYY-MM-DD folder can name.
EARLIEST: Final = -62_135_596_800_000_000
LATEST: Final = 253_402_300_799_999_999

_NUMBER: Final = r"(?i)^[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|inf(inity)?|nan)$"

_TRUE: Final = ("true", "t", "yes", "y", "on", "1")
_FALSE: Final = ("false", "f", "no", "n", "off", "0")

# float64 counts by ones up to here.
LARGEST_EXACT: Final = 2.0**53


def text(column: pa.Array, *, untyped: bool = False) -> pa.Array:
    """Strings: whole numbers as their digits (17850.0 is 17850), everything else as it stands.

    Args:
        column: any column.
        untyped: whether a text may be a whole number that lost its type on the way, as in a CSV
            file of a program that writes the customer 17850 as 17850.0.

    Returns:
        string[n].
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_string(kind):
        column = _valid_utf8(column)
        return _without_fraction(column) if untyped else column
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
        values = column.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**63)
        digits = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
        column = pc.if_else(pc.is_finite(column), column, None)
        return pc.if_else(pa.array(whole), digits, column.cast(pa.string()))
    if pa.types.is_decimal(kind):
        return _without_fraction(column.cast(pa.string()))
    if _is_binary(kind):
        return _decoded(column)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(column), pa.string())


def real(column: pa.Array) -> pa.Array:
    """float64[n]; texts as in English notation (12.5), infinities and NaN as they stand."""
    column = _plain(column)
    kind = column.type
    if pa.types.is_string(kind):
        return _reals_of_texts(column)
    if _is_number(kind):
        return column.cast(pa.float64(), safe=False)
    return pa.nulls(len(column), pa.float64())


def number(column: pa.Array) -> pa.Array:
    """float64[n] as `real` reads it, infinities and NaN as null."""
    column = real(column)
    return pc.if_else(pc.is_finite(column), column, None)


def _reals_of_texts(column: pa.Array) -> pa.Array:
    column = pc.utf8_trim_whitespace(_valid_utf8(column))
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:  # at least one of them is no number
        is_number = pc.match_substring_regex(column, _NUMBER)
        without_plus = pc.replace_substring_regex(column, r"^\+", "")
        return pc.if_else(is_number, without_plus, None).cast(pa.float64())


def whole(column: pa.Array) -> pa.Array:
    """int64[n]; a number with a fraction becomes null."""
    column = _plain(column)
    if pa.types.is_signed_integer(column.type):
        return column.cast(pa.int64())
    numbers = number(column)
    values = numbers.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        usable = (values == np.floor(values)) & (np.abs(values) <= LARGEST_EXACT)
    return pa.array(np.where(usable, values, 0).astype(np.int64), mask=~usable)


def moment(
    column: pa.Array,
    *,
    unit: Literal["auto", "seconds", "milliseconds"] = "auto",
    notation: str | None = None,
) -> pa.Array:
    """timestamp[us, UTC][n]; what names no time zone is UTC.

    Args:
        column: times, dates, numbers since 1970 or texts.
        unit: of numbers. With "auto" a number is of seconds, milli-, micro- or nanoseconds by its
            magnitude, right for every time between 1973 and 5138.
        notation: of texts, as `datetime.strptime` has it; without it texts are ISO 8601 or numbers
            (of at least nine digits with unit "auto": 20111209 is a date).
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_timestamp(kind):
        per_unit = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 0}[kind.unit]
        since_1970 = _microseconds(column.cast(pa.int64()), per_unit)
    elif pa.types.is_date32(kind):
        since_1970 = _microseconds(column.cast(pa.int32()).cast(pa.int64()), 86_400_000_000)
    elif pa.types.is_date64(kind):
        since_1970 = _microseconds(column.cast(pa.int64()), 1000)
    elif pa.types.is_string(kind):
        since_1970 = _moments_of_texts(column, unit, notation)
    elif _is_number(kind):
        since_1970 = _since_1970(column, unit)
    else:
        return pa.nulls(len(column), MICROSECONDS)
    in_range = pc.and_(pc.greater_equal(since_1970, EARLIEST), pc.less_equal(since_1970, LATEST))
    return pc.if_else(in_range, since_1970, None).cast(MICROSECONDS)


def _microseconds(column: pa.Array, per_unit: int) -> pa.Array:
    """int64[n] of so many microseconds each (0: of nanoseconds); null where they are too many."""
    if per_unit == 0:
        return pc.divide(column, 1000)
    most = LATEST // per_unit
    in_range = pc.and_(pc.greater_equal(column, -most), pc.less_equal(column, most))
    return pc.multiply(pc.if_else(in_range, column, None), per_unit)


def _moments_of_texts(column: pa.Array, unit: str, notation: str | None) -> pa.Array:
    column = pc.utf8_trim_whitespace(_valid_utf8(column))
    if notation is None:
        # All of them in one plain spelling is what most files hold, and a hundred times as fast.
        for kind in (pa.timestamp("us"), MICROSECONDS):
            with contextlib.suppress(pa.ArrowInvalid):
                return column.cast(kind).cast(pa.int64())
    # pandas reads "now" and "today" as the time of reading; a date has digits.
    column = pc.if_else(pc.match_substring_regex(column, "[0-9]"), column, None)
    texts = pd.Series(column.to_pandas(), dtype=object)
    read = pd.to_datetime(texts, format=notation or "ISO8601", errors="coerce", utc=True)
    moments = pa.array(read.astype("datetime64[us, UTC]")).cast(pa.int64())
    moments = pc.if_else(moments.is_null(), _far_moments(column), moments)
    if notation is not None:
        return moments
    digits = 9 if unit == "auto" else 1
    is_number = pc.match_substring_regex(column, rf"^-?\d{{{digits},}}(\.\d*)?$")
    if not pc.any(is_number).as_py():
        return moments
    return pc.if_else(pc.fill_null(is_number, False), _since_1970(column, unit), moments)


def _far_moments(column: pa.Array) -> pa.Array:
    """Microseconds since 1970 of days that pandas' nanoseconds cannot reach, such as 9999-12-31."""
    day = pc.utf8_slice_codeunits(column, 0, 10)
    is_far = pc.match_substring_regex(day, r"^(0\d{3}|1[0-6]\d\d|2[3-9]\d\d|[3-9]\d{3})-\d\d-\d\d$")
    if not pc.any(is_far).as_py():
        return pa.nulls(len(column), pa.int64())
    days = pc.strptime(pc.if_else(is_far, day, None), "%Y-%m-%d", "us", error_is_null=True)
    return days.cast(pa.int64())


def _since_1970(column: pa.Array, unit: str) -> pa.Array:
    """Microseconds since 1970 of numbers, int64[n]; null where they leave the years 1 to 9999."""
    exact = pa.types.is_signed_integer(column.type)
    # Kept as integers where they are: float64 cannot hold nanoseconds of today.
    numbers = column.cast(pa.int64()) if exact else number(column)
    missing = pc.is_null(numbers).to_numpy(zero_copy_only=False)
    values: Any = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)
    size = np.abs(values.astype(np.float64))
    if unit == "auto":
        per_unit = np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)
    else:
        per_unit = np.full(len(values), {"seconds": 1e6, "milliseconds": 1e3}[unit])
    with np.errstate(over="ignore"):
        usable = ~missing & (size * per_unit <= LATEST)
    if exact:
        factor = np.maximum(per_unit, 1).astype(np.int64)
        moments = np.where(usable, values, 0) * factor
        moments = np.where(per_unit < 1, moments // 1000, moments)
    else:
        moments = np.rint(np.where(usable, values, 0) * per_unit).astype(np.int64)
    return pa.array(moments, pa.int64(), mask=~usable)


def flag(column: pa.Array) -> pa.Array:
    """bool[n] of true, yes, on, 1 and 1.0, and of their opposites, in any case."""
    # A column of 0 and 1 with a gap in it is written as 0.0 and 1.0 by pandas.
    words = _without_fraction(pc.utf8_lower(pc.utf8_trim_whitespace(text(column))))
    is_true, is_false = (pc.is_in(words, pa.array(some)) for some in (_TRUE, _FALSE))
    return pc.if_else(pc.or_(is_true, is_false), is_true, pa.scalar(None, pa.bool_()))


def blank_as_null(column: pa.Array) -> pa.Array:
    """string[n] without spaces at either end, null where nothing else is there."""
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(column, ""), None, column)


def given(column: pa.Array) -> pa.Array:
    """bool[n]: whether a row says anything here; blanks and NaN say nothing."""
    column = _plain(column)
    if pa.types.is_string(column.type):
        column = blank_as_null(column)
    return pc.invert(column.is_null(nan_is_null=True))


def _plain(column: pa.Array) -> pa.Array:
    """The same values without dictionaries and 64-bit offsets."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _without_fraction(column: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(column, r"^(-?\d+)\.0+$", r"\1")


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _valid_utf8(column: pa.Array) -> pa.Array:
    """The same strings; null where a damaged file holds bytes that are none."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return _decoded(column.cast(pa.binary()))
    return column


def _decoded(column: pa.Array) -> pa.Array:
    def decode(value: bytes | None) -> str | None:
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            return None

    return pa.array([decode(value) for value in column.to_pylist()], pa.string())
