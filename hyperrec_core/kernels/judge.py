"""Scores of a block's users, their loss, and its derivatives by users, labels and negatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels import loss
from hyperrec_core.kernels.batch import BLOCK, Batch, Room, Sums
from hyperrec_core.kernels.compiled import ONE, TWO, ZERO, add, copy, dot, kernel, prefetch
from hyperrec_core.kernels.loss import Scoring

LOSS, BY_LOG_SCALE = range(2)
"""Places in `Sums.totals`."""


@kernel
def judge(
    start: int,
    stop: int,
    scoring: Scoring,
    batch: Batch,
    target: Any,
    room: Room,
    sums: Sums,
) -> None:
    """Scores, loss, and derivatives by a block's users, its labels and the negatives."""
    base, count = batch.heads[start], batch.heads[stop] - batch.heads[start]
    users, left, by_users = (
        room.users[0, :count],
        room.users[1, :count],
        room.users[2, :count],
    )
    z, by_z = room.z[0, :count], room.z[1, :count]
    offset, chord = room.offset[0], scoring.score != loss.INNER_PRODUCT
    matrix = room.matrix
    if chord:
        for h in range(count):
            room.divisor[1, h] = loss.left_operand(scoring, users[h], left[h])
        np.dot(left, matrix, z)
        for h in range(count):
            row, own = z[h], room.divisor[1, h]
            for k in range(len(offset)):
                row[k] += offset[k] + own
    else:
        np.dot(users, matrix, z)
    _exclude(start, stop, loss.never(scoring), batch, z)
    by_z[:] = ZERO
    by_users[:] = ZERO
    time = ONE if scoring.flat else TWO
    examples = np.float32(len(batch.labels))
    # Summed here first: the parts' totals lie side by side, and cores would fight over them.
    total, total_by_scale = 0.0, 0.0
    ahead = batch.first_labels[base]
    for h in range(count):
        for b in range(batch.first_labels[base + h], batch.first_labels[base + h + 1]):
            if b == ahead:
                # Fetched together, rows that are not in cache arrive together.
                for i in range(min(BLOCK, len(batch.labels) - b)):
                    copy(room.labels[i], target[batch.labels[b + i]])
                    if b + i + BLOCK < len(batch.labels):
                        prefetch(target, batch.labels[b + i + BLOCK])
                ahead += BLOCK
            i = b - (ahead - BLOCK)
            if chord:
                own = loss.squared_chord(scoring.flat, users[h], room.labels[i])
                positive = loss.score_of(scoring, own)
            else:
                own = dot(users[h], room.labels[i]) - time * users[h, 0] * room.labels[i, 0]
                positive = scoring.scale * own
            cost, by_positive, by_scale = loss.wmrb(
                scoring, positive, z[h], examples, room.found, by_z[h]
            )
            total += cost
            total_by_scale += by_scale
            pull = by_positive * loss.slope_of(scoring, own)
            _pull_label(
                scoring, pull, users, h, room.labels, i, by_users, sums.by_target,
                batch.label_rows[b],
            )  # fmt: skip
    sums.totals[LOSS] += total
    sums.totals[BY_LOG_SCALE] += total_by_scale
    _pull_negatives(count, scoring, room)


@kernel
def _exclude(start: int, stop: int, never: Any, batch: Batch, z: Any) -> None:
    """Take the negatives that a user has interacted with out of the loss."""
    base = batch.heads[start]
    for s in range(start, stop):
        for k in range(batch.seen.shape[1]):
            if batch.seen[s, k]:
                for h in range(batch.heads[s] - base, batch.heads[s + 1] - base):
                    z[h, k] = never


@kernel
def _pull_label(
    scoring: Scoring,
    pull: Any,
    users: Any,
    h: int,
    items: Any,
    i: int,
    to_users: Any,
    to_items: Any,
    r: int,
) -> None:
    """`Score.pull_each` for user h and item i, whose derivatives are row r.

    Rows are named by number: a view of each would cost more than the sum over it.
    """
    chord = scoring.score != loss.INNER_PRODUCT
    if chord and scoring.flat:
        for d in range(users.shape[1]):
            difference = TWO * pull * (users[h, d] - items[i, d])
            to_users[h, d] += difference
            to_items[r, d] -= difference
        return
    factor = -TWO * pull if chord else pull
    for d in range(users.shape[1]):
        to_users[h, d] += factor * items[i, d]
        to_items[r, d] += factor * users[h, d]
    # The dual of a point has its time coordinate with the other sign, or none in flat space.
    time = ONE if scoring.flat else TWO
    to_users[h, 0] -= time * factor * items[i, 0]
    to_items[r, 0] -= time * factor * users[h, 0]


@kernel
def _pull_negatives(count: int, scoring: Scoring, room: Room) -> None:
    """`Score.pull_pairs` for a block; those by negatives are finished at the end of the part."""
    users, by_users = room.users[0, :count], room.users[2, :count]
    share = room.users[1, :count]  # the operand is spent
    by_z = room.z[1, :count]
    chord = scoring.score != loss.INNER_PRODUCT
    np.dot(by_z, room.negatives[0], share)
    np.dot(by_z.T, users, room.negatives[2])
    for h in range(count):
        add(by_users[h], share[h], -TWO if chord else ONE)
    for k in range(by_z.shape[1]):
        add(room.negatives[1, k], room.negatives[2, k], ONE)
    if chord and scoring.flat:
        column_sums = room.offset[1]
        for h in range(count):
            add(by_users[h, 1:], users[h, 1:], TWO * by_z[h].sum())
            add(column_sums, by_z[h], ONE)
