"""The Klein ball model of hyperbolic space, curvature -1: geodesics are straight lines.

Convention: a point is a d-vector with |x| < 1, the central projection xs / x0 of a hyperboloid
point. Tensors hold vectors in their last dimension, in float32 or float64, on any device; leading
dimensions broadcast. "eq." numbers are those of Chamberlain et al. 2019.

Coordinates crowd at the boundary twice as fast as in the Poincaré ball: float32 holds radii up to
about 4, float64 up to 9. Production code stays on the hyperboloid (`hyperrec_core.midpoint`); this
module is the paper's own notation, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def lorentz_factor(x: Tensor) -> Tensor:
    """γ = 1 / sqrt(1 - |x|^2), the time coordinate of the point's lift. [..., d] -> [...]."""
    return _rest(x).rsqrt()


def printed_gamma(x: Tensor) -> Tensor:
    """γ as eq. 25 prints it, 1 / (1 - |x|^2): the square of the Lorentz factor.

    [..., d] -> [...]. With it the midpoint moves with the origin, so it is no isometry's midpoint.
    """
    return 1.0 / _rest(x)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Hyperbolic distance, the same as of the lifts, [..., d] -> [...].

    cosh d = (1 - x.y) / sqrt((1 - |x|^2)(1 - |y|^2)) (Ungar 2009) cancels for near points; with
    D = x - y it is sinh^2 d = (|D|^2 (1 - |x|^2) + (x.D)^2) / ((1 - |x|^2)(1 - |y|^2)).
    """
    apart = x - y
    rest = _rest(x)
    square = _square(apart) * rest + (x * apart).sum(-1).square()
    positive = square > 0.0
    # sqrt has an infinite slope at 0, and the gradient of coincident points would be 0 * inf.
    root = torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
    return torch.asinh(root * (rest * _rest(y)).rsqrt())


def einstein_midpoint(
    points: Tensor, weights: Tensor, *, gamma: Callable[[Tensor], Tensor] = lorentz_factor
) -> Tensor:
    """The user of the paper: p = sum w_i gamma_i x_i / sum w_i gamma_i (eq. 24). [..., d].

    Args:
        points: [..., n, d].
        weights: not negative, one of them positive, [..., n].
        gamma: `lorentz_factor` gives the Einstein midpoint (Ungar 2009), which is the Lorentz
            centroid of `hyperrec_core.midpoint`; `printed_gamma` gives eq. 25 to the letter.
    """
    masses = (weights * gamma(points)).unsqueeze(-1)
    return (masses * points).sum(-2) / masses.sum(-2)


def from_lorentz(x: Tensor) -> Tensor:
    """The ball's point of a hyperboloid point: xs / x0. [..., d + 1] -> [..., d]."""
    return x[..., 1:] / x[..., :1]


def to_lorentz(x: Tensor) -> Tensor:
    """Inverse of `from_lorentz`: gamma (1, x). [..., d] -> [..., d + 1]."""
    return torch.cat((torch.ones_like(x[..., :1]), x), dim=-1) * lorentz_factor(x).unsqueeze(-1)


def from_poincare(x: Tensor) -> Tensor:
    """The same point of H^d from the Poincaré ball with c = 1: 2x / (1 + |x|^2). [..., d]."""
    return 2.0 * x / (1.0 + _square(x)).unsqueeze(-1)


def to_poincare(x: Tensor) -> Tensor:
    """Inverse of `from_poincare`: x / (1 + sqrt(1 - |x|^2)). [..., d]."""
    return x / (1.0 + _rest(x).sqrt()).unsqueeze(-1)


def _square(x: Tensor) -> Tensor:
    return (x * x).sum(-1)


def _rest(x: Tensor) -> Tensor:
    return 1.0 - _square(x)
