"""The spaces a model's points may live in, behind one set of operations.

Points have D = d + 1 coordinates in either space. On the hyperboloid the first is the time
coordinate; in flat space it is 1, its limit for vanishing curvature. So a user is the same weighted
sum in both, and both publish item vectors of D numbers whose dot product with a user ranks as the
score does. Gradients are by the D coordinates; those by a flat point's first one are 0.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from hyperrec_core.geometry import lorentz

# Below this length sinh(n)/n is 1 to float32 precision, and dividing would give 0/0.
_SMALL_NORM = 1e-9


Geometry = Literal["hyperboloid", "euclidean", "inner_product"]
"""`euclidean` and `inner_product` are flat space, judged by distances or by inner products."""


class Space(Protocol):
    """Operations on points, float32 or float64 [..., D]."""

    flat: bool

    def lift(self, spatial: Tensor) -> Tensor:
        """The points over spatial coordinates. [..., d] -> [..., D]."""
        ...

    def dual(self, points: Tensor) -> Tensor:
        """The vectors whose dot product with points is the inner product; linear. [..., D]."""
        ...

    def squared(self, users: Tensor, items: Tensor) -> Tensor:
        """Squared chords of all pairs. [C, D], [N, D] -> [C, N]."""
        ...

    def squared_each(self, users: Tensor, items: Tensor) -> Tensor:
        """Squared chords pair by pair. [B, D], [B, D] -> [B]."""
        ...

    def centroid(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """The midpoints [C, D] of weighted sums [C, D], and the divisors [C, 1]."""
        ...

    def centroid_gradient(self, points: Tensor, divisor: Tensor, gradient: Tensor) -> Tensor:
        """Derivatives by the sums from those by the midpoints. [C, D]."""
        ...

    def tangent(self, points: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The Riemannian gradient [r, D] and its squared length [r] (eq. 20-21)."""
        ...

    def move(self, points: Tensor, tangent: Tensor, length: Tensor) -> Tensor:
        """Along the geodesic of a tangent vector whose length [r] is known (eq. 12). [r, D]."""
        ...

    def shrink(self, points: Tensor, factor: float) -> Tensor:
        """Points at that factor, at most 1, of their distance to the origin. [r, D]."""
        ...

    def transport(self, start: Tensor, stop: Tensor, tangent: Tensor) -> Tensor:
        """A tangent vector at `start` as one at `stop`, along the geodesic. [r, D]."""
        ...


class Hyperboloid:
    """Hyperbolic space, see `geometry.lorentz`; the midpoint is Einstein's (eq. 24)."""

    flat = False

    def lift(self, spatial: Tensor) -> Tensor:
        return lorentz.from_spatial(spatial)

    def dual(self, points: Tensor) -> Tensor:
        return lorentz.flip_time(points)

    def squared(self, users: Tensor, items: Tensor) -> Tensor:
        return lorentz.pairwise_squared_chord(users, items)

    def squared_each(self, users: Tensor, items: Tensor) -> Tensor:
        return lorentz.squared_chord(users, items)

    def centroid(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        divisor = (-lorentz.inner(sums, sums)).sqrt().unsqueeze(-1)
        return sums / divisor, divisor

    def centroid_gradient(self, points: Tensor, divisor: Tensor, gradient: Tensor) -> Tensor:
        # With u = s / n and n^2 = -<s, s>, du = (ds + <u, ds> u) / n.
        along = (gradient * points).sum(-1, keepdim=True)
        return (gradient + along * lorentz.flip_time(points)) / divisor

    def tangent(self, points: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        along = (points * gradient).sum(-1, keepdim=True)
        # The spatial part first, the time part by tangency: a stored one gathers rounding.
        spatial = gradient[:, 1:] + along * points[:, 1:]
        time = (points[:, 1:] * spatial).sum(-1, keepdim=True) / points[:, :1]
        squared = (spatial * spatial).sum(-1) - (time * time).squeeze(-1)
        return torch.cat((time, spatial), dim=1), squared.clamp_min_(0.0)

    def move(self, points: Tensor, tangent: Tensor, length: Tensor) -> Tensor:
        n = length.unsqueeze(1)
        ratio = torch.where(n > _SMALL_NORM, torch.sinh(n) / n.clamp_min(_SMALL_NORM), 1.0)
        return lorentz.from_spatial(torch.cosh(n) * points[:, 1:] + ratio * tangent[:, 1:])

    def shrink(self, points: Tensor, factor: float) -> Tensor:
        radius = lorentz.radius(points).unsqueeze(1)
        # sinh(f r) / sinh(r) is f at the origin.
        away = radius > _SMALL_NORM
        ratio = torch.sinh(factor * radius) / torch.sinh(radius.clamp_min(_SMALL_NORM))
        return lorentz.from_spatial(torch.where(away, ratio, factor) * points[:, 1:])

    def transport(self, start: Tensor, stop: Tensor, tangent: Tensor) -> Tensor:
        return lorentz.transport(start, stop, tangent)


class Flat:
    """Euclidean space; the midpoint is the weighted mean."""

    flat = True

    def lift(self, spatial: Tensor) -> Tensor:
        return torch.cat((torch.ones_like(spatial[..., :1]), spatial), dim=-1)

    def dual(self, points: Tensor) -> Tensor:
        return _without_first(points)

    def squared(self, users: Tensor, items: Tensor) -> Tensor:
        u, v = users[:, 1:], items[:, 1:]
        return torch.addmm(_square(u).unsqueeze(1) + _square(v), u, v.T, alpha=-2.0)

    def squared_each(self, users: Tensor, items: Tensor) -> Tensor:
        return _square(users[:, 1:] - items[:, 1:])

    def centroid(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        divisor = sums[:, :1].clone()  # the sum of the weights
        return sums / divisor, divisor

    def centroid_gradient(self, points: Tensor, divisor: Tensor, gradient: Tensor) -> Tensor:
        along = (gradient[:, 1:] * points[:, 1:]).sum(-1, keepdim=True)
        return torch.cat((-along, gradient[:, 1:]), dim=1) / divisor

    def tangent(self, points: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        tangent = _without_first(gradient)
        return tangent, _square(tangent)

    def move(self, points: Tensor, tangent: Tensor, length: Tensor) -> Tensor:
        return points + tangent

    def shrink(self, points: Tensor, factor: float) -> Tensor:
        return self.lift(points[:, 1:] * factor)

    def transport(self, start: Tensor, stop: Tensor, tangent: Tensor) -> Tensor:
        return tangent


def space_of(geometry: Geometry) -> Space:
    """Where the points of a model of that geometry live."""
    return Hyperboloid() if geometry == "hyperboloid" else Flat()


def _square(x: Tensor) -> Tensor:
    return (x * x).sum(-1)


def _without_first(x: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(x[..., :1]), x[..., 1:]), dim=-1)
