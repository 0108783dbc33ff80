"""From the points of a block's histories to its users, and back with the derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels.batch import Batch, Room, Sums, Weights
from hyperrec_core.kernels.compiled import ONE, TWO, ZERO, add, copy, dot, kernel, prefetch
from hyperrec_core.kernels.history import band, pull_scan, pull_weights, scan
from hyperrec_core.kernels.loss import Scoring

_AHEAD = 8  # rows


@kernel
def sum_histories(
    start: int, stop: int, weights: Weights, batch: Batch, context: Any, room: Room
) -> None:
    """Weighted sums of a block's histories into the first of `room.users`."""
    sums = room.users[0]
    base, origin, cells = batch.heads[start], batch.segments[start], 0
    for s in range(start, stop):
        low, high = batch.segments[s] - origin, batch.segments[s + 1] - origin
        points = room.points[low:high]
        for p in range(low, high):
            if p + _AHEAD < high:
                prefetch(context, batch.items[origin + p + _AHEAD])
            copy(room.points[p], context[batch.items[origin + p]])
        entry = room.entry[0, 0:0]
        if len(weights.by_event):
            entry = room.entry[0, low:high]
            for p in range(low, high):
                entry[p - low] = weights.by_event[batch.events[origin + p]]
        head, tail = batch.heads[s], batch.heads[s + 1]
        ends, lengths = batch.ends[head:tail], batch.lengths[head:tail]
        own = sums[head - base : tail - base]
        if weights.banded:
            size = (tail - head) * (high - low)
            matrix = room.band[cells : cells + size].reshape(tail - head, high - low)
            cells += size
            band(ends, lengths, weights.by_lag, entry, matrix)
            np.dot(matrix, points, own)
        else:
            scan(ends, lengths, weights.by_lag, weights.recency, entry, points, own)


@kernel
def centre(count: int, scoring: Scoring, room: Room) -> None:
    """Sums to midpoints (`Space.centroid`), in place."""
    for h in range(count):
        user = room.users[0, h]
        divisor = user[0]
        if not scoring.flat:
            divisor = np.sqrt(user[0] * user[0] - dot(user[1:], user[1:]))
        room.divisor[0, h] = divisor
        for d in range(len(user)):
            user[d] /= divisor


@kernel
def pull_histories(
    start: int,
    stop: int,
    scoring: Scoring,
    weights: Weights,
    batch: Batch,
    room: Room,
    sums: Sums,
) -> None:
    """From derivatives by a block's users to those by the items and weights of histories."""
    base, origin, cells = batch.heads[start], batch.segments[start], 0
    count = batch.heads[stop] - base
    users, by_users = room.users[0], room.users[2]
    for h in range(count):
        _pull_centre(scoring, users[h], room.divisor[0, h], by_users[h])
    for s in range(start, stop):
        low, high = batch.segments[s] - origin, batch.segments[s + 1] - origin
        points = room.points[low:high]
        head, tail = batch.heads[s], batch.heads[s + 1]
        ends, lengths = batch.ends[head:tail], batch.lengths[head:tail]
        by_sums = by_users[head - base : tail - base]
        entry = room.entry[0, 0:0]
        to_entry = room.entry[1, 0:0]
        if len(weights.by_event):
            entry, to_entry = room.entry[0, low:high], room.entry[1, low:high]
            to_entry[:] = ZERO
        if weights.banded:
            size = (tail - head) * (high - low)
            matrix = room.band[cells : cells + size].reshape(tail - head, high - low)
            cells += size
            by_matrix = room.by_band[:size].reshape(tail - head, high - low)
            np.dot(by_sums, points.T, by_matrix)
            pull_weights(ends, lengths, weights.by_lag, entry, by_matrix, sums.by_lag, to_entry)
            np.dot(matrix.T, by_sums, points)
        else:
            pull_scan(
                ends, lengths, weights.by_lag, weights.recency, entry, points, by_sums, to_entry
            )
        for p in range(low, high):
            add(sums.by_context[batch.item_rows[origin + p]], room.points[p], ONE)
        for i in range(len(entry)):
            event = batch.events[origin + low + i]
            sums.by_event[event] += to_entry[i] * entry[i]


@kernel
def _pull_centre(scoring: Scoring, user: Any, divisor: Any, gradient: Any) -> None:
    """`Space.centroid_gradient` for one user, in place."""
    if scoring.flat:
        gradient[0] = user[0] * gradient[0] - dot(gradient, user)
    else:
        along = dot(gradient, user)
        add(gradient, user, along)
        gradient[0] -= TWO * along * user[0]
    for d in range(len(gradient)):
        gradient[d] /= divisor
