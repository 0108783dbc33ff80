"""The Poincaré ball model of hyperbolic space with curvature -c, c > 0.

Convention: a point is a d-vector with sqrt(c) |x| < 1; the metric is lambda^2 times the Euclidean
one with lambda = 2 / (1 - c |x|^2) (Ganea et al. 2018). Tensors hold vectors in their last
dimension, in float32 or float64, on any device; leading dimensions broadcast. Tangent vectors are
plain d-vectors; their hyperbolic length is lambda times the Euclidean.

The distance is HyperML's (Tran et al. 2020, eq. 9-10). Distances in the ball of curvature -c are
1 / sqrt(c) of those on the hyperboloid.

Coordinates crowd at the boundary: float32 holds radii up to 8.7 / sqrt(c), float64 up to 18.7 /
sqrt(c); `project` keeps points inside. All gradients are finite for points inside; where two points
coincide the distance has none, and 0 is returned.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below this length tanh(n)/n and artanh(n)/n are 1 to float64 precision; dividing would give 0/0.
_SMALL_NORM = 1e-9


def conformal_factor(x: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """λ = 2 / (1 - c |x|^2). [..., d] -> [...]."""
    return 2.0 / (1.0 - c * _square(x))


def project(x: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Pull points at or beyond the boundary back inside; others stay where they are. [..., d].

    The largest sqrt(c) |x| is 1 - sqrt(eps) of the dtype: there 1 - c |x|^2 still has half its
    digits. Nearer to 1 it would be noise or zero, and distances infinite or NaN.
    """
    largest = (1.0 - torch.finfo(x.dtype).eps ** 0.5) / c**0.5
    norm = x.norm(dim=-1, keepdim=True)
    inside = norm <= largest
    return torch.where(inside, x, x * (largest / torch.where(inside, 1.0, norm)))


