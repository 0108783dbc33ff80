"""How far a run's input has moved from that of the last promoted run.

The population stability index (PSI) of two distributions over the same bins, earlier e and now a::

    PSI = Σ_b (a_b - e_b) ln(a_b / e_b)

It is the symmetric Kullback-Leibler divergence (Jeffreys' J): zero when the shares are equal, never
negative, the same in both directions. By the usual rule (Siddiqi, Credit Risk Scorecards, 2006),
below 0.1 nothing has happened, up to 0.25 the shift is moderate, above it major. That rule is for
about ten bins, which is why there are ten here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

SHARE_FLOOR = 1e-4
"""An empty bin counts as this share: the logarithm of nothing would make any new item infinite
drift. One hundredth of the interactions on new items then adds 0.05, one twentieth 0.3."""

_BINS = 10


class Bin(BaseModel):
    """One bin: its name, its share of the earlier run and of this one, and what it adds."""

    model_config = ConfigDict(frozen=True)

    name: str
    earlier: float
    now: float
    psi: float


class Shift(BaseModel):
    """A population stability index and its bins."""

    model_config = ConfigDict(frozen=True)

    psi: float
    bins: tuple[Bin, ...]


def stability(earlier: ArrayLike, now: ArrayLike) -> NDArray[np.float64]:
    """What each bin adds to the index, float64 [b], never negative.

    Args:
        earlier: share of each bin, [b], adding up to one; see `SHARE_FLOOR`.
        now: likewise.
    """
    e, a = (np.maximum(np.asarray(x, np.float64), SHARE_FLOOR) for x in (earlier, now))
    return np.asarray((a - e) * np.log(a / e))


def event_mix(earlier: Mapping[str, int], now: Mapping[str, int]) -> Shift | None:
    """The index of the event types' shares; None when either run has no interaction.

    Args:
        earlier: interactions of the earlier run by event type.
        now: of this one.
    """
    names = sorted({*earlier, *now})
    return _shift(
        names, [earlier.get(name, 0) for name in names], [now.get(name, 0) for name in names]
    )


def popularity(earlier: pa.Table, now: pa.Table) -> Shift | None:
    """The index of item popularity: on which items the interactions lie.

    Items are binned by their count in the earlier run so that each bin held about a tenth of its
    interactions, items of equal count together; the most popular come first. An item without an
    earlier interaction is in the bin `new`, one without a present interaction in `gone`. Shares
    are of interactions, so a bin that grows says that its items draw more than they did. Changes
    within a bin are not seen.

    Args:
        earlier: vocabulary of the earlier run: `item_id` and `count`.
        now: of this one.

    Returns:
        None when either run has no interaction.
    """
    ids = pa.chunked_array([*earlier["item_id"].chunks, *now["item_id"].chunks], pa.string())
    codes = ids.combine_chunks().dictionary_encode()
    place = codes.indices.to_numpy()
    before, after = (np.zeros(len(codes.dictionary), np.int64) for _ in range(2))
    np.add.at(before, place[: len(earlier)], earlier["count"].to_numpy())
    np.add.at(after, place[len(earlier) :], now["count"].to_numpy())
    if not before.sum() or not after.sum():
        return None

    names, of_item = _bins_by_count(before)
    new, gone = len(names), len(names) + 1
    of_item[before == 0] = new
    of_item[(before > 0) & (after == 0)] = gone
    size = gone + 1
    return _shift(
        [*names, "new", "gone"],
        np.bincount(of_item, before, size),
        np.bincount(of_item, after, size),
    )


def _bins_by_count(counts: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the bins, most popular first, and the bin of each item that has a count."""
    values, items = np.unique(counts[counts > 0], return_counts=True)
    mass = (values * items)[::-1] / counts.sum()
    # Equal counts share the bin in which the middle of their mass lies.
    middle = np.cumsum(mass) - mass / 2
    _, of_value = np.unique(
        np.minimum((middle * _BINS).astype(int), _BINS - 1), return_inverse=True
    )
    names = []
    for number in range(of_value.max() + 1):
        own = values[::-1][of_value == number]
        low, high = f"{own.min():,}", f"{own.max():,}"
        names.append(low if low == high else f"{low} to {high}")
    of_item = np.zeros(len(counts), np.int64)
    bought = counts > 0
    of_item[bought] = of_value[::-1][np.searchsorted(values, counts[bought])]
    return names, of_item


def _shift(names: Sequence[str], earlier: ArrayLike, now: ArrayLike) -> Shift | None:
    e, a = np.asarray(earlier, np.float64), np.asarray(now, np.float64)
    if not e.sum() or not a.sum():
        return None
    e, a = e / e.sum(), a / a.sum()
    added = stability(e, a)
    columns = zip(names, e.tolist(), a.tolist(), added.tolist(), strict=True)
    bins = tuple(Bin(name=name, earlier=b, now=n, psi=p) for name, b, n, p in columns)
    return Shift(psi=float(added.sum()), bins=bins)
