"""Lines of CSV and JSON that cannot be read, or whose time cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Final

import pyarrow as pa

from pipelines.synthesise.dirt.site import Kind, Planted, Site, file_sizes, put
from pipelines.synthesise.formats import csv_bytes, json_lines

_TIMES: Final = ("yesterday", "2024-13-45 12:00:00", "n/a", "12 o'clock")


def _too_many(line: str) -> str:
    return f"{line},surplus"


def _too_few(line: str) -> str:
    return line.rpartition(",")[0]


def _broken(line: str) -> str:
    return line[: len(line) // 2]


def _list(line: str) -> str:
    return json.dumps(list(json.loads(line).values()))


def _plant(
    site: Site,
    rows: int,
    *,
    encode: Callable[[pa.Table], bytes],
    ending: str,
    heading: int,
    spoil: Callable[[str], str],
) -> Planted:
    planted = Planted(rules={"row_unreadable": rows})
    for count in file_sizes(rows):
        day = site.day()
        table, spoilt = site.spoilt(day, count)
        lines = encode(table).decode().splitlines()
        heads, lines = lines[:heading], lines[heading:]
        marks = spoilt.to_pylist()
        lines = [spoil(line) if mark else line for line, mark in zip(lines, marks, strict=True)]
        data = "".join(f"{line}\n" for line in (*heads, *lines)).encode()
        planted.files.append((site.name(day, ending), data))
        planted.kept += table.num_rows - count
        bad = [line for line, mark in zip(lines, marks, strict=True) if mark]
        planted.show(pa.table({"line": bad}))
    return planted


def _plant_times(site: Site, rows: int) -> Planted:
    """Half of the files are CSV, half JSON lines."""
    planted = Planted(rules={"event_time_missing": rows})
    halves = [(rows + 1) // 2, rows // 2]
    for half, encode, ending in zip(
        halves, (csv_bytes, json_lines), (".csv", ".jsonl"), strict=True
    ):
        for count in file_sizes(half):
            day = site.day()
            table, spoilt = site.spoilt(day, count)
            table = put(table, "event_time", spoilt, _TIMES, pa.string())
            planted.files.append((site.name(day, ending), encode(table)))
            planted.kept += table.num_rows - count
            planted.show(table.filter(spoilt))
    return planted


_CSV: Final = partial(_plant, encode=csv_bytes, ending=".csv", heading=1)
_JSON: Final = partial(_plant, encode=json_lines, ending=".jsonl", heading=0)

KINDS: Final = (
    Kind("event_time_text", "quarantined", ("event_time_missing",), _plant_times),
    *(
        Kind(name, "quarantined", ("row_unreadable",), partial(plant, spoil=spoil))
        for name, plant, spoil in (
            ("csv_field_too_many", _CSV, _too_many),
            ("csv_field_too_few", _CSV, _too_few),
            ("json_line_broken", _JSON, _broken),
            ("json_line_list", _JSON, _list),
        )
    ),
)
