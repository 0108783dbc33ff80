"""Drift between days: the shop's own days in another format, other types or late; all of it kept.

A day that drifts holds the same events as without, so the same histories must come of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.synthesise.dirt.site import LATER_DAYS, Kind, Planted, Site, folder_of
from pipelines.synthesise.formats import csv_bytes, gzipped, json_lines, parquet_bytes

_LATE_SHARE: Final = 0.1  # of the rows of a day with late ones
_NUMBERED_ROWS: Final = 200
_FIRST_NUMBER: Final = 9_000_000_000  # user numbers that no padded id of the shop is written like

Encode = Callable[[pa.Table], bytes]


def _nanoseconds(table: pa.Table) -> bytes:
    return parquet_bytes(_retyped(table, "event_time", pa.timestamp("ns", tz="UTC")))


def _retyped(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    position = table.schema.get_field_index(name)
    return table.set_column(position, name, table[name].cast(kind))


def _all_texts(table: pa.Table, kind: pa.DataType) -> bytes:
    for name in ("user_id", "item_id", "event_type", "market"):
        table = _retyped(table, name, kind)
    return parquet_bytes(table)


def _column_added(table: pa.Table) -> bytes:
    campaign = pa.repeat(pa.scalar("summer"), table.num_rows)
    return parquet_bytes(table.append_column("campaign", campaign))


def _column_missing(table: pa.Table) -> bytes:
    return parquet_bytes(table.drop_columns("market"))


def _plain(table: pa.Table) -> bytes:
    return parquet_bytes(table)


_LATE: Final = "late_events"

_ENCODERS: Final[dict[str, tuple[str, Encode]]] = {
    "as_csv": (".csv", csv_bytes),
    "as_csv_gz": (".csv.gz", lambda table: gzipped(csv_bytes(table))),
    "as_json": (".json", json_lines),
    "as_jsonl_gz": (".jsonl.gz", lambda table: gzipped(json_lines(table))),
    "times_in_nanoseconds": (".parquet", _nanoseconds),
    "column_added": (".parquet", _column_added),
    "column_missing": (".parquet", _column_missing),
    "texts_as_dictionary": (
        ".parquet",
        partial(_all_texts, kind=pa.dictionary(pa.int32(), pa.string())),
    ),
    "texts_large": (".parquet", partial(_all_texts, kind=pa.large_string())),
    _LATE: (".parquet", _plain),
}


def day_files(
    day: date, part: int, table: pa.Table, drift: str | None, rng: np.random.Generator
) -> list[tuple[str, bytes]]:
    """The rows of a day as files of the raw layout.

    Args:
        day: the day.
        part: number of the part, where a day has several.
        table: its rows.
        drift: the kind of drift that happens to the day, or None.
        rng: says which rows come late.
    """
    ending, encode = _ENCODERS[drift] if drift else (".parquet", _plain)
    late = []
    if drift == _LATE and table.num_rows > 1:
        is_late = rng.permutation(table.num_rows) < max(1, int(_LATE_SHARE * table.num_rows))
        delivered = day + timedelta(days=int(rng.integers(1, LATER_DAYS + 1)))
        name = f"{folder_of(delivered)}/late-{day.isoformat()}-{part:05d}{ending}"
        late = [(name, encode(table.filter(pa.array(is_late))))]
        table = table.filter(pc.invert(pa.array(is_late)))
    return [(f"{folder_of(day)}/part-{part:05d}{ending}", encode(table)), *late]


def _numbered(site: Site, files: int) -> Planted:
    """Files of their own, whose users are int64."""
    planted = Planted()
    for number in range(files):
        day = site.day()
        table = site.sound(day, _NUMBERED_ROWS)
        first = _FIRST_NUMBER + number * _NUMBERED_ROWS
        users = pa.array(np.arange(first, first + _NUMBERED_ROWS), pa.int64())
        table = table.set_column(0, "user_id", users)
        planted.files.append((site.name(day, ".parquet"), parquet_bytes(table)))
        planted.kept += table.num_rows
        planted.show(table)
    return planted


KINDS: Final = (
    *(Kind(name, "kept", (), None) for name in _ENCODERS),
    Kind("users_as_int64", "kept", (), _numbered),
)
