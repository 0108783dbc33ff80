"""Ranking losses as bare functions: scores in (higher is better), a scalar out."""

from __future__ import annotations

import torch
from torch import Tensor


def wmrb(positive: Tensor, negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """Weighted margin-rank batch loss (Liu & Natarajan 2017; Chamberlain et al. 2019, eq. 15-16).

    mean over examples of log(1 + r), r = sum over negatives of max(0, margin + s_neg - s_pos).

    Args:
        positive: score of each example's label, [B].
        negative: scores of the negatives, [B, N].
        margin: the paper's epsilon, 1, in units of the score.
    """
    violation = (negative - positive.unsqueeze(-1) + margin).clamp_min(0.0)
    return torch.log1p(violation.sum(-1)).mean()
