"""What a step's triples cost, and the derivatives by their points, triple by triple.

A triple is a user, an item of theirs and another item. The twins of the losses of `models.hyperml`,
`models.cml` and `models.mf_bpr`, whose tensor code is the definition.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hyperrec_core.kernels.compiled import FOUR, HALF, ONE, TWO, ZERO, dot, kernel

_SMALL = np.float32(1e-9)  # asinh(y) / y is 1 below

# As far out as `poincare.project` lets points, times sqrt(c).
_LARGEST = np.float32(1.0 - np.finfo(np.float32).eps ** 0.5)

# Of series in m^2: what they leave out is below 1e-5 of their value.
_NEAR = np.float32(0.02)
_THIRD, _FIFTH, _2_15 = (np.float32(x) for x in (1 / 3, 1 / 5, 2 / 15))
_2_3, _4_5, _6_7 = (np.float32(x) for x in (2 / 3, 4 / 5, 6 / 7))
_8_15, _34_105 = (np.float32(x) for x in (8 / 15, 34 / 105))


class Triples(NamedTuple):
    """A step's triples, by the numbers of the rows that the step touches.

    Attributes:
        users: int32 [B].
        positives: an item of each, int32 [B].
        negatives: others that each is compared with, int32 [B, M].
        seen: whether the user has interacted with one after all, which then counts for nothing,
            bool [B, M].
    """

    users: Any
    positives: Any
    negatives: Any
    seen: Any


class BallLoss(NamedTuple):
    """Settings of `ball`; see `models.hyperml`."""

    margin: Any
    curvature: Any
    distortion: Any
    nearest: Any
    flat: bool


@kernel
def ball(
    users: Any, items: Any, triples: Triples, loss: BallLoss, by_users: Any, by_items: Any
) -> float:
    """HyperML's loss (eq. 11-13), and its derivatives.

    Args:
        users: points of the ball in the first d columns; with `loss.flat`, their tangent vectors at
            the origin in the next d. [r, d] or [r, 2 d].
        items: the same of items.
        triples: of these rows.
        loss: settings.
        by_users: derivatives by `users` are added to it.
        by_items: derivatives by `items` are added to it.

    Returns:
        The sum over B of the mean over M.
    """
    total, drawn = 0.0, triples.negatives.shape[1]
    d = users.shape[1] // 2 if loss.flat else users.shape[1]
    weight = ONE / np.float32(drawn)
    for b in range(len(triples.users)):
        u, j = triples.users[b], triples.positives[b]
        near = _squared_ratio(users, u, items, j, d, loss.curvature)
        near_length, near_slope = _length(near, loss.curvature)
        for m in range(drawn):
            if triples.seen[b, m]:
                continue
            k = triples.negatives[b, m]
            far = _squared_ratio(users, u, items, k, d, loss.curvature)
            far_length, far_slope = _length(far, loss.curvature)
            hinge = loss.margin + near_length * near_length - far_length * far_length
            pull = ZERO
            if hinge > ZERO:
                total += weight * hinge
                pull = weight
            by_near, by_far = pull * TWO * near_slope, -pull * TWO * far_slope
            if loss.distortion > ZERO:
                heavy = weight * loss.distortion
                cost, by_length = _distort(
                    users, u, items, j, d, near_length, loss.nearest, heavy, by_users, by_items
                )
                total += cost
                if near > ZERO:
                    by_near += by_length * near_slope / near_length
                cost, by_length = _distort(
                    users, u, items, k, d, far_length, loss.nearest, heavy, by_users, by_items
                )
                total += cost
                if far > ZERO:
                    by_far += by_length * far_slope / far_length
            if by_near != ZERO:
                _pull(users, u, items, j, d, loss.curvature, by_near, by_users, by_items)
            if by_far != ZERO:
                _pull(users, u, items, k, d, loss.curvature, by_far, by_users, by_items)
    return total


@kernel
def _measure(users: Any, u: int, items: Any, v: int, d: int, c: Any) -> Any:
    """Of two points |u - v|^2, and what remains to the boundary: 1 - c |u|^2 and 1 - c |v|^2."""
    apart = length_u = length_v = ZERO
    for i in range(d):
        difference = users[u, i] - items[v, i]
        apart += difference * difference
        length_u += users[u, i] * users[u, i]
        length_v += items[v, i] * items[v, i]
    return apart, ONE - c * length_u, ONE - c * length_v


@kernel
def _squared_ratio(users: Any, u: int, items: Any, v: int, d: int, c: Any) -> Any:
    """Of sinh(sqrt(c) distance / 2), the square: c |u - v|^2 / ((1 - c |u|^2)(1 - c |v|^2))."""
    apart, rest_u, rest_v = _measure(users, u, items, v, d, c)
    return c * apart / (rest_u * rest_v)


@kernel
def _length(ratio: Any, c: Any) -> Any:
    """The distance of a squared ratio s, and half the derivative of its square by s.

    distance = 2 / sqrt(c) asinh(sqrt(s)); d(distance^2) / ds / 2 = distance / sqrt(c s (1 + s)).
    """
    root = np.float32(math.sqrt(ratio))
    if root < _SMALL:
        return TWO * root / np.float32(math.sqrt(c)), TWO / c
    length = TWO * np.float32(math.asinh(root)) / np.float32(math.sqrt(c))
    return length, length / np.float32(math.sqrt(c * ratio * (ONE + ratio)))


@kernel
def _pull(
    users: Any, u: int, items: Any, v: int, d: int, c: Any, slope: Any, by_users: Any, by_items: Any
) -> None:
    """Add the derivatives of the squared ratio by both points, times a slope.

    With A = 1 - c |u|^2, B = 1 - c |v|^2: 2 c / (A B) (u - v + c |u - v|^2 / A u) by u.
    """
    apart, rest_u, rest_v = _measure(users, u, items, v, d, c)
    factor = TWO * c * slope / (rest_u * rest_v)
    along_u, along_v = c * apart / rest_u, c * apart / rest_v
    for i in range(d):
        x, y = users[u, i], items[v, i]
        by_users[u, i] += factor * (x - y + along_u * x)
        by_items[v, i] += factor * (y - x + along_v * y)


@kernel
def _distort(
    users: Any,
    u: int,
    items: Any,
    v: int,
    d: int,
    curved: Any,
    nearest: Any,
    weight: Any,
    by_users: Any,
    by_items: Any,
) -> Any:
    """|curved - flat| / flat of two points (eq. 12), times a weight; its derivative by `curved`.

    Those by the tangent vectors are added here.
    """
    squared = ZERO
    for i in range(d, 2 * d):
        difference = users[u, i] - items[v, i]
        squared += difference * difference
    length = np.float32(math.sqrt(squared))
    flat = TWO * max(length, nearest)
    sign = weight if curved > flat else -weight
    if length > nearest:
        factor = -sign * curved / (flat * flat) * TWO / length
        for i in range(d, 2 * d):
            along = factor * (users[u, i] - items[v, i])
            by_users[u, i] += along
            by_items[v, i] -= along
    return sign * (curved - flat) / flat, sign / flat


@kernel
def unfold(points: Any, c: Any, tangent: bool, both: Any) -> None:
    """Points of the ball, [r, d], and their tangent vectors at the origin, side by side, [r, 2 d].

    With `tangent` the points are the tangent vectors (`poincare.exp_origin`, projected; else
    `poincare.log_origin`).
    """
    d = points.shape[1]
    for r in range(len(points)):
        stretch, _ = _radial(points[r], c, tangent)
        for i in range(d):
            x = points[r, i]
            both[r, i] = stretch * x if tangent else x
            both[r, d + i] = x if tangent else stretch * x


@kernel
def fold(points: Any, c: Any, tangent: bool, by_both: Any, by_points: Any) -> None:
    """Add the derivatives by points to those of theirs by what `unfold` made of them."""
    d = points.shape[1]
    stretched, kept = (0, d) if tangent else (d, 0)
    for r in range(len(points)):
        stretch, change = _radial(points[r], c, tangent)
        along = ZERO
        for i in range(d):
            along += points[r, i] * by_both[r, stretched + i]
        along *= change
        for i in range(d):
            by_points[r, i] += (
                by_both[r, kept + i] + stretch * by_both[r, stretched + i] + along * points[r, i]
            )


@kernel
def _radial(x: Any, c: Any, tangent: bool) -> Any:
    """How much longer a map at the origin makes x, s(|x|), and s'(|x|) / |x|.

    s(n) is tanh(m) / m outwards from the tangent space and artanh(m) / m back, m = sqrt(c) n. Their
    derivatives cancel near the origin, where the first terms of their series take their place.
    """
    squared = c * dot(x, x)
    if squared < _NEAR:
        if tangent:
            stretch = ONE - squared * (_THIRD - squared * _2_15)
            return stretch, -c * (_2_3 - squared * (_8_15 - squared * _34_105))
        stretch = ONE + squared * (_THIRD + squared * _FIFTH)
        return stretch, c * (_2_3 + squared * (_4_5 + squared * _6_7))
    length = np.float32(math.sqrt(squared))
    if tangent:
        reached = np.float32(math.tanh(length))
        slope = ONE - reached * reached
        if reached > _LARGEST:
            reached, slope = _LARGEST, ZERO
        stretch = reached / length
    else:
        stretch = np.float32(math.atanh(length)) / length
        slope = ONE / (ONE - squared)
    return stretch, c * (slope - stretch) / squared


@kernel
def descend(
    points: Any, gradient: Any, rate: Any, c: Any, longest: Any, tangent: bool, stays: Any
) -> None:
    """`hyperml.Ball.move`, in place."""
    for r in range(len(points)):
        factor, scale = TWO, rate / FOUR
        if not tangent:
            rest = ONE - c * dot(points[r], points[r])
            factor, scale = TWO / rest, rate * rest * rest / FOUR
        steep = np.float32(math.sqrt(c * dot(gradient[r], gradient[r])))
        scale /= max(factor * scale * steep / longest, ONE)
        squared = ZERO
        for i in range(points.shape[1]):
            moved = points[r, i] - scale * gradient[r, i]
            points[r, i] = moved
            squared += moved * moved
        reached = np.float32(math.sqrt(c * squared))
        if not tangent and reached > _LARGEST:
            points[r] *= _LARGEST / reached
            reached = _LARGEST
        if stays < ONE and reached > _SMALL:
            nearer = stays
            if not tangent:
                nearer = np.float32(math.tanh(stays * math.atanh(reached))) / reached
            points[r] *= nearer


@kernel
def unit_ball(
    users: Any, items: Any, triples: Triples, margin: Any, by_users: Any, by_items: Any
) -> float:
    """The same hinge by squared Euclidean distances (`models.cml`); arguments as of `ball`."""
    total, drawn = 0.0, triples.negatives.shape[1]
    weight = ONE / np.float32(drawn)
    for b in range(len(triples.users)):
        u, j = triples.users[b], triples.positives[b]
        for m in range(drawn):
            if triples.seen[b, m]:
                continue
            k = triples.negatives[b, m]
            hinge = margin
            for i in range(users.shape[1]):
                near, far = users[u, i] - items[j, i], users[u, i] - items[k, i]
                hinge += near * near - far * far
            if hinge <= ZERO:
                continue
            total += weight * hinge
            for i in range(users.shape[1]):
                x, y, z = users[u, i], items[j, i], items[k, i]
                by_users[u, i] += TWO * weight * (z - y)
                by_items[j, i] += TWO * weight * (y - x)
                by_items[k, i] += TWO * weight * (x - z)
    return total


@kernel
def factors(
    users: Any, items: Any, triples: Triples, regularisation: Any, by_users: Any, by_items: Any
) -> float:
    """-ln sigma of the difference of products, with a penalty (`models.mf_bpr`); as of `ball`."""
    total, drawn = 0.0, triples.negatives.shape[1]
    weight = ONE / np.float32(drawn)
    shrink = weight * regularisation
    for b in range(len(triples.users)):
        u, j = triples.users[b], triples.positives[b]
        for m in range(drawn):
            if triples.seen[b, m]:
                continue
            k = triples.negatives[b, m]
            worse = squares = ZERO
            for i in range(users.shape[1]):
                x, y, z = users[u, i], items[j, i], items[k, i]
                worse += x * (z - y)
                squares += x * x + y * y + z * z
            # softplus, without overflow at either end
            below = np.float32(math.exp(-abs(worse)))
            total += weight * (max(worse, ZERO) + math.log1p(below)) + HALF * shrink * squares
            slope = weight * (ONE if worse > ZERO else below) / (ONE + below)
            for i in range(users.shape[1]):
                x, y, z = users[u, i], items[j, i], items[k, i]
                by_users[u, i] += slope * (z - y) + shrink * x
                by_items[j, i] += shrink * y - slope * x
                by_items[k, i] += shrink * z + slope * x
    return total
