"""The kernels of a training step of the point models, which its threads call side by side.

`derive`: a batch is cut into parts, one a thread. Each part takes its segments block by block, a
block being small enough for its points, weights and scores to stay in cache from the forward to the
backward pass, and adds up the derivatives by the batch's distinct rows.

`step`: each thread takes a share of the rows, sums the parts' derivatives in their order, and moves
the rows. Equal numbers of parts so give equal bits.

`halves` is these, one or both, with what threads tell one another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hyperrec_core.kernels import loss, meeting, rows, users
from hyperrec_core.kernels.batch import BLOCK, Batch, Sizes, Sums, Weights, furnish
from hyperrec_core.kernels.compiled import ONE, TWO, ZERO, add, copy, kernel, prefetch
from hyperrec_core.kernels.judge import judge
from hyperrec_core.kernels.loss import Scoring
from hyperrec_core.kernels.meeting import Meeting
from hyperrec_core.kernels.rows import Steps

_TOGETHER = 16  # rows
SHARES = 64
"""The rows of a table are divided into so many shares of about the same size."""
FIRST, SECOND, BOTH = range(3)
"""What `halves` does."""
UNMET, MET, LAST_WAS_FIRST, LAST_WAS_LATER = range(4)
"""How it has ended: halfway, without or with all others, or done, after or before the last part."""


class Work(NamedTuple):
    """A share of a batch, and what its derivatives need.

    Attributes:
        share: which share of the histories, below `shares`.
        shares: how many there are.
        scoring: how points are compared.
        weights: of the items of histories.
        batch: the examples.
        target: points of candidates, [n, D].
        context: points of items in histories, [n, D]; the same where there is one table.
        sizes: as of `batch.measure`.
        floats: memory of this part, [sizes.floats].
        found: memory of this part, int32 [N + 1].
        sums: results of this part; overwritten.
    """

    share: int
    shares: int
    scoring: Scoring
    weights: Weights
    batch: Batch
    target: Any
    context: Any
    sizes: Sizes
    floats: Any
    found: Any
    sums: Sums


class Table(NamedTuple):
    """A table, and what a step does to it.

    Attributes:
        points: [n, D].
        sums: Adagrad's accumulator, [n], or empty.
        touched: distinct rows, int32 [r].
        gradient: derivatives by them, [r, D] from each part of `derive`; overwritten.
    """

    points: Any
    sums: Any
    touched: Any
    gradient: Any


class Moves(NamedTuple):
    """The rows that a part steps: their shares from the first up to the last, of some tables."""

    first: int
    last: int
    steps: Steps
    tables: tuple[Table, ...]


@kernel
def derive(work: Work) -> None:
    """The derivatives of a share of a batch's histories."""
    scoring, weights, batch, sums = work.scoring, work.weights, work.batch, work.sums
    target, context = work.target, work.context
    histories = batch.heads[-1]
    first = np.searchsorted(batch.heads, histories * work.share // work.shares)
    last = np.searchsorted(batch.heads, histories * (work.share + 1) // work.shares)
    room = furnish(work.floats, work.found, work.sizes, len(batch.negatives), target.shape[1])
    sums.by_target[:] = ZERO
    sums.by_context[:] = ZERO
    sums.by_lag[:] = ZERO
    sums.by_event[:] = ZERO
    sums.totals[:] = 0.0
    duals, to_negatives = room.negatives[0], room.negatives[1]
    time = ZERO if scoring.flat else -ONE
    for k in range(len(batch.negatives)):
        prefetch(target, batch.negatives[k])
    for k in range(len(batch.negatives)):
        copy(duals[k], target[batch.negatives[k]])
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


@kernel
def step(moves: Moves) -> None:
    """Step some of the touched rows."""
    for table in moves.tables:
        _step(moves, table)


@kernel
def _step(moves: Moves, table: Table) -> None:
    first, last, steps = moves.first, moves.last, moves.steps
    points, sums, touched, gradient = table.points, table.sums, table.touched, table.gradient
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
def halves(turn: Meeting, part: int, work: Work, moves: Moves, which: int) -> int:
    """`derive` and `step`, with all parts halfway between them.

    One kernel for either half and for both: each that holds the others costs the compiler ten
    seconds. A return from the second half waits a moment for what comes next, so that not all
    threads want the interpreter's lock at once.

    Args:
        turn: where parts meet.
        part: which part this is.
        work: of the first half.
        moves: of the second half.
        which: `FIRST`, `SECOND` where all parts are halfway, or `BOTH`.

    Returns:
        `UNMET` after the first half where other parts were not halfway in time; `MET` after the
        first half alone; otherwise whether `LAST_WAS_FIRST` or not.
    """
    if which != SECOND:
        if part == 0:
            meeting.tell(turn, meeting.BEGUN, part)
        derive(work)
        meeting.tell(turn, meeting.HALFWAY, part)
        if not meeting.have_told(turn, meeting.HALFWAY, part):
            return UNMET
        if which == FIRST:
            return MET
    step(moves)
    before = meeting.has_told(turn, meeting.DONE, turn.parts - 1)
    meeting.tell(turn, meeting.DONE, part)
    if part == 0:
        meeting.have_told(turn, meeting.DONE, part)
    else:
        meeting.next_has_begun(turn, part)
    return LAST_WAS_FIRST if before else LAST_WAS_LATER
