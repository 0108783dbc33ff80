"""The Fréchet mean of hyperboloid points by iteration, to compare closed-form midpoints with."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrec_core import midpoint
from hyperrec_core.geometry import lorentz

# d coth(d) is 1 at 0 to float64 precision from here on, and dividing by sinh would give 0/0.
_SMALL_DISTANCE = 1e-6


def frechet_mean(
    points: Tensor, weights: Tensor, *, tolerance: float = 1e-10, most_iterations: int = 200
) -> Tensor:
    """The point m with the least weighted sum of squared distances: Karcher flow to convergence.

    From the Lorentz centroid, m <- Exp_m(t g) with g the weighted mean of Log_m(x_i) (Karcher
    1977), and t the Newton step along g: squared distance / 2 has the second derivative 1 along
    the geodesic to x_i and d coth(d) across it. On a line one step is enough; in general the
    error falls by a factor an iteration. In a space of negative curvature the mean is unique.

    Args:
        points: hyperboloid points, [..., n, D], float32 or float64; computed in float64.
        weights: not negative, one of them positive, [..., n].
        tolerance: iteration ends when |g|, in hyperbolic distance, is nowhere larger. The mean is
            then nearer than this to the true one, because the second derivative is at least 1.
            Rounding keeps |g| near 1e-16 times cosh of the radius.
        most_iterations: more are not made.

    Returns:
        The means, [..., D], in the dtype of `points`.

    Raises:
        ArithmeticError: the tolerance is not met.
    """
    x = points.to(torch.float64)
    shares = (weights / weights.sum(-1, keepdim=True)).to(torch.float64)
    mean = lorentz.to_sheet(midpoint.normalise((shares.unsqueeze(-1) * x).sum(-2)))
    for _ in range(most_iterations):
        logs = lorentz.log_map(mean.unsqueeze(-2), x)
        flow = (shares.unsqueeze(-1) * logs).sum(-2)
        length = lorentz.tangent_norm(mean, flow)
        if bool((length <= tolerance).all()):
            return mean.to(points.dtype)
        mean = lorentz.exp_map(mean, _newton_step(logs, shares, flow, length) * flow)
    raise ArithmeticError(
        f"The Fréchet mean did not converge: after {most_iterations} iterations the flow is still "
        f"{float(length.max()):.1e} long, more than the tolerance {tolerance:.1e}; allow a larger "
        "one, or move the points nearer to the origin."
    )


def _newton_step(logs: Tensor, shares: Tensor, flow: Tensor, length: Tensor) -> Tensor:
    """1 / (second derivative of half the mean squared distance along the flow), [..., 1]."""
    far = lorentz.inner(logs, logs).clamp_min(0.0).sqrt()
    cosine = lorentz.inner(logs, flow.unsqueeze(-2)) / (far * length.unsqueeze(-1)).clamp_min(
        torch.finfo(far.dtype).tiny
    )
    along = cosine.square().clamp_max(1.0)
    across = torch.where(
        far > _SMALL_DISTANCE, far / torch.tanh(far.clamp_min(_SMALL_DISTANCE)), 1.0
    )
    curvature = (shares * (along + (1.0 - along) * across)).sum(-1)
    return (1.0 / curvature).unsqueeze(-1)
