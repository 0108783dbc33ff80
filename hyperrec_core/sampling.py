"""Draws for evaluation that belong to a label: the same for every scorer, batch and machine.

Every number comes from (seed, label, place in the label's own stream) by `kernels.splitmix`, so it
depends neither on which labels are looked at together nor on their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperrec_core.kernels.compiled import kernel
from hyperrec_core.kernels.splitmix import GOLDEN, below, mix, number

_11 = np.uint64(11)

# Streams of one label: tie-breaking coins must not repeat the numbers that drew its negatives.
NEGATIVES, SAMPLED_TIES, FULL_TIES = range(3)


def uniform(seed: int, stream: int, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) a label: [labels]."""
    found = np.empty(len(labels))
    _uniform(np.uint64(seed), np.uint64(stream), labels, found)
    return found


def unseen_items(
    positions: NDArray[np.int32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    items: int,
    size: int,
    seed: int,
) -> NDArray[np.int64]:
    """Items that a label's user has not seen, drawn uniformly and without replacement.

    An item that is seen or drawn already is drawn again, which treats all unseen items alike, so
    every set of `size` of them is as likely as any other. Where more than half the catalogue is
    seen, or hardly more than `size` items are not, drawing again could take for ever: there each
    unseen item gets a random key and the smallest keys win.

    Args:
        positions: item of every position of every row, `Histories.items`.
        starts: where the positions that a label's user has seen start, [B].
        ends: where they end, exclusive, [B].
        labels: number of each label, [B].
        items: size of the vocabulary.
        size: how many to draw; where fewer items are unseen, all of them.
        seed: of the draw.

    Returns:
        Items [B, size]; -1 where there are fewer.
    """
    drawn = np.empty((len(labels), size), np.int64)
    _draw(np.uint64(seed), read_only(positions), starts, ends, labels, items, drawn)
    return drawn


def read_only(positions: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same array as kernels take it: they are compiled anew for one that may be written to."""
    view = np.asarray(positions).view()
    view.flags.writeable = False
    return view


@kernel
def _start(seed: Any, stream: Any, label: Any) -> Any:
    """Where a label's stream starts."""
    return mix(mix(seed * GOLDEN + stream) + np.uint64(label) * GOLDEN)


@kernel
def _uniform(seed: Any, stream: Any, labels: Any, found: Any) -> None:
    for i in range(len(labels)):
        found[i] = np.float64(number(_start(seed, stream, labels[i]), 1) >> _11) * 2.0**-53


@kernel
def _draw(
    seed: Any, positions: Any, starts: Any, ends: Any, labels: Any, items: int, drawn: Any
) -> None:
    size = drawn.shape[1]
    # Which row has seen, and which attempt has drawn, an item: no table is emptied in between.
    seen_by = np.full(items, -1, np.int32)
    drawn_by = np.full(items, -1, np.int32)
    row, attempts, distinct = np.int32(-1), np.int32(-1), 0
    for i in range(len(labels)):
        if i == 0 or starts[i] != starts[i - 1] or ends[i] != ends[i - 1]:
            row, distinct = np.int32(row + 1), 0
            for position in range(starts[i], ends[i]):
                if seen_by[positions[position]] != row:
                    seen_by[positions[position]] = row
                    distinct += 1
        start = _start(seed, np.uint64(NEGATIVES), labels[i])
        if items - distinct < max(2 * size, items // 2):
            _smallest_keys(start, seen_by, row, items - distinct, drawn[i])
            continue
        drawn[i] = -1
        # Later attempts go on in the stream where the earlier ones ended.
        wrong, first = size, 1
        while wrong:
            attempts = np.int32(attempts + 1)
            wrong = 0
            for place in range(size):
                item = drawn[i, place]
                if item < 0:
                    # Uniform by multiplying 32 bits; the bias is below items / 2^32.
                    item = below(number(start, first + place), items)
                if seen_by[item] == row or drawn_by[item] == attempts:
                    drawn[i, place] = -1
                    wrong += 1
                else:
                    drawn[i, place] = item
                    drawn_by[item] = attempts
            first += size


@kernel
def _smallest_keys(start: Any, seen_by: Any, row: Any, unseen: int, drawn: Any) -> None:
    """The draw where little is unseen, for one label."""
    keys, owners = np.empty(unseen, np.uint64), np.empty(unseen, np.int64)
    found = 0
    for item in range(len(seen_by)):
        if seen_by[item] != row:
            keys[found], owners[found] = number(start, item + 1), item
            found += 1
    order = np.argsort(keys, kind="mergesort")
    drawn[:] = -1
    for place in range(min(len(drawn), unseen)):
        drawn[place] = owners[order[place]]
