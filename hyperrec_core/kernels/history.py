"""Weighted sums of the histories of a segment, and their derivatives.

A segment is a stretch of one user's items in which several histories end. Learned weights by lag
are a banded matrix product; equal or exponential weights are one pass over the items, whatever the
number of histories.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels.compiled import ONE, ZERO, add, copy, dot, kernel


@kernel
def band(ends: Any, lengths: Any, by_lag: Any, entry: Any, matrix: Any) -> None:
    """What each item weighs in each history.

    Args:
        ends: where each history ends in the segment (exclusive), int32 [h].
        lengths: items of each history, int32 [h].
        by_lag: weight of each lag, the newest last, float32 [lags].
        entry: factor of each item of the segment, float32 [m], or empty.
        matrix: float32 [h, m]; overwritten.
    """
    # Loops that count from 0, on stretches: otherwise every index is checked for being negative.
    for h in range(len(ends)):
        row, length = matrix[h], lengths[h]
        row[:] = ZERO
        start = ends[h] - length
        inside = row[start : ends[h]]
        newest = by_lag[len(by_lag) - length :]
        if len(entry):
            factors = entry[start : ends[h]]
            for i in range(length):
                inside[i] = newest[i] * factors[i]
        else:
            for i in range(length):
                inside[i] = newest[i]


@kernel
def pull_weights(
    ends: Any, lengths: Any, by_lag: Any, entry: Any, by_matrix: Any, to_lag: Any, to_entry: Any
) -> None:
    """Add the derivatives by lag weights and entry factors, from those by the banded matrix."""
    for h in range(len(ends)):
        length, start = lengths[h], ends[h] - lengths[h]
        inside, to_newest = by_matrix[h, start : ends[h]], to_lag[len(to_lag) - length :]
        if len(entry):
            newest, factors = by_lag[len(by_lag) - length :], entry[start : ends[h]]
            to_factors = to_entry[start : ends[h]]
            for i in range(length):
                to_newest[i] += inside[i] * factors[i]
                to_factors[i] += inside[i] * newest[i]
        else:
            for i in range(length):
                to_newest[i] += inside[i]


@kernel
def scan(
    ends: Any, lengths: Any, by_lag: Any, recency: Any, entry: Any, points: Any, sums: Any
) -> None:
    """Sums of histories whose weights fall by the factor `recency` from lag to lag.

    Args:
        ends: as in `band`, ascending.
        lengths: as in `band`.
        by_lag: as in `band`, or empty where all weigh 1.
        recency: ratio of neighbouring weights, 1 for equal ones.
        entry: as in `band`.
        points: of the segment's items, float32 [m, D].
        sums: float32 [h, D]; overwritten.
    """
    running = np.zeros(points.shape[1], np.float32)
    low = high = ends[0] - lengths[0]
    for h in range(len(ends)):
        while high < ends[h]:
            factor = entry[high] if len(entry) else ONE
            for d in range(len(running)):
                running[d] = running[d] * recency + factor * points[high, d]
            high += 1
        while low < ends[h] - lengths[h]:
            factor = entry[low] if len(entry) else ONE
            if len(by_lag):
                # Beyond the last lag: what the recurrence has made of this item's weight.
                beyond = high - low - len(by_lag)
                factor *= by_lag[0] * np.float32(recency**beyond)
            add(running, points[low], -factor)
            low += 1
        copy(sums[h], running)


@kernel
def pull_scan(
    ends: Any,
    lengths: Any,
    by_lag: Any,
    recency: Any,
    entry: Any,
    points: Any,
    by_sums: Any,
    to_entry: Any,
) -> None:
    """Replace the points of a segment by the derivatives by them; adds those by entry factors."""
    running = np.zeros(points.shape[1], np.float32)
    ending = leaving = len(ends) - 1
    for p in range(len(points) - 1, -1, -1):
        running *= recency
        while ending >= 0 and ends[ending] == p + 1:
            add(running, by_sums[ending], ONE)
            ending -= 1
        while leaving >= 0 and ends[leaving] - lengths[leaving] == p + 1:
            weight = ONE
            if len(by_lag):
                weight = by_lag[len(by_lag) - lengths[leaving]] * recency
            add(running, by_sums[leaving], -weight)
            leaving -= 1
        if len(entry):
            to_entry[p] += dot(running, points[p])
            for d in range(len(running)):
                points[p, d] = entry[p] * running[d]
        else:
            copy(points[p], running)
