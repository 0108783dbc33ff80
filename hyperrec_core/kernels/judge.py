"""Scores of a block's users, their loss, and its derivatives by users, labels and negatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels import loss
from hyperrec_core.kernels.batch import BLOCK, Batch, Room, Sums
from hyperrec_core.kernels.compiled import ONE, TWO, ZERO, add, copy, dot, kernel, prefetch
from hyperrec_core.kernels.loss import Scoring

_FEW = 0.12  # of the negatives: where one pair after the other is as fast as the products
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
    total, total_by_scale, violators = 0.0, 0.0, 0
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
            cost, by_positive, by_scale, found = loss.wmrb(
                scoring, positive, z[h], examples, room.found, by_z[h]
            )
            violators += found
            total += cost
            total_by_scale += by_scale
            pull = by_positive * loss.slope_of(scoring, own)
            _pull_label(
                scoring, pull, users, h, room.labels, i, by_users, sums.by_target,
                batch.label_rows[b],
            )  # fmt: skip
    sums.totals[LOSS] += total
    sums.totals[BY_LOG_SCALE] += total_by_scale
    _pull_negatives(count, violators < _FEW * count * len(offset), scoring, room)


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
def _pull_negatives(count: int, few: bool, scoring: Scoring, room: Room) -> None:
    """`Score.pull_pairs` for a block; those by negatives are finished at the end of the part.

    Args:
        count: histories.
        few: whether few negatives pull: the products of matrices, mostly zeros, then cost more than
            one pair after the other.
        scoring: settings.
        room: this part's memory.
    """
    users, by_users = room.users[0, :count], room.users[2, :count]
    by_z, duals, to_negatives = room.z[1, :count], room.negatives[0], room.negatives[1]
    chord = scoring.score != loss.INNER_PRODUCT
    factor = -TWO if chord else ONE
    if few:
        _pull_pairs(factor, users, by_users, by_z, duals, to_negatives, room.found)
    else:
        share = room.users[1, :count]  # the operand is spent
        np.dot(by_z, duals, share)
        np.dot(by_z.T, users, room.negatives[2])
        for h in range(count):
            add(by_users[h], share[h], factor)
        for k in range(by_z.shape[1]):
            add(to_negatives[k], room.negatives[2, k], ONE)
    if chord and scoring.flat:
        column_sums = room.offset[1]
        for h in range(count):
            add(by_users[h, 1:], users[h, 1:], TWO * by_z[h].sum())
            add(column_sums, by_z[h], ONE)


@kernel
def _pull_pairs(
    factor: Any, users: Any, by_users: Any, by_z: Any, duals: Any, to_negatives: Any, found: Any
) -> None:
    """Each user and each negative that pulls it, rows named by number as in `_pull_label`."""
    for h in range(len(users)):
        count = 0
        for k in range(by_z.shape[1]):
            found[count] = k
            count += int(by_z[h, k] != ZERO)
        for i in range(count):
            k = found[i]
            pull = by_z[h, k]
            to_user = factor * pull
            for d in range(users.shape[1]):
                by_users[h, d] += to_user * duals[k, d]
            for d in range(users.shape[1]):
                to_negatives[k, d] += pull * users[h, d]
