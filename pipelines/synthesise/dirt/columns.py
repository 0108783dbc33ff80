"""Rows with one value that a rule forbids, in Parquet, among sound ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import Any, Final

import pyarrow as pa

from pipelines.synthesise.dirt.site import Kind, Planted, Site, file_sizes, put
from pipelines.synthesise.events import SCHEMA
from pipelines.synthesise.formats import parquet_bytes

_TEXT: Final = pa.string()
_NUMBER: Final = pa.float64()
_TIME: Final = SCHEMA.field("event_time").type

_BLANKS: Final = (" ", "   ", "\t", " \t ")
_LONG: Final = ("x" * 256, "é" * 256, "long-" * 2000)
_UNPRINTABLE: Final = ("a\x00b", "a\x01b", "a\x1b[31mb", "a\nb", "a\x7fb", "a\x85b")
_EPOCH: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 12, 31, 23, 59, tzinfo=UTC))
_NAN: Final = (float("nan"),)
_INFINITE: Final = (float("inf"), float("-inf"))

_SOUND_RATING: Final = 4.0


def _plant(
    site: Site, rows: int, *, column: str, rule: str, values: Sequence[Any], kind: pa.DataType
) -> Planted:
    planted = Planted(rules={rule: rows})
    for count in file_sizes(rows):
        day = site.day()
        table, spoilt = site.spoilt(day, count)
        if column not in table.schema.names:
            table = table.append_column(column, pa.repeat(_SOUND_RATING, table.num_rows))
        table = put(table, column, spoilt, values, kind)
        planted.files.append((site.name(day, ".parquet"), parquet_bytes(table)))
        planted.kept += table.num_rows - count
        planted.show(table.filter(spoilt))
    return planted


def _plant_future(site: Site, rows: int) -> Planted:
    end = datetime.combine(site.config.last_day, time(), UTC) + timedelta(days=1)
    values = [end, end + timedelta(days=1), end + timedelta(days=400)]
    return _plant(
        site, rows, column="event_time", rule="event_time_after_as_of", values=values, kind=_TIME
    )


def _kind(
    name: str, rule: str, column: str, values: Sequence[Any], kind: pa.DataType = _TEXT
) -> Kind:
    plant = partial(_plant, column=column, rule=rule, values=values, kind=kind)
    return Kind(name, "quarantined", (rule,), plant)


KINDS: Final = (
    *(
        _kind(f"{id_}_{name}", f"{id_}_{rule}", id_, values)
        for id_ in ("user_id", "item_id")
        for name, rule, values in (
            ("null", "missing", (None,)),
            ("empty", "missing", ("",)),
            ("blank", "missing", _BLANKS),
            ("long", "too_long", _LONG),
            ("control", "unprintable", _UNPRINTABLE),
        )
    ),
    _kind("event_type_word", "event_type_unknown", "event_type", ("click", "wishlist", "returned")),
    _kind("event_time_null", "event_time_missing", "event_time", (None,), _TIME),
    _kind("event_time_1970", "event_time_before_2000", "event_time", _EPOCH, _TIME),
    Kind("event_time_future", "quarantined", ("event_time_after_as_of",), _plant_future),
    _kind("quantity_zero", "quantity_not_positive", "quantity", (0,), pa.int32()),
    _kind("quantity_negative", "quantity_not_positive", "quantity", (-1, -12), pa.int32()),
    _kind("price_below_zero", "price_negative", "price", (-0.01, -25.0), _NUMBER),
    *(
        _kind(f"{column}_{name}", f"{column}_not_finite", column, values, _NUMBER)
        for column in ("quantity", "price", "rating")
        for name, values in (("nan", _NAN), ("infinite", _INFINITE))
    ),
)
