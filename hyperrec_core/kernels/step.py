"""The two kernels of a training step of the point models, which its threads call side by side.

`derive`: a batch is cut into parts, one a thread. Each part takes its segments block by block, a
block being small enough for its points, weights and scores to stay in cache from the forward to the
backward pass, and adds up the derivatives by the batch's distinct rows.

`step`: each thread takes a share of the rows, sums the parts' derivatives in their order, and moves
the rows. Equal numbers of parts so give equal bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels import loss, rows, users
from hyperrec_core.kernels.batch import BLOCK, Batch, Sizes, Sums, Weights, furnish
from hyperrec_core.kernels.compiled import ONE, TWO, ZERO, add, kernel, prefetch
from hyperrec_core.kernels.judge import judge
from hyperrec_core.kernels.loss import Scoring
from hyperrec_core.kernels.rows import Steps

_TOGETHER = 16  # rows
SHARES = 64
"""The rows of a table are divided into so many shares of about the same size."""


@kernel
def step(
    first: int, last: int, steps: Steps, points: Any, sums: Any, touched: Any, gradient: Any
) -> None:
    """Step some of the touched rows of a table.

    Args:
        first: of the shares of the rows to step.
        last: of these shares, exclusive.
        steps: the optimiser.
        points: the table, [n, D].
        sums: Adagrad's accumulator, [n], or empty.
        touched: distinct rows, int32 [r].
        gradient: derivatives by them, [r, D] from each part of `derive`; overwritten.
    """
    total = gradient[0]
    chosen, lengths = np.empty(_TOGETHER, np.int32), np.empty((2, _TOGETHER), np.float32)
    r = 0
    while r < len(touched):
        count = 0
        while r < len(touched) and count < _TOGETHER:
            # 64 neighbours stay together: cores would fight over the lines that rows share.
            if first <= (touched[r] >> 6) & (SHARES - 1) < last:
                prefetch(points, touched[r])
                chosen[count] = r
                count += 1
            r += 1
        for other in range(1, len(gradient)):
            for c in range(count):
                for d in range(total.shape[1]):
                    total[chosen[c], d] += gradient[other, chosen[c], d]
        rows.step(steps, points, sums, touched, total, chosen[:count], lengths)


@kernel
def derive(
    part: int,
    parts: int,
    scoring: Scoring,
    weights: Weights,
    batch: Batch,
    target: Any,
    context: Any,
    sizes: Sizes,
    floats: Any,
    found: Any,
    sums: Sums,
) -> None:
    """The derivatives of a share of a batch's histories.

    Args:
        part: which share, below `parts`.
        parts: how many shares.
        scoring: how points are compared.
        weights: of the items of histories.
        batch: the examples.
        target: points of candidates, [n, D].
        context: points of items in histories, [n, D]; the same where there is one table.
        sizes: as of `measure`.
        floats: memory of this part, [sizes.floats].
        found: memory of this part, int32 [N + 1].
        sums: results of this part; overwritten.
    """
    histories = batch.heads[-1]
    first = np.searchsorted(batch.heads, histories * part // parts)
    last = np.searchsorted(batch.heads, histories * (part + 1) // parts)
    room = furnish(floats, found, sizes, len(batch.negatives), target.shape[1])
    sums.by_target[:] = ZERO
    sums.by_context[:] = ZERO
    sums.by_lag[:] = ZERO
    sums.by_event[:] = ZERO
    sums.totals[:] = 0.0
    duals, to_negatives = room.negatives[0], room.negatives[1]
    time = ZERO if scoring.flat else -ONE
    for k in range(len(batch.negatives)):
        duals[k] = target[batch.negatives[k]]
    loss.negatives_matrix(scoring, duals, room.matrix, room.offset[0])
    duals[:, 0] *= time
    to_negatives[:] = ZERO
    room.offset[1] = ZERO

    segment = first
    while segment < last:
        start, stop = segment, segment + 1
        while stop < last and batch.heads[stop + 1] - batch.heads[start] <= BLOCK:
            stop += 1
        users.sum_histories(start, stop, weights, batch, context, room)
        users.centre(batch.heads[stop] - batch.heads[start], scoring, room)
        judge(start, stop, scoring, batch, target, room, sums)
        users.pull_histories(start, stop, scoring, weights, batch, room, sums)
        segment = stop

    chord = scoring.score != loss.INNER_PRODUCT
    for k in range(len(batch.negatives)):
        gradient = to_negatives[k]
        gradient[0] *= time
        if chord:
            gradient *= -TWO
            if scoring.flat:
                add(gradient, duals[k], TWO * room.offset[1, k])
        add(sums.by_target[batch.negative_rows[k]], gradient, ONE)
