"""The hyperboloid (Lorentz) model of hyperbolic space H^d.

Convention, everywhere in hyperrec: signature (-, +, ..., +), curvature -1, **time coordinate
first**. A point x = (x0, x1, ..., xd) has <x, x> = -1 and x0 > 0; its radius, the distance to the
origin (1, 0, ..., 0), is arccosh(x0). Tensors hold vectors in their last dimension, of length
D = d + 1, in float32 or float64, on any device; leading dimensions broadcast. xs is the spatial
part of x. "eq." numbers are those of Chamberlain et al. 2019.

Distances start from the squared chord q = <x-y, x-y> = -2 <x, y> - 2, of which d = 2 asinh(sqrt(q)
/ 2) loses no digits; what matters is how q is computed. ERRORS.md has the measured errors of every
form. All gradients are finite; where two points coincide the distance has none, and 0, which is a
subgradient, is returned. As functions of D free coordinates these formulas differ off the sheet, so
only the tangent part of a gradient has a meaning: take it with `riemannian_gradient`.

float32 coordinates carry radii up to about 8; the constraint itself stops resolving near 9 (19 in
float64), where 1 is lost beside |xs|^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below this length sinh(n)/n and n/sinh(n) are 1 to float64 precision, and dividing would give 0/0.
_SMALL_NORM = 1e-9
# A vector of a smaller squared length gives no direction to split along: squares of its coordinates
# underflow in float32, and dividing by the length would be 0/0.
_NO_DIRECTION = 1e-30
# The paper's epsilon in eq. 19: arccosh has an infinite slope at 1, here it has a slope of 700.
_PAPER_GUARD = 1e-6


def flip_time(x: Tensor) -> Tensor:
    """Change the sign of the time coordinate, so that <x, y> = dot(flip_time(x), y). [..., D]."""
    return torch.cat((-x[..., :1], x[..., 1:]), dim=-1)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Lorentz inner product -x0 y0 + sum xi yi. [..., D] -> [...]."""
    return (x[..., 1:] * y[..., 1:]).sum(-1) - x[..., 0] * y[..., 0]


def from_spatial(spatial: Tensor) -> Tensor:
    """The point over spatial coordinates: x0 = sqrt(1 + |spatial|^2). [..., d] -> [..., D].

    Recomputing the time coordinate keeps a point on the sheet by construction.
    """
    time = (1.0 + (spatial * spatial).sum(-1, keepdim=True)).sqrt()
    return torch.cat((time, spatial), dim=-1)


def to_sheet(ambient: Tensor) -> Tensor:
    """Project along the time axis onto the sheet; points on it stay where they are. [..., D]."""
    return from_spatial(ambient[..., 1:])


def squared_chord(x: Tensor, y: Tensor) -> Tensor:
    """The squared chord q = <x-y, x-y> = 4 sinh^2(d/2) >= 0, element by element. [..., D] -> [...].

    With D = xs - ys, s = xs + ys and t = x0 + y0, the difference form q = |D|^2 - (D.s / t)^2
    cancels at large radii. Split D into D' across s and a along it: q = |D'|^2 + a^2 (1 - |s|^2 /
    t^2), and t^2 - |s|^2 = 4 + q, so q = (|D'|^2 + 4 p) / (1 - p) with p = (a / t)^2: a sum of
    positive terms. In float32 the distance has a relative error of 1e-7 up to radius 4 and of 1e-5
    up to 8, where the difference form has 4e-5 and then 1e-1.
    """
    xs, ys = x[..., 1:], y[..., 1:]
    across, along = _split(xs - ys, xs + ys)
    slope = (along / (x[..., 0] + y[..., 0])).square()
    # One point so far out that 1 - p rounds to 0 would be infinitely far from all others.
    rest = (1.0 - slope).clamp_min(torch.finfo(x.dtype).eps)
    return (across + 4.0 * slope) / rest


