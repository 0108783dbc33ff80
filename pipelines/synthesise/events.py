"""The interactions of the synthetic shop: sessions of events around a drifting user.

A session is a point near its user, and its items are drawn from that point by the same kernel
(latent.py). An item is drawn in three steps that cost the same at any catalogue size: first a
ring of items of about equal popularity, in proportion to the popularity on sale that week; then
an angle, from the kernel whose width grows with that popularity; then the item of the ring that
is on sale nearest to the angle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.synthesise.catalogue import item_ids, item_prices, padded
from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.latent import (
    SLOT_DAYS,
    Floats,
    Ints,
    block_count,
    item_points,
    slot_count,
    user_points,
)

SCHEMA: Final = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("quantity", pa.int32()),
        ("price", pa.float64()),
        ("market", pa.string()),
    ]
)

# A row as it is drawn: microseconds since the first day began, numbers of user and item, codes.
DRAWN: Final = np.dtype(
    [
        ("time", np.int64),
        ("user", np.int32),
        ("item", np.int32),
        ("kind", np.int8),
        ("quantity", np.int8),
        ("market", np.int8),
    ]
)

_EVENT_TYPES: Final = ("view", "add_to_bag", "purchase")  # the order within a session
_EVENT_SHARES: Final = (0.28, 0.12, 0.60)
_MARKETS: Final = ("GB", "DE", "FR", "US", "AU")
_MARKET_SHARES: Final = (0.45, 0.20, 0.15, 0.12, 0.08)
_WEEKDAY_DEMAND: Final = np.array([1.0, 0.9, 0.9, 1.0, 1.1, 1.2, 1.4])  # Monday first
_MEAN_SESSION = 4.0  # events
_SESSION_WIDTH = 0.03  # radians between a user of least weight and the session's point
_ITEM_WIDTH = 0.015  # radians between the session's point and an item of least weight
_OPENS, _CLOSES = 7 * 3600, 23 * 3600  # seconds of the day between which sessions start
_EVENT_SECONDS, _LONGEST = 70, 3500  # a session ends on the day it started
_MICRO = 1_000_000
_DAY = 86_400 * _MICRO

Drawn = NDArray[np.void]


@dataclass(frozen=True)
class Shelves:
    """What is on sale when, arranged for drawing, and the words for numbers of users and items.

    A cell is a (week, ring of popularity).

    Attributes:
        rings: Number of rings.
        ring_ends: float64[weeks * rings], week + cumulated share of popularity up to each ring.
        ring_width: float64[rings], kernel width in radians.
        cell_start: int64[weeks * rings + 1], where each cell starts in ``keys`` and ``items``.
        keys: float64[entries], cell + angle/2π, rising.
        items: int64[entries], the item of each key.
        user_id: string[users].
        item_id: string[items].
        price: float64[items].
    """

    rings: int
    ring_ends: Floats
    ring_width: Floats
    cell_start: Ints
    keys: Floats
    items: Ints
    user_id: pa.Array
    item_id: pa.Array
    price: Floats

    def draw(self, rng: np.random.Generator, slot: Ints, angle: Floats) -> Ints:
        """Draws one item for each (week, angle): int64[n], always one on sale that week."""
        # 24 random bits, so that week + draw is exact and never spills into the next week.
        draw = slot + rng.random(len(slot), dtype=np.float32).astype(np.float64)
        cell = np.searchsorted(self.ring_ends, draw, side="right")
        turn = np.mod(angle + _offset(rng, self.ring_width[cell % self.rings]), 2 * np.pi)
        turn /= 2 * np.pi
        start, count = self.cell_start[cell], self.cell_start[cell + 1] - self.cell_start[cell]
        after = np.searchsorted(self.keys, cell + turn) - start
        left, right = start + (after - 1) % count, start + after % count
        gap_left = np.abs(self.keys[left] - cell - turn)
        gap_right = np.abs(self.keys[right] - cell - turn)
        nearer = np.minimum(gap_left, 1 - gap_left) <= np.minimum(gap_right, 1 - gap_right)
        return np.asarray(self.items[np.where(nearer, left, right)])


def _offset(rng: np.random.Generator, width: Floats) -> Floats:
    """Angles from the density ~ 1/(1 + (Δ/width)²) on [-π, π], by its inverse distribution."""
    uniform = 2 * rng.random(len(width)) - 1
    return np.asarray(width * np.tan(uniform * np.arctan(np.pi / width)))


def shelves(config: CatalogueConfig) -> Shelves:
    """Arranges the catalogue for drawing: a few bytes for every item and week on sale."""
    points, slots = item_points(config), slot_count(config)
    ring = np.floor(2 * np.log2(points.weight)).astype(np.int64)  # half octaves of popularity
    rings = int(ring.max()) + 1
    first, end = np.maximum(points.first_slot, 0), np.minimum(points.end_slot, slots)
    weeks = end - first
    item = np.repeat(np.arange(config.items), weeks)
    slot = np.arange(len(item)) - np.repeat(np.cumsum(weeks) - weeks - first, weeks)
    cell = slot * rings + ring[item]
    keys = cell + points.angle[item] / (2 * np.pi)
    order = np.argsort(keys, kind="stable")
    by_cell = np.bincount(cell, points.weight[item], minlength=slots * rings)
    demand = np.asarray(by_cell, dtype=np.float64).reshape(slots, rings)
    ends = np.cumsum(demand, axis=1)
    ends /= ends[:, -1:]
    members = np.bincount(ring, minlength=rings)
    mean_weight = np.bincount(ring, points.weight, minlength=rings) / np.maximum(members, 1)
    return Shelves(
        rings=rings,
        ring_ends=(np.arange(slots)[:, None] + ends).ravel(),
        ring_width=_ITEM_WIDTH * np.maximum(mean_weight, 1.0),
        cell_start=np.searchsorted(cell[order], np.arange(slots * rings + 1)),
        keys=keys[order],
        items=item[order],
        user_id=padded("u", 0, config.users, 7),
        item_id=item_ids(config),
        price=item_prices(config, points),
    )


def _session_days(config: CatalogueConfig, rng: np.random.Generator, joined: Floats) -> Ints:
    """Draws a trading day (from 0) for each session, after the user joined, by weekly rhythm."""
    weekday = (config.first_day.weekday() + np.arange(config.days)) % 7
    demand = np.cumsum(_WEEKDAY_DEMAND[weekday])
    uniform = joined + (1 - joined) * rng.random(len(joined))
    day = np.searchsorted(demand / demand[-1], uniform, side="right")
    return np.minimum(day, config.days - 1)


def draw_block(config: CatalogueConfig, on_sale: Shelves, block: int) -> Drawn:
    """Rows of one block of users, `DRAWN`[n], in time order.

    A block's draws derive from (seed, block) alone, so blocks may be made in any order and in
    any number of processes.
    """
    users = user_points(config, block)
    rng = np.random.default_rng([config.seed, 2, block])
    total = int(users.events.sum())
    drawn = np.empty(total, DRAWN)
    if total == 0:
        return drawn
    owner = np.repeat(np.arange(len(users.events)), users.events)
    opens = rng.random(total) < 1 / _MEAN_SESSION
    opens[np.flatnonzero(np.diff(owner, prepend=-1))] = True
    session = np.cumsum(opens) - 1
    host = owner[opens]

    day = _session_days(config, rng, users.joined[host])
    angle = users.angle_at(host, day) + _offset(rng, _SESSION_WIDTH * users.weight[host])
    item = on_sale.draw(rng, day[session] // SLOT_DAYS, angle[session])

    start = _OPENS + (_CLOSES - _OPENS) * rng.beta(3, 2, len(host))
    length = np.minimum(np.bincount(session) * _EVENT_SECONDS, _LONGEST)
    # Sorting (session + fraction) orders the moments within each session and moves none out.
    moment = np.sort(session + rng.random(total)) - session
    second = (start[session] + length[session] * moment) * _MICRO
    drawn["time"] = day[session] * _DAY + second.astype(np.int64)
    # Likewise a session's views come first and its purchases last.
    kinds = len(_EVENT_TYPES)
    kind = np.sort(session * kinds + rng.choice(kinds, total, p=_EVENT_SHARES)) - session * kinds
    drawn["kind"] = kind
    quantity = np.minimum(rng.geometric(0.9, total), 6)
    drawn["market"] = rng.choice(len(_MARKETS), len(users.events), p=_MARKET_SHARES)[owner]
    drawn["user"], drawn["item"] = users.first + owner, item
    drawn = drawn[np.argsort(drawn["time"], kind="stable")]
    drawn["quantity"] = quantity  # of no user, item or time, so of any row
    return drawn


def raw_rows(config: CatalogueConfig, on_sale: Shelves, drawn: Drawn) -> pa.Table:
    """Drawn rows as the raw contract has them, in the same order; columns of `SCHEMA`."""
    item = pa.array(drawn["item"])
    return pa.table(
        {
            "user_id": on_sale.user_id.take(pa.array(drawn["user"])),
            "item_id": on_sale.item_id.take(item),
            "event_type": pa.array(_EVENT_TYPES).take(pa.array(drawn["kind"])),
            "event_time": pa.array(
                np.datetime64(config.first_day, "us") + drawn["time"].astype("timedelta64[us]"),
                SCHEMA.field("event_time").type,
            ),
            # A look has no quantity; the mask makes it null.
            "quantity": pa.array(
                drawn["quantity"].astype(np.int32), pa.int32(), mask=drawn["kind"] == 0
            ),
            "price": on_sale.price[drawn["item"]],
            "market": pa.array(_MARKETS).take(pa.array(drawn["market"])),
        },
        schema=SCHEMA,
    )


def by_day(config: CatalogueConfig, drawn: Drawn) -> Ints:
    """Where each day begins in rows in time order, and where the last one ends: int64[days + 1]."""
    return np.searchsorted(drawn["time"], np.arange(config.days + 1) * _DAY)


def block_interactions(
    config: CatalogueConfig, on_sale: Shelves, block: int
) -> Iterator[tuple[date, pa.Table]]:
    """Rows of one block of users, a table a day with any, in time order."""
    drawn = draw_block(config, on_sale, block)
    rows, bounds = raw_rows(config, on_sale, drawn), by_day(config, drawn)
    for index in np.flatnonzero(np.diff(bounds)):
        part = rows.slice(bounds[index], bounds[index + 1] - bounds[index])
        yield config.first_day + timedelta(days=int(index)), part


def interactions(config: CatalogueConfig) -> Iterator[tuple[date, pa.Table]]:
    """All rows, as (day, table) parts: block after block of users, and day by day within one.

    A day therefore comes once for each block, and one block at a time is in memory, whatever the
    size of the whole. Tables have ``SCHEMA``; their
    rows sum to ``config.interactions`` exactly.
    """
    on_sale = shelves(config)
    for block in range(block_count(config)):
        yield from block_interactions(config, on_sale, block)
