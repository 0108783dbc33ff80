"""Where one kind of dirt is planted: users, days, files and random numbers of its own.

Kinds share no user and no file, so that each is counted as if there were no other. Every row is
drawn here as a sound one, and the kind then spoils some.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.synthesise.catalogue import item_ids, item_prices
from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.events import SCHEMA
from pipelines.synthesise.latent import Floats, item_points

Fate = Literal["quarantined", "dropped", "files", "kept"]

# The last days take no file of a kind's own, so that a later day can always follow one.
LATER_DAYS = 3

# Larger ones of a kind are several files, on several days.
_FILE_ROWS = 20_000

# Sound rows beside spoilt ones in a file: one each, up to so many.
_SOUND_BESIDE = 50

_OPENS, _CLOSES = 7 * 3600, 23 * 3600  # as the shop's own events

_EXAMPLES = 3
_SHOWN_CHARACTERS = 80


@dataclass
class Planted:
    """What was planted of one kind.

    Attributes:
        files: name and content of each.
        rules: rows, or files, that must be counted under each rule.
        kept: rows of these files that must be kept.
        examples: some of the planted rows, column by column as text.
    """

    files: list[tuple[str, bytes]] = field(default_factory=list)
    rules: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    examples: list[dict[str, str | None]] = field(default_factory=list)

    def show(self, rows: pa.Table) -> None:
        """Take the first rows as examples, unless there are some already."""
        if not self.examples:
            self.examples = [
                {
                    name: None if value is None else str(value)[:_SHOWN_CHARACTERS]
                    for name, value in row.items()
                }
                for row in rows.slice(0, _EXAMPLES).to_pylist()
            ]


@dataclass(frozen=True)
class Kind:
    """A kind of dirt, or of drift.

    Attributes:
        name: what `--dirt` calls it.
        fate: what must become of it: its rows are quarantined or dropped, its files are
            quarantined as files, or everything is kept.
        rules: the names under which; none for what is kept.
        plant: draws so many rows of it (quarantined, dropped) or so many files (the others). None
            for what is done to the shop's own days (see `drift`).
    """

    name: str
    fate: Fate
    rules: tuple[str, ...]
    plant: Callable[[Site, int], Planted] | None

    @property
    def of_rows(self) -> bool:
        """Whether its share is one of the rows; it is one of the days otherwise."""
        return self.fate in {"quarantined", "dropped"}


class Site:
    """The users, days, file names and random numbers of one kind."""

    def __init__(self, config: CatalogueConfig, kind: str) -> None:
        self.config = config
        self.kind = kind
        self.rng = np.random.default_rng([config.seed, 7, zlib.crc32(kind.encode())])
        self._users = 0
        self._files = 0

    def day(self) -> date:
        """Some trading day, not among the last ones."""
        return self.config.first_day + timedelta(
            days=int(self.rng.integers(self.config.days - LATER_DAYS))
        )

    def name(self, day: date, ending: str) -> str:
        """A file of a day that nobody has."""
        self._files += 1
        return f"{folder_of(day)}/planted-{self.kind}-{self._files - 1:05d}{ending}"

    def sound(self, day: date, count: int) -> pa.Table:
        """Purchases of a day that break no rule, each of a user of its own; columns of `SCHEMA`."""
        first = self._users
        self._users += count
        ids, prices = _goods(self.config)
        item = self.rng.integers(self.config.items, size=count)
        second = self.rng.uniform(_OPENS, _CLOSES, count)
        return pa.table(
            {
                "user_id": [f"planted-{self.kind}-{n:06d}" for n in range(first, first + count)],
                "item_id": ids.take(pa.array(item)),
                "event_type": pa.array(["purchase"] * count, pa.string()),
                "event_time": pa.array(
                    np.datetime64(day, "us") + (second * 1e6).astype("timedelta64[us]"),
                    SCHEMA.field("event_time").type,
                ),
                "quantity": pa.array(self.rng.integers(1, 4, count), pa.int32()),
                "price": prices[item],
                "market": pa.array(["GB"] * count, pa.string()),
            },
            schema=SCHEMA,
        )

    def spoilt(self, day: date, count: int) -> tuple[pa.Table, pa.Array]:
        """Sound rows, and for each whether it is among the `count` to spoil, in mixed order."""
        beside = min(count, _SOUND_BESIDE)
        rows = self.sound(day, count + beside)
        return rows, pa.array(self.rng.permutation(count + beside) < count)


def file_sizes(rows: int) -> list[int]:
    """How many of so many planted rows go to each file."""
    files = -(-rows // _FILE_ROWS)
    return [rows * (n + 1) // files - rows * n // files for n in range(files)]


def folder_of(day: date) -> str:
    """The folder of a day's interactions."""
    return f"interactions/dt={day.isoformat()}"


def put(
    rows: pa.Table, name: str, spoilt: pa.Array, values: Sequence[Any], kind: pa.DataType
) -> pa.Table:
    """A column as `kind`, its spoilt cells replaced by the values in turn."""
    cells = pa.array(values, kind).take(pa.array(np.arange(len(spoilt)) % len(values)))
    position = rows.schema.get_field_index(name)
    column = pc.if_else(spoilt, cells, rows.column(position).cast(kind).combine_chunks())
    return rows.set_column(position, name, column)


def replaced(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """Rows of `SCHEMA` with other values in one column."""
    field = SCHEMA.field(name)
    return rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, field.type))


@lru_cache(maxsize=1)
def _goods(config: CatalogueConfig) -> tuple[pa.Array, Floats]:
    return item_ids(config), item_prices(config, item_points(config))