def mobius_add(x: Tensor, y: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Möbius addition (Ungar 2009; HyperML eq. 4), [..., d].

    ((1 + 2c x.y + c|y|^2) x + (1 - c|x|^2) y) / (1 + 2c x.y + c^2 |x|^2 |y|^2)
    """
    xx, yy, xy = (value.unsqueeze(-1) for value in (_square(x), _square(y), (x * y).sum(-1)))
    above = (1.0 + 2.0 * c * xy + c * yy) * x + (1.0 - c * xx) * y
    return above / (1.0 + 2.0 * c * xy + c * c * xx * yy)


def distance(x: Tensor, y: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Distance 2 / sqrt(c) artanh(sqrt(c) |(-x) + y|), + being Möbius addition. [..., d] -> [...].

    Computed as 2 / sqrt(c) asinh(sqrt(c) |x - y| / sqrt((1 - c|x|^2)(1 - c|y|^2))), the same
    without artanh's pole at 1 and without a cancelling sum. `x - y` is exact for near points, so
    what remains is the crowding of the coordinates.
    """
    apart = (x - y).norm(dim=-1)
    scale = ((1.0 - c * _square(x)) * (1.0 - c * _square(y))) ** 0.5
    return 2.0 / c**0.5 * torch.asinh(c**0.5 * apart / scale)


def exp_map(x: Tensor, tangent: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Exponential map x + tanh(sqrt(c) lambda |v| / 2) v / (sqrt(c) |v|), [..., d].

    + is Möbius addition (Ganea et al. 2018, lemma 2). The result is not projected.
    """
    half = conformal_factor(x, c).unsqueeze(-1) / 2.0
    return mobius_add(x, _tanh_along(half * tangent, c), c)


def log_map(x: Tensor, y: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """The tangent vector at x that `exp_map` takes to y, [..., d] (Ganea et al. 2018, lemma 2).

    2 / (sqrt(c) lambda) artanh(sqrt(c) |u|) u / |u| with u = (-x) + y; the artanh is half the
    distance, which `distance` computes without a pole. With D = y - x the Möbius sum is ((1 -
    c|x|^2) D - c|D|^2 x) / ((1 - c|x|^2)(1 - c|y|^2) + c|D|^2), which keeps near points' digits.
    """
    apart = y - x
    square, rest = c * _square(apart).unsqueeze(-1), 1.0 - c * _square(x).unsqueeze(-1)
    below = rest * (1.0 - c * _square(y).unsqueeze(-1)) + square
    u = (rest * apart - square * x) / below
    norm = c**0.5 * u.norm(dim=-1)
    far = norm > _SMALL_NORM
    ratio = torch.where(far, c**0.5 / 2.0 * distance(x, y, c) / torch.where(far, norm, 1.0), 1.0)
    return (2.0 * ratio / conformal_factor(x, c)).unsqueeze(-1) * u


def exp_origin(tangent: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Exponential map at the origin, tanh(sqrt(c) |v|) v / (sqrt(c) |v|). [..., d].

    With the metric's factor 2 at the origin, a tangent vector v goes 2 |v| far.
    """
    return _tanh_along(tangent, c)


def log_origin(y: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Inverse of `exp_origin`, artanh(sqrt(c) |y|) y / (sqrt(c) |y|). [..., d]."""
    norm = c**0.5 * y.norm(dim=-1, keepdim=True)
    far = norm > _SMALL_NORM
    return torch.where(far, torch.atanh(norm) / torch.where(far, norm, 1.0), 1.0) * y


def transport(x: Tensor, y: Tensor, tangent: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Parallel transport from x to y: lambda_x / lambda_y gyr[y, -x] v. [..., d].

    The gyration (Ungar 2009) turns v in the plane of x and y and keeps its Euclidean length; the
    quotient of conformal factors keeps its hyperbolic length.
    """
    u, v, w = y, -x, tangent
    uu, vv = _square(u).unsqueeze(-1), _square(v).unsqueeze(-1)
    uv, uw, vw = ((a * b).sum(-1, keepdim=True) for a, b in ((u, v), (u, w), (v, w)))
    on_u = -c * c * uw * vv + c * vw + 2.0 * c * c * uv * vw
    on_v = -c * c * vw * uu - c * uw
    turned = w + 2.0 * (on_u * u + on_v * v) / (1.0 + 2.0 * c * uv + c * c * uu * vv)
    return turned * (conformal_factor(x, c) / conformal_factor(y, c)).unsqueeze(-1)


def riemannian_gradient(x: Tensor, gradient: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """The tangent gradient at x from the Euclidean one: (1 - c|x|^2)^2 / 4 of it. [..., d].

    HyperML eq. 14; Nickel & Kiela 2017, eq. 5.
    """
    return gradient / conformal_factor(x, c).square().unsqueeze(-1)


def from_lorentz(x: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """The ball's point of a hyperboloid point: xs / (1 + x0) / sqrt(c). [..., d + 1] -> [..., d].

    Radii keep their digits; distances shrink by sqrt(c).
    """
    return x[..., 1:] / ((1.0 + x[..., :1]) * c**0.5)


def to_lorentz(x: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Inverse of `from_lorentz`: (1 + p^2, 2p) / (1 - p^2), p = sqrt(c) x. [..., d] -> [..., d+1].

    Distances grow by sqrt(c). Near the boundary the crowded coordinates decide how exact it is.
    """
    p = c**0.5 * x
    square = _square(p).unsqueeze(-1)
    return torch.cat((1.0 + square, 2.0 * p), dim=-1) / (1.0 - square)


def _square(x: Tensor) -> Tensor:
    return (x * x).sum(-1)


def _tanh_along(v: Tensor, c: float | Tensor) -> Tensor:
    """tanh(sqrt(c) |v|) v / (sqrt(c) |v|), [..., d]."""
    norm = c**0.5 * v.norm(dim=-1, keepdim=True)
    far = norm > _SMALL_NORM
    return torch.where(far, torch.tanh(norm) / torch.where(far, norm, 1.0), 1.0) * v
