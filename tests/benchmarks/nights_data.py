"""The shop's deliveries, night by night, and what a broken join makes of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

WINDOW_DAYS = 7
"""A delivery holds so many days: lines of an earlier day may have been cancelled since."""


@dataclass(frozen=True)
class Shop:
    """All lines that a shop will ever send, and the nights in which it does.

    Attributes:
        lines: with the columns of Online Retail, `timestamp` in seconds.
        nights: how many nights; the last one is that of the newest line.
    """

    lines: pa.Table
    nights: int

    @classmethod
    def of(cls, path: Path, nights: int) -> Shop:
        """The shop of a file."""
        return cls(pq.read_table(path), nights)

    @cached_property
    def last(self) -> date:
        newest = pc.max(self.lines["timestamp"]).as_py()
        return datetime.fromtimestamp(newest, UTC).date()

    def as_of(self, night: int) -> date:
        """The last day that a night knows; nights are counted from 1."""
        return self.last - timedelta(days=self.nights - night)

    def before(self, night: int) -> pa.Table:
        """Everything up to the day of a night."""
        return self.between(date(1970, 1, 1), self.as_of(night))

    def delivery(self, night: int) -> pa.Table:
        """What comes in before a night: the lines of its day and of the six before."""
        day = self.as_of(night)
        return self.between(day - timedelta(days=WINDOW_DAYS - 1), day)

    def between(self, first: date, last: date) -> pa.Table:
        """The lines of some days, the last one included."""
        times = self.lines["timestamp"]
        return self.lines.filter(
            pc.and_(
                pc.greater_equal(times, _second(first)),
                pc.less(times, _second(last + timedelta(days=1))),
            )
        )


def misjoined(lines: pa.Table, first: date) -> pa.Table:
    """Lines of a job that has put items and invoices together in the wrong order.

    From a day on every line keeps its customer, invoice and time and has the item, price and
    title of another. Each column alone looks as ever: the same rows, customers and items as
    often as before, no null, no unknown code.

    Args:
        lines: a delivery.
        first: the first day that it happens to.
    """
    struck = np.flatnonzero(pc.greater_equal(lines["timestamp"], _second(first)).to_numpy())
    order = np.arange(len(lines))
    order[struck] = np.random.default_rng(4).permutation(struck)
    others = lines.take(pa.array(order))
    for name in ("item_id", "description", "unit_price"):
        lines = lines.set_column(lines.column_names.index(name), name, others[name])
    return lines


def _second(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
