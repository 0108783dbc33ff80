"""WMRB on the scores of a few histories: which negatives violate the margin, and their pull.

The loss asks of a negative whether it scores above a threshold, and most do not. A score that is a
distance falls with the squared chord, so the question is put to the squared chord, and only
violators pay for a distance and its slope.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hyperrec_core.kernels.compiled import FOUR, HALF, ONE, TWO, ZERO, copy, dot, kernel

_NEAREST = np.float32(1e-9)  # as in `scores`: keeps the slope of the distance finite
_LEAST_REST = np.float32(2.0**-23)  # as in `lorentz.squared_chord`
_NO_DIRECTION = np.float32(1e-30)  # as in `lorentz`

INNER_PRODUCT, DISTANCE, SQUARED_DISTANCE = range(3)


class Scoring(NamedTuple):
    """How points are compared: flat space or not, one of the three scores, and the loss's list."""

    flat: bool
    score: int
    scale: Any
    list_size: Any


@kernel
def excess(point: Any) -> Any:
    """x0 - 1 on the hyperboloid, without cancellation."""
    return dot(point[1:], point[1:]) / (point[0] + ONE)


@kernel
def negatives_matrix(scoring: Scoring, points: Any, matrix: Any, offset: Any) -> None:
    """Lay negatives out so that z = left @ matrix + offset of `left_operand`'s row.

    z is the score itself for inner products, and the squared chord otherwise, in the forms of
    `lorentz.pairwise_squared_chord` and of `spaces.Flat.squared`.

    Args:
        scoring: settings.
        points: [N, D].
        matrix: [D, N]; overwritten.
        offset: [N]; overwritten.
    """
    factor = scoring.scale if scoring.score == INNER_PRODUCT else -TWO
    for k in range(len(points)):
        point = points[k]
        offset[k] = ZERO
        for d in range(1, len(point)):
            matrix[d, k] = factor * point[d]
        if scoring.score == INNER_PRODUCT:
            matrix[0, k] = ZERO if scoring.flat else -factor * point[0]
        elif scoring.flat:
            matrix[0, k] = ZERO
            offset[k] = dot(point[1:], point[1:])
        else:
            offset[k] = TWO * excess(point)
            matrix[0, k] = offset[k]


@kernel
def left_operand(scoring: Scoring, user: Any, left: Any) -> Any:
    """Fill a row of the product's left operand for squared chords; returns its offset."""
    copy(left, user)
    if scoring.flat:
        return dot(user[1:], user[1:])
    left[0] = excess(user)
    return TWO * left[0]


@kernel
def squared_chord(flat: bool, x: Any, y: Any) -> Any:
    """`Space.squared_each` for one pair."""
    difference = along = square = ZERO
    for d in range(1, len(x)):
        apart, both = x[d] - y[d], x[d] + y[d]
        difference += apart * apart
        along += apart * both
        square += both * both
    if flat or square <= _NO_DIRECTION:
        return difference
    share = along / square
    across = ZERO
    for d in range(1, len(x)):
        rest = x[d] - y[d] - share * (x[d] + y[d])
        across += rest * rest
    slope = along * share / ((x[0] + y[0]) * (x[0] + y[0]))
    return (across + FOUR * slope) / max(ONE - slope, _LEAST_REST)


@kernel
def score_of(scoring: Scoring, z: Any) -> Any:
    """The score that belongs to z."""
    if scoring.score == INNER_PRODUCT:
        return z
    z = max(z, _NEAREST) if not (scoring.flat and scoring.score == SQUARED_DISTANCE) else z
    if scoring.score == DISTANCE:
        root = math.sqrt(z)
        return -scoring.scale * (root if scoring.flat else TWO * math.asinh(HALF * root))
    if scoring.flat:
        return -scoring.scale * z
    distance = TWO * math.asinh(HALF * math.sqrt(z))
    return -scoring.scale * distance * distance


@kernel
def slope_of(scoring: Scoring, z: Any) -> Any:
    """The score's derivative: by the inner product, or by the squared chord z."""
    if scoring.score == INNER_PRODUCT:
        return scoring.scale
    if scoring.flat and scoring.score == SQUARED_DISTANCE:
        return -scoring.scale
    z = max(z, _NEAREST)
    if scoring.flat:
        return -HALF * scoring.scale / math.sqrt(z)
    slope = ONE / math.sqrt(z * (ONE + z / FOUR))
    if scoring.score == DISTANCE:
        return -HALF * scoring.scale * slope
    return -scoring.scale * TWO * math.asinh(HALF * math.sqrt(z)) * slope


@kernel
def threshold(scoring: Scoring, score: Any) -> Any:
    """The z at which a score is reached; a squared chord of -1, which none is below, for never."""
    if scoring.score == INNER_PRODUCT:
        return score
    distance = -score / scoring.scale
    if distance <= ZERO:
        return -ONE
    if scoring.score == SQUARED_DISTANCE:
        if scoring.flat:
            return distance
        distance = math.sqrt(distance)
    if scoring.flat:
        return distance * distance
    half = np.float32(math.sinh(HALF * distance))
    return FOUR * half * half


@kernel
def wmrb(scoring: Scoring, positive: Any, z: Any, examples: Any, found: Any, by_z: Any) -> Any:
    """One label's loss (eq. 15-16, margin 1) and its derivatives.

    Args:
        scoring: settings.
        positive: score of the label.
        z: of the negatives, [N]; `never` for those that are none for this user.
        examples: labels that the mean loss is over.
        found: scratch, int32 [N + 1].
        by_z: derivatives by what z is of (see `slope_of`), added to, [N].

    Returns:
        The loss, its derivative by the label's score, that by the logarithm of the scale, and how
        many negatives violate the margin.
    """
    level = positive - ONE
    share = scoring.list_size / np.float32(len(z))
    count, over = ZERO, ZERO
    if scoring.score == INNER_PRODUCT:
        for k in range(len(z)):
            excess = max(z[k] - level, ZERO)
            over += excess
            count += ONE if excess > ZERO else ZERO
        factor = share / (examples * (ONE + over * share))
        pull = factor * scoring.scale
        for k in range(len(z)):
            by_z[k] += pull if z[k] > level else ZERO
    else:
        if math.isnan(level):  # no number: it would be below no limit, and the loss 0
            return level, level, level, 0
        limit, found_count = threshold(scoring, level), 0
        for k in range(len(z)):
            found[found_count] = k
            found_count += int(not z[k] >= limit)
        for i in range(found_count):
            if math.isnan(z[found[i]]):
                return z[found[i]], z[found[i]], z[found[i]], 0
            # Rounding may put a violator's score by a hair on the other side.
            over += max(score_of(scoring, z[found[i]]) - level, ZERO)
        count += np.float32(found_count)
        factor = share / (examples * (ONE + over * share))
        for i in range(found_count):
            by_z[found[i]] += factor * slope_of(scoring, z[found[i]])
    # The scale multiplies all scores: the sum of score times derivative, over violators and label.
    by_log_scale = factor * (over - count)
    return np.log1p(over * share), -factor * count, by_log_scale, int(count)


@kernel
def never(scoring: Scoring) -> Any:
    """The z of a negative that violates no margin."""
    return np.float32(-np.inf) if scoring.score == INNER_PRODUCT else np.float32(np.inf)
