"""Sound events that do not become interactions: repeated ones, returned purchases, bots."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from pipelines.synthesise.dirt.site import Kind, Planted, Site, file_sizes, replaced
from pipelines.synthesise.formats import parquet_bytes

_BOT_ROWS: Final = 1_100  # events of a bot in one day: more than the 1,000 a person may have
_BOT_ROWS_NEXT_DAY: Final = 5
_BOT_SECONDS: Final = 45  # between two events of a bot


def _add(planted: Planted, site: Site, day: date, table: pa.Table) -> None:
    planted.files.append((site.name(day, ".parquet"), parquet_bytes(table)))


def _within_file(site: Site, rows: int) -> Planted:
    planted = Planted(rules={"duplicate": rows}, kept=rows)
    for count in file_sizes(rows):
        day = site.day()
        once = site.sound(day, count)
        twice = pa.concat_tables([once, once]).take(site.rng.permutation(2 * count))
        _add(planted, site, day, twice)
        planted.show(once)
    return planted


def _on_another_day(site: Site, rows: int) -> Planted:
    planted = Planted(rules={"duplicate": rows}, kept=rows)
    for count in file_sizes(rows):
        day = site.day()
        once = site.sound(day, count)
        _add(planted, site, day, once)
        _add(planted, site, day + timedelta(days=1), once)
        planted.show(once)
    return planted


def _whole_file(site: Site, rows: int) -> Planted:
    planted = Planted(rules={"duplicate": rows}, kept=rows)
    for count in file_sizes(rows):
        day = site.day()
        once = site.sound(day, count)
        _add(planted, site, day, once)
        _add(planted, site, day, once)
        planted.show(once)
    return planted


def _other_price(site: Site, rows: int) -> Planted:
    planted = Planted(rules={"repeated_event": rows}, kept=rows)
    for count in file_sizes(rows):
        day = site.day()
        once = site.sound(day, count)
        dearer = replaced(once, "price", once["price"].to_numpy() + 1)
        both = pa.concat_tables([once, dearer]).take(site.rng.permutation(2 * count))
        _add(planted, site, day, both)
        planted.show(dearer)
    return planted


def _returned(site: Site, rows: int) -> Planted:
    """Purchases, and their returns on the next day; every other return has a negative quantity."""
    planted = Planted(rules={"return": rows, "cancelled_purchase": rows})
    for count in file_sizes(rows):
        day = site.day()
        bought = site.sound(day, count)
        sign = np.where(np.arange(count) % 2, -1, 1)
        later = bought["event_time"].to_numpy() + np.timedelta64(1, "D")
        back = replaced(bought, "event_type", ["return"] * count)
        back = replaced(back, "event_time", later)
        back = replaced(back, "quantity", bought["quantity"].to_numpy() * sign)
        _add(planted, site, day, bought)
        _add(planted, site, day + timedelta(days=1), back)
        planted.show(back)
    return planted


def _bots(site: Site, rows: int) -> Planted:
    """Users with more events in one day than a person has; as many users as come near `rows`."""
    each = _BOT_ROWS + _BOT_ROWS_NEXT_DAY
    bots = max(1, round(rows / each))
    planted = Planted(rules={"bot": bots * each})
    for _ in range(bots):
        day = site.day()
        table = site.sound(day, each)
        start = np.datetime64(day, "us") + np.timedelta64(6, "h")
        step = np.arange(each) * np.timedelta64(_BOT_SECONDS, "s")
        step[_BOT_ROWS:] += np.timedelta64(1, "D")
        table = replaced(table, "user_id", [table["user_id"][0].as_py()] * each)
        table = replaced(table, "event_time", start + step.astype("timedelta64[us]"))
        _add(planted, site, day, table.slice(0, _BOT_ROWS))
        _add(planted, site, day + timedelta(days=1), table.slice(_BOT_ROWS))
        planted.show(table)
    return planted


KINDS: Final = (
    Kind("duplicate_within_file", "dropped", ("duplicate",), _within_file),
    Kind("duplicate_on_another_day", "dropped", ("duplicate",), _on_another_day),
    Kind("duplicate_file", "dropped", ("duplicate",), _whole_file),
    Kind("repeated_with_other_price", "dropped", ("repeated_event",), _other_price),
    Kind("returned_purchase", "dropped", ("return", "cancelled_purchase"), _returned),
    Kind("bot", "dropped", ("bot",), _bots),
)
