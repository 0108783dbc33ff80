"""Values of any type and spelling as the raw contract's types."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import convert


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["00123", " a ", "", None, "1.0"]), ["00123", " a ", "", None, "1.0"]),
        (pa.array(["ü"], pa.large_string()), ["ü"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([17850, None, -3], pa.int64()), ["17850", None, "-3"]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([17850.0, None, math.nan, math.inf, 2.5]), ["17850", None, None, None, "2.5"]),
        (pa.array([17850.0], pa.float32()), ["17850"]),
        (pa.array([1e300]), ["1e+300"]),
        (pa.array([Decimal("17850.00"), Decimal("2.50")]), ["17850", "2.50"]),
        (pa.array([b"abc", b"\xff", None]), ["abc", None, None]),
        (pa.array([True]), ["true"]),
        (pa.array([{"a": 1}]), [None]),
    ],
)
def test_text(column, expected):
    assert convert.text(column).to_pylist() == expected


def test_untyped_text_drops_the_fraction_that_a_spreadsheet_added():
    column = pa.array(["17850.0", "-3.00", "1.5", "a.0", "v1.0", ""])
    expected = ["17850", "-3", "1.5", "a.0", "v1.0", ""]
    assert convert.text(column, untyped=True).to_pylist() == expected


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_whole_ids_keep_their_digits(values):
    expected = [None if value is None else str(value) for value in values]
    assert convert.text(pa.array(values, pa.int64())).to_pylist() == expected


@given(st.lists(st.none() | st.integers(-(2**53), 2**53)))
def test_float_ids_equal_the_integers_they_were(values):
    floats = pa.array([None if value is None else float(value) for value in values], pa.float64())
    assert (
        convert.text(floats).to_pylist() == convert.text(pa.array(values, pa.int64())).to_pylist()
    )


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["6", " 7 ", "-8", "9.0", "1e3", "2.5", "x", "", None, "nan", "9" * 40]),
         [6, 7, -8, 9, 1000, None, None, None, None, None, None]),
        (pa.array([6.0, 2.5, math.nan, 1e300]), [6, None, None, None]),
        (pa.array([2**62, -(2**63)]), [2**62, -(2**63)]),
        (pa.array([7, 2**64 - 1], pa.uint64()), [7, None]),
        (pa.array([Decimal("3.0"), None]), [3, None]),
        (pa.array([date(2011, 1, 1)]), [None]),
    ],
)  # fmt: skip
def test_whole(column, expected):
    assert convert.whole(column).to_pylist() == expected


def test_number():
    column = pa.array(["2.55", "-1", "inf", "2,55", None, ""])
    assert convert.number(column).to_pylist() == [2.55, -1.0, None, None, None, None]


INVOICE = utc(2010, 12, 1, 8, 26)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1291191960, None]), [INVOICE, None]),
        (pa.array([1291191960000]), [INVOICE]),
        (pa.array([1291191960000000]), [INVOICE]),
        (pa.array([1291191960000000999]), [INVOICE]),
        (pa.array([1291191960.25, math.nan, 1e300]),
         [utc(2010, 12, 1, 8, 26, 0, 250_000), None, None]),
        (pa.array([2**63 - 1, -(2**63)]),
         [utc(2262, 4, 11, 23, 47, 16, 854_775), utc(1677, 9, 21, 0, 12, 43, 145_224)]),
        (pa.array(["1291191960", "1291191960000.0"]), [INVOICE, INVOICE]),
        (pa.array([datetime(2010, 12, 1, 8, 26)], pa.timestamp("ns")), [INVOICE]),
        (pa.array([INVOICE], pa.timestamp("s", tz="America/New_York")), [INVOICE]),
        (pa.array([date(2010, 12, 1)], pa.date32()), [utc(2010, 12, 1)]),
        (pa.array([date(2010, 12, 1)], pa.date64()), [utc(2010, 12, 1)]),
        (pa.array([True]), [utc(1970, 1, 1, 0, 0, 1)]),
        (pa.array([[1]]), [None]),
        (pa.array(["2010-12-01 08:26", "2010-12-01T08:26:00Z", "2010-12-01T10:26:00+02:00",
                   "2010-12-01", "20101201", " 2010-12-01 ", "2011-02-30", "today", "", None]),
         [INVOICE] * 3 + [utc(2010, 12, 1)] * 3 + [None] * 4),
    ],
)  # fmt: skip
def test_moment(column, expected):
    assert convert.moment(column).to_pylist() == expected


def test_moment_in_a_stated_notation():
    column = pa.array(["12/1/2010 8:26", "13/1/2010 8:26", "2010-12-01 08:26", "now"])
    read = convert.moment(column, notation="%m/%d/%Y %H:%M")
    assert read.to_pylist() == [INVOICE, None, None, None]


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1), ("milliseconds", 1000)])
def test_moment_in_a_stated_unit(unit, factor):
    numbers = pa.array([5 * factor, 1291191960 * factor])
    expected = [utc(1970, 1, 1, 0, 0, 5), INVOICE]
    assert convert.moment(numbers, unit=unit).to_pylist() == expected
    texts = numbers.cast(pa.string())
    assert convert.moment(texts, unit=unit).to_pylist() == expected


@given(st.datetimes(datetime(1973, 3, 4), datetime(2261, 1, 1)))
def test_a_time_is_read_the_same_from_every_spelling(moment):
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    seconds = int(moment.timestamp())
    spellings = [
        pa.array([seconds]),
        pa.array([seconds * 1000]),
        pa.array([seconds * 10**6]),
        pa.array([seconds * 10**9]),
        pa.array([float(seconds)]),
        pa.array([str(seconds)]),
        pa.array([moment.isoformat()]),
        pa.array([moment], pa.timestamp("ms", tz="UTC")),
    ]
    assert [convert.moment(column).to_pylist() for column in spellings] == [[moment]] * 8


COLUMNS = st.one_of(
    st.lists(st.none() | st.text()).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.none() | st.floats()).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(lambda v: pa.array(v, pa.int64())),
    st.lists(st.none() | st.integers(0, 2**64 - 1)).map(lambda v: pa.array(v, pa.uint64())),
    st.lists(st.none() | st.binary()).map(lambda v: pa.array(v, pa.binary())),
    st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)).map(
        lambda v: pa.array(v, pa.int32()).cast(pa.date32())
    ),
    st.tuples(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
        st.sampled_from(["s", "ms", "us", "ns"]),
    ).map(lambda v: pa.array(v[0], pa.int64()).cast(pa.timestamp(v[1]))),
)


@given(COLUMNS)
def test_no_value_raises_and_none_is_lost_or_added(column):
    assert convert.text(column).type == pa.string()
    assert convert.number(column).type == pa.float64()
    assert convert.whole(column).type == pa.int64()
    assert convert.moment(column).type == convert.MICROSECONDS
    for read in (convert.text, convert.number, convert.whole, convert.moment):
        values = read(column)
        assert len(values) == len(column)
        assert values.filter(column.is_null()).null_count == column.null_count
