"""Ranking losses as bare functions: scores in (higher is better), a scalar out."""

from __future__ import annotations

import torch
from torch import Tensor


def wmrb(
    positive: Tensor, negative: Tensor, *, list_size: float = 100.0, margin: float = 1.0
) -> Tensor:
    """Weighted margin-rank batch loss (Liu & Natarajan 2017; Chamberlain et al. 2019, eq. 15-16).

    mean over examples of log(1 + r), r = list_size / N times the sum over the N negatives of
    max(0, margin + s_neg - s_pos): r estimates the label's rank in a list of that size. With
    N = list_size this is the paper's loss; otherwise more negatives make the estimate better
    without changing what is estimated.

    Args:
        positive: score of each example's label, [B].
        negative: scores of the negatives, [B, N].
        list_size: a long list makes the logarithm favour the top ranks, a short one weighs all
            ranks alike.
        margin: the paper's epsilon, 1, in units of the score.
    """
    violation = (negative - positive.unsqueeze(-1) + margin).clamp_min(0.0)
    return torch.log1p(list_size * violation.mean(-1)).mean()
