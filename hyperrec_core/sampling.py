"""Draws for evaluation that belong to a label: the same for every scorer, batch and machine.

Every number comes from (seed, label, place in the label's own stream), by the counter-based
generator SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators",
figure 17), so it depends neither on which labels are looked at together nor on their order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

# Streams of one label: tie-breaking coins must not repeat the numbers that drew its negatives.
NEGATIVES, SAMPLED_TIES, FULL_TIES = range(3)


def bits(seed: int, stream: int, labels: NDArray[np.int64], places: int) -> NDArray[np.uint64]:
    """The first `places` numbers of the labels' streams, uniform on 64 bits: [labels, places]."""
    start = _starts(seed, stream, labels)
    return _mix(start[:, None] + np.arange(1, places + 1, dtype=np.uint64) * _GOLDEN)


def uniform(seed: int, stream: int, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) a label: [labels]."""
    return (bits(seed, stream, labels, 1)[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53


def unseen_items(
    seen: NDArray[np.bool_], labels: NDArray[np.int64], *, size: int, seed: int
) -> NDArray[np.int64]:
    """Items that a label's user has not seen, drawn uniformly and without replacement.

    An item that is seen or drawn already is drawn again, which treats all unseen items alike, so
    every set of `size` of them is as likely as any other. Where more than half the catalogue is
    seen, or hardly more than `size` items are not, drawing again could take for ever: there each
    unseen item gets a random key and the smallest keys win.

    Args:
        seen: which items each label's user has seen, [B, items].
        labels: number of each label, [B].
        size: how many to draw; where fewer items are unseen, all of them.
        seed: of the draw.

    Returns:
        Items [B, size]; -1 where there are fewer.
    """
    items = seen.shape[1]
    unseen = items - seen.sum(axis=1)
    dense = unseen < max(2 * size, items // 2)
    drawn = np.empty((len(labels), size), np.int64)
    drawn[dense] = _smallest_keys(seen[dense], labels[dense], size, seed)
    rows = np.flatnonzero(~dense)
    drawn[rows] = _to_items(bits(seed, NEGATIVES, labels[rows], size), items)
    attempt = 0
    while True:
        wrong = seen[rows[:, None], drawn[rows]] | _repeated(drawn[rows])
        some = wrong.any(axis=1)
        rows, wrong = rows[some], wrong[some]
        if not len(rows):
            return drawn
        attempt += 1
        start = _starts(seed, NEGATIVES, labels[rows])
        # Later attempts go on in the stream where the earlier ones ended.
        place = np.arange(1, size + 1, dtype=np.uint64) + np.uint64(attempt * size)
        again = _to_items(_mix(start[:, None] + place * _GOLDEN), items)
        drawn[rows] = np.where(wrong, again, drawn[rows])


def _smallest_keys(
    seen: NDArray[np.bool_], labels: NDArray[np.int64], size: int, seed: int
) -> NDArray[np.int64]:
    """The draw where little is unseen, [B, size]."""
    items = seen.shape[1]
    keys = bits(seed, NEGATIVES, labels, items)
    keys[seen] = np.iinfo(np.uint64).max
    chosen = np.argsort(keys, axis=1, kind="stable")[:, :size]
    drawn = np.full((len(labels), size), -1, np.int64)
    are_unseen = ~np.take_along_axis(seen, chosen, axis=1)
    drawn[:, : chosen.shape[1]] = np.where(are_unseen, chosen, -1)
    return drawn


def _repeated(drawn: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which places of a row hold what an earlier place holds: [B, size]."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated


def _to_items(random: NDArray[np.uint64], items: int) -> NDArray[np.int64]:
    """Uniform on [0, items) by multiplying 32 bits; the bias is below items / 2^32."""
    return ((random >> np.uint64(32)) * np.uint64(items) >> np.uint64(32)).astype(np.int64)


def _starts(seed: int, stream: int, labels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Where each label's stream starts: [labels]."""
    state = _mix(np.array([seed], np.uint64) * _GOLDEN + np.uint64(stream))
    return _mix(state + labels.astype(np.uint64) * _GOLDEN)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function; products wrap at 64 bits, as it wants."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
