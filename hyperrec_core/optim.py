"""Riemannian SGD on touched rows of a table of hyperboloid points, with row-wise adaptive steps.

The Riemannian norm of a tangent gradient does not depend on coordinates, so one accumulated
scalar a row (row-wise Adagrad on the manifold) rescales the step of exact Riemannian SGD and needs
no parallel transport.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrec_core.geometry import lorentz

# Start of every row's accumulator: a row whose first gradient is zero divides by this, not by 0.
_ACCUMULATOR_START = 1e-12


def new_accumulator(rows: int, *, device: torch.device) -> Tensor:
    """The sum of squared gradient norms of each row, float32 [rows]."""
    return torch.full((rows,), _ACCUMULATOR_START, device=device)


def adaptive_rsgd_(
    table: Tensor,
    accumulator: Tensor,
    rows: Tensor,
    gradient: Tensor,
    *,
    learning_rate: float,
    maximum_step: float,
) -> None:
    """One exact Riemannian SGD step in place (Chamberlain et al. 2019, eq. 20-22), by row.

    x <- Exp_x(-eta h) with h the tangent gradient and eta = learning_rate / sqrt(sum of |h|^2 so
    far), the step's length clipped.

    Args:
        table: points, [n, D].
        accumulator: sums of squared norms, [n].
        rows: the distinct rows that the gradient is of, int64 [r].
        gradient: Euclidean gradient by the ambient coordinates, [r, D].
        learning_rate: the length of a row's first step, in hyperbolic distance.
        maximum_step: no step is longer, in hyperbolic distance.
    """
    points = table[rows]
    tangent = lorentz.riemannian_gradient(points, gradient)
    norm = lorentz.tangent_norm(points, tangent)
    sums = accumulator[rows] + norm * norm
    accumulator[rows] = sums
    rate = learning_rate / sums.sqrt()
    rate = torch.minimum(rate, maximum_step / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    table[rows] = lorentz.exp_map(points, -rate.unsqueeze(-1) * tangent)


def adagrad_(
    parameter: Tensor, accumulator: Tensor, gradient: Tensor, *, learning_rate: float
) -> None:
    """One Adagrad step in place, element by element (Duchi et al. 2011)."""
    accumulator += gradient * gradient
    parameter -= learning_rate * gradient / accumulator.sqrt()