def pairwise_squared_chord(x: Tensor, y: Tensor) -> Tensor:
    """The squared chord of all pairs around one matrix product. [B, D], [N, D] -> [B, N].

    With e = x0 - 1 = |xs|^2 / (x0 + 1), q = 2 (ex + ey + ex ey - xs.ys): the same as -2 <x, y> - 2
    with the ones cancelled by hand. Its rounding error is relative to |xs| |ys|, not to 1, so that
    near-Euclidean points (low curvature) keep their ranking; `squared_chord` resolves more where
    points are nearer to each other than to the origin. Rounding may leave coincident points a tiny
    negative value, which `chord_length` takes for 0.
    """
    ex, ey = _excess(x), _excess(y)
    left = torch.cat((ex, x[..., 1:]), dim=-1)
    right = torch.cat((ey, -y[..., 1:]), dim=-1)
    return 2.0 * torch.addmm(ex + ey.T, left, right.T)


def chord_length(squared: Tensor) -> Tensor:
    """The hyperbolic distance 2 asinh(sqrt(q) / 2) that belongs to a squared chord q. [...]."""
    return 2.0 * torch.asinh(_root(squared) / 2.0)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Hyperbolic distance, element by element, by the difference form. [..., D] -> [...].

    arccosh(-<x, y>) loses every digit for near points, because -<x, y> rounds to 1. See
    `squared_chord` for what is computed instead.
    """
    return chord_length(squared_chord(x, y))


def pairwise_distance(x: Tensor, y: Tensor) -> Tensor:
    """Hyperbolic distance of all pairs around one matrix product. [B, D], [N, D] -> [B, N]."""
    return chord_length(pairwise_squared_chord(x, y))


def arccosh_distance(x: Tensor, y: Tensor) -> Tensor:
    """Distance by its definition, arccosh(-<x, y>). [..., D] -> [...].

    In float32 near points lose every digit: 2e-3 relative error at radius 1 and separation 0.01,
    nothing left at radius 4. The gradient (eq. 18) is infinite at 1, where 0 is returned.
    """
    product = -inner(x, y)
    apart = product > 1.0
    return torch.where(apart, torch.arccosh(torch.where(apart, product, 2.0)), 0.0)


def guarded_distance(x: Tensor, y: Tensor) -> Tensor:
    """The paper's guarded distance, arccosh(-<x, y> + 1e-6) (eq. 19). [..., D] -> [...].

    The sign is the one that works: with -(<x, y> + 1e-6), as printed, the argument of near points
    would fall below 1, where arccosh is not defined. Products below 1 by rounding count as 1.
    Coincident points come out 1.4e-3 apart, and nothing nearer than that is told apart.
    """
    return torch.arccosh((-inner(x, y)).clamp_min(1.0) + _PAPER_GUARD)


def radius(x: Tensor) -> Tensor:
    """Distance to the origin, asinh(|spatial|), which is exact near it too. [..., D] -> [...]."""
    return torch.asinh(x[..., 1:].norm(dim=-1))


def to_tangent(x: Tensor, ambient: Tensor) -> Tensor:
    """Project an ambient vector onto the tangent space at x: h + <x, h> x (eq. 21). [..., D]."""
    return ambient + inner(x, ambient).unsqueeze(-1) * x


def riemannian_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """The tangent gradient at x from the Euclidean one (eq. 20-21): inverse metric, then project.

    Args:
        x: points, [..., D].
        gradient: derivatives by the ambient coordinates, [..., D].
    """
    return to_tangent(x, flip_time(gradient))


def tangent_norm(x: Tensor, tangent: Tensor) -> Tensor:
    """Length sqrt(<v, v>) of a tangent vector v at x. [..., D] -> [...].

    Tangency implies v0 = (xs . vs) / x0. Split vs into v' across xs and a along it: <v, v> =
    |v'|^2 + (a / x0)^2, clear of the rounding that a stored v0 has gathered and of cancellation.
    """
    across, along = _split(tangent[..., 1:], x[..., 1:])
    return _root(across + (along / x[..., 0]).square())


def exp_map(x: Tensor, tangent: Tensor) -> Tensor:
    """Exponential map cosh(n) x + sinh(n) v / n with n = |v| (eq. 12), put back on the sheet.

    Args:
        x: points, [..., D].
        tangent: tangent vectors at x, [..., D].
    """
    norm = tangent_norm(x, tangent).unsqueeze(-1)
    ratio = torch.where(norm > _SMALL_NORM, torch.sinh(norm) / norm.clamp_min(_SMALL_NORM), 1.0)
    return from_spatial(torch.cosh(norm) * x[..., 1:] + ratio * tangent[..., 1:])


def log_map(x: Tensor, y: Tensor) -> Tensor:
    """The tangent vector at x that `exp_map` takes to y; its length is their distance. [..., D].

    d / sinh(d) (y + <x, y> x), with -<x, y> = 1 + q / 2 so that near points keep their digits:
    y + <x, y> x = (y - x) - (q / 2) x.
    """
    squared = squared_chord(x, y).unsqueeze(-1)
    half = _root(squared) / 2.0
    sinh = (half * (1.0 + half * half).sqrt()).clamp_min(_SMALL_NORM)
    ratio = torch.where(half > _SMALL_NORM, torch.asinh(half) / sinh, 1.0)
    return _tangent(x, ratio * (y[..., 1:] - x[..., 1:] - squared / 2.0 * x[..., 1:]))


def transport(x: Tensor, y: Tensor, tangent: Tensor) -> Tensor:
    """Parallel transport of a tangent vector at x to y along the geodesic between them. [..., D].

    v + <y, v> / (1 - <x, y>) (x + y), with <y, v> = <y - x, v> because v is tangent at x, and
    1 - <x, y> = 2 + q / 2. Lengths and angles stay (Nickel & Kiela 2018, section 3).
    """
    xs, ys, vs = x[..., 1:], y[..., 1:], tangent[..., 1:]
    ahead = ((ys - xs) * (ys + xs)).sum(-1) / (x[..., 0] + y[..., 0])
    product = ((ys - xs) * vs).sum(-1) - ahead * (xs * vs).sum(-1) / x[..., 0]
    share = product / (2.0 + squared_chord(x, y) / 2.0)
    return _tangent(y, vs + share.unsqueeze(-1) * (xs + ys))


def residual(x: Tensor) -> Tensor:
    """How far off the sheet, relative to its terms: |<x, x> + 1| / x0^2. [..., D] -> [...]."""
    return (inner(x, x) + 1.0).abs() / (x[..., 0] * x[..., 0])


def _excess(x: Tensor) -> Tensor:
    """x0 - 1 without cancellation, [..., D] -> [..., 1]."""
    spatial = x[..., 1:]
    return (spatial * spatial).sum(-1, keepdim=True) / (x[..., :1] + 1.0)


def _tangent(x: Tensor, spatial: Tensor) -> Tensor:
    """The tangent vector at x over its spatial part, [..., D], [..., d] -> [..., D]."""
    return torch.cat(((x[..., 1:] * spatial).sum(-1, keepdim=True) / x[..., :1], spatial), dim=-1)


def _split(vector: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Squared length of a vector across a direction, and its component along. [..., d] -> [...]."""
    square = (direction * direction).sum(-1, keepdim=True)
    known = square > _NO_DIRECTION
    square = torch.where(known, square, 1.0)
    share = torch.where(known, (vector * direction).sum(-1, keepdim=True), 0.0) / square
    across = vector - share * direction
    return (across * across).sum(-1), (share * square.sqrt()).squeeze(-1)


def _root(squared: Tensor) -> Tensor:
    """sqrt(max(squared, 0)) whose gradient at 0 is 0, where sqrt's is infinite and 0 * inf NaN."""
    positive = squared > 0.0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
