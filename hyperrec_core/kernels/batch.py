"""What the phases of a training step share: the batch, a part's memory and its results."""

from __future__ import annotations

from typing import Any, NamedTuple

from hyperrec_core.kernels.compiled import kernel

BLOCK = 64
"""Histories a block: enough for the matrix products to run at speed, few enough for the cache."""


class Weights(NamedTuple):
    """How the items of a history count.

    Attributes:
        banded: whether weights differ freely by lag (learned), or follow `recency`.
        by_lag: weight of each lag, the newest last, float32 [lags], or empty where all weigh 1.
        recency: ratio of neighbouring weights.
        by_event: weight of each event type, float32 [types], or empty.
    """

    banded: bool
    by_lag: Any
    recency: Any
    by_event: Any


class Batch(NamedTuple):
    """The arrays of `examples.Examples`, and its items as numbers of the batch's distinct rows.

    Attributes:
        item_rows, label_rows, negative_rows: places of items, labels and negatives among the
            distinct rows of their table.
    """

    items: Any
    item_rows: Any
    events: Any
    segments: Any
    heads: Any
    ends: Any
    lengths: Any
    first_labels: Any
    labels: Any
    label_rows: Any
    negatives: Any
    negative_rows: Any
    seen: Any


class Room(NamedTuple):
    """A part's memory; its contents mean nothing between steps. H histories and m items a block.

    Attributes:
        points: of the items of a block's histories, [m, D].
        band: a block's banded matrices, one after the other, [cells].
        by_band: derivatives by one of them, [cells].
        entry: factors of the items by event type, and derivatives by them, [2, m].
        users: users, operands of the scores, derivatives by users, [3, H, D].
        divisor: of the users' sums, and offsets of the operands, [2, H].
        z: of users and negatives, and derivatives by it, [2, H, N].
        negatives: duals, derivatives, and a block's share of these, [3, N, D].
        matrix: negatives laid out for the product, [D, N].
        offset: of the negatives, and sums of derivatives by z, [2, N].
        labels: points of the next labels, [BLOCK, D].
        found: numbers of negatives, int32 [N + 1].
    """

    points: Any
    band: Any
    by_band: Any
    entry: Any
    users: Any
    divisor: Any
    z: Any
    negatives: Any
    matrix: Any
    offset: Any
    labels: Any
    found: Any


class Sizes(NamedTuple):
    """The most that a block of a batch has, and the floats of a `Room` for it."""

    items: int
    cells: int
    histories: int
    floats: int


@kernel
def measure(segments: Any, heads: Any, negatives: int, width: int, banded: bool) -> Sizes:
    """Sizes of a batch's blocks, wherever they start.

    Args:
        segments: where the items of each segment start, [g + 1].
        heads: where its histories start, [g + 1].
        negatives: of the batch.
        width: D.
        banded: whether there are banded matrices.
    """
    items = cells = histories = start = 0
    for stop in range(1, len(heads)):
        while start < stop - 1 and heads[stop] - heads[start] > BLOCK:
            start += 1
        count, span = heads[stop] - heads[start], segments[stop] - segments[start]
        histories, items = max(histories, count), max(items, span)
        cells = max(cells, count * span if banded else 0)
    floats = items * width + 2 * cells + 2 * items + histories * (3 * width + 2 + 2 * negatives)
    floats += negatives * (4 * width + 2) + BLOCK * width
    return Sizes(items, cells, histories, floats)


@kernel
def furnish(floats: Any, found: Any, sizes: Sizes, negatives: int, width: int) -> Room:
    """Divide a part's memory, float32 [sizes.floats] and int32 [N + 1]."""
    m, cells, h, at = sizes.items, sizes.cells, sizes.histories, 0
    points = floats[at : at + m * width].reshape(m, width)
    at += m * width
    band = floats[at : at + cells]
    at += cells
    by_band = floats[at : at + cells]
    at += cells
    entry = floats[at : at + 2 * m].reshape(2, m)
    at += 2 * m
    users = floats[at : at + 3 * h * width].reshape(3, h, width)
    at += 3 * h * width
    divisor = floats[at : at + 2 * h].reshape(2, h)
    at += 2 * h
    z = floats[at : at + 2 * h * negatives].reshape(2, h, negatives)
    at += 2 * h * negatives
    of_negatives = floats[at : at + 3 * negatives * width].reshape(3, negatives, width)
    at += 3 * negatives * width
    matrix = floats[at : at + width * negatives].reshape(width, negatives)
    at += width * negatives
    offset = floats[at : at + 2 * negatives].reshape(2, negatives)
    at += 2 * negatives
    labels = floats[at : at + BLOCK * width].reshape(BLOCK, width)
    return Room(
        points, band, by_band, entry, users, divisor, z, of_negatives, matrix, offset, labels, found
    )


class Sums(NamedTuple):
    """What a part adds up over its histories.

    Attributes:
        totals: the loss, and its derivative by the logarithm of the scale, float64 [2].
        by_lag: derivatives by lag weights, the newest last, float32 [lags].
        by_event: derivatives by the logarithms of event weights, float32 [types].
        by_target: derivatives by the distinct rows of candidates, [r, D].
        by_context: derivatives by those of items in histories; the same where there is one table.
    """

    totals: Any
    by_lag: Any
    by_event: Any
    by_target: Any
    by_context: Any
