"""Users as midpoints of the items of their history (Chamberlain et al. 2019, eq. 24).

The Einstein midpoint with the Lorentz factor as weight (Ungar 2009), lifted to the hyperboloid, is
the Lorentz centroid (Law et al. 2019): one weighted sum and one normalisation, no Klein round
trip and no iteration.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from hyperrec_core.geometry import lorentz


def normalise(weighted_sum: Tensor) -> Tensor:
    """The centroid s / sqrt(-<s, s>) of a positively weighted sum s of points. [..., D].

    -<s, s> is at least the sum of squared weights, so no guard is needed while one is positive.
    """
    return weighted_sum / (-lorentz.inner(weighted_sum, weighted_sum)).sqrt().unsqueeze(-1)


def centroids(points: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Einstein midpoints of ragged histories.

    Args:
        points: hyperboloid points, [n, D].
        index: rows of `points`, one history after the other, int64 [m].
        offsets: where each history starts in `index`, int64 [users]; none is empty.
        weights: positive weight of each entry of `index`, [m].

    Returns:
        One point a history, [users, D].
    """
    return normalise(embedding_bag(index, points, offsets, mode="sum", per_sample_weights=weights))


def lag_weights(logits: Tensor) -> Tensor:
    """Positive weights by lag, newest first, from unconstrained logits; the largest is 1. [lags].

    The centroid does not change when all weights are scaled, so the largest may be fixed.
    """
    return torch.exp(logits - logits.amax(0, keepdim=True)) if len(logits) else logits
