"""Touched rows of a table: their numbers within a batch, and the optimiser's step, row by row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hyperrec_core.kernels.compiled import HALF, ONE, TWO, ZERO, dot, kernel, prefetch
from hyperrec_core.kernels.loss import squared_chord

_AHEAD = 32  # places
_SMALL_NORM = np.float32(1e-9)  # as in `spaces`: sinh(n) / n is 1 below
# 1 / n!: the next terms, y^4 / 8! and y^4 / 9!, are below half a unit in the last place.
_2, _3, _4, _5, _6, _7 = (np.float32(1.0 / math.factorial(n)) for n in range(2, 8))
_TINY = np.float32(np.finfo(np.float32).tiny)


class Steps(NamedTuple):
    """The optimiser's settings for one step; see `optim.step_`."""

    flat: bool
    adaptive: bool
    learning_rate: Any
    maximum_step: Any
    pull: Any


@kernel
def number(first: Any, second: Any, place: Any, rows: Any, numbers: Any) -> int:
    """Number the distinct rows of two indices in the order of their first occurrence.

    Args:
        first: rows, int32 [m].
        second: more rows, int32 [n]; may be empty.
        place: scratch, int32 [rows of the table], all -1.
        rows: the row of each number, int32 [m + n]; written as far as needed.
        numbers: both indices in terms of them, int32 [m + n]; overwritten.

    Returns:
        How many distinct rows there are.
    """
    count = i = 0
    for index in (first, second):
        for j in range(len(index)):
            if j + _AHEAD < len(index):
                prefetch(place, index[j + _AHEAD])
            row = index[j]
            if place[row] < 0:
                place[row] = count
                rows[count] = row
                count += 1
            numbers[i] = place[row]
            i += 1
    for r in range(count):
        place[rows[r]] = -1
    return count


def numbered(first: Any, second: Any, place: Any) -> tuple[Any, Any]:
    """The distinct rows of two indices, int32 [r], and both in terms of them; see `number`."""
    size = len(first) + len(second)
    found, numbers = np.empty(size, np.int32), np.empty(size, np.int32)
    return found[: number(first, second, place, found, numbers)], numbers


@kernel
def step(
    steps: Steps, points: Any, sums: Any, touched: Any, gradient: Any, chosen: Any, lengths: Any
) -> None:
    """`optim.step_` for a few points, in place.

    Each of its three loops is over all of them: what a point has to wait for, sums over a row and
    roots, is then waited for once.

    Args:
        steps: settings.
        points: the table, [n, D].
        sums: Adagrad's accumulator, [n], or empty.
        touched: distinct rows, int32 [r].
        gradient: Euclidean gradients by them, [r, D]; overwritten.
        chosen: places of the points among them, [c].
        lengths: scratch, [2, c].
    """
    for c in range(len(chosen)):
        r = chosen[c]
        lengths[0, c] = _project(steps, points, touched[r], gradient, r)
    for c in range(len(chosen)):
        squared, rate = lengths[0, c], steps.learning_rate
        if steps.adaptive:
            row = touched[chosen[c]]
            sums[row] += squared
            rate = rate / math.sqrt(sums[row])
        norm = math.sqrt(squared)
        rate = min(rate, steps.maximum_step / max(norm, _TINY))
        if steps.flat:
            lengths[0, c], lengths[1, c] = ONE, -rate
        else:
            cosh, ratio = _cosh_and_ratio(rate * norm)
            lengths[0, c], lengths[1, c] = cosh, -rate * ratio
    for c in range(len(chosen)):
        r = chosen[c]
        row, own, along = touched[r], lengths[0, c], lengths[1, c]
        if steps.pull > ZERO:
            _draw_in(steps, points[row], gradient[r])
        square = ZERO
        for d in range(1, points.shape[1]):
            moved = own * points[row, d] + along * gradient[r, d]
            points[row, d] = moved
            square += moved * moved
        if not steps.flat:
            points[row, 0] = math.sqrt(ONE + square)


@kernel
def _project(steps: Steps, points: Any, row: int, gradient: Any, r: int) -> Any:
    """A gradient to a tangent vector, in place; returns the square of its length."""
    width, squared, time, along = points.shape[1], ZERO, ZERO, ZERO
    if steps.flat:
        for d in range(1, width):
            squared += gradient[r, d] * gradient[r, d]
        return squared
    for d in range(width):
        along += points[row, d] * gradient[r, d]
    for d in range(1, width):
        gradient[r, d] += along * points[row, d]
        time += gradient[r, d] * points[row, d]
        squared += gradient[r, d] * gradient[r, d]
    gradient[r, 0] = time / points[row, 0]
    return max(squared - gradient[r, 0] * gradient[r, 0], ZERO)


@kernel
def _cosh_and_ratio(x: Any) -> Any:
    """cosh(x) and sinh(x) / x. Below 1/2, where steps end up, by series exact to float32."""
    if x < HALF:
        y = x * x
        cosh = ONE + y * (_2 + y * (_4 + y * _6))
        return cosh, ONE + y * (_3 + y * (_5 + y * _7))
    return np.float32(math.cosh(x)), np.float32(math.sinh(x)) / x


@kernel
def _draw_in(steps: Steps, point: Any, tangent: Any) -> None:
    """Draw a point towards the origin and take its tangent vector along (`optim._pulled`)."""
    xs = point[1:]
    if steps.flat:
        xs *= ONE - steps.pull
        return
    radius = np.float32(math.asinh(math.sqrt(dot(xs, xs))))
    share = ONE - steps.pull
    if radius > _SMALL_NORM:
        share = np.float32(math.sinh(share * radius) / math.sinh(radius))
    nearer = point.copy()
    nearer[1:] *= share
    nearer[0] = math.sqrt(ONE + dot(nearer[1:], nearer[1:]))
    # Parallel transport, as in `lorentz.transport`.
    ahead = onto = product = ZERO
    for d in range(1, len(point)):
        apart = nearer[d] - point[d]
        ahead += apart * (nearer[d] + point[d])
        onto += point[d] * tangent[d]
        product += apart * tangent[d]
    ahead /= point[0] + nearer[0]
    product -= ahead * onto / point[0]
    factor = product / (TWO + squared_chord(False, point, nearer) / TWO)
    for d in range(1, len(point)):
        tangent[d] += factor * (point[d] + nearer[d])
    point[:] = nearer
    tangent[0] = dot(point[1:], tangent[1:]) / point[0]
