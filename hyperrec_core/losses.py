"""Ranking losses: scores in (higher is better), a scalar and its derivatives out.

`positive` is the score of each example's label, [B]; `negative` those of N items that the user has
not interacted with, [B, N]; `excluded`, bool [B, N] or None, marks the negatives that are no
negatives for that user. Derivatives are closed forms, made in the memory of `negative`, which
is the largest tensor of a step.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

LossName = Literal["wmrb", "bpr", "softmax"]


class LossGradient(NamedTuple):
    """The mean loss, and its derivatives by `positive` [B] and `negative` [B, N]."""

    loss: Tensor
    positive: Tensor
    negative: Tensor


def wmrb(
    positive: Tensor,
    negative: Tensor,
    *,
    list_size: float = 100.0,
    margin: float = 1.0,
    excluded: Tensor | None = None,
) -> LossGradient:
    """Weighted margin-rank batch loss (Liu & Natarajan 2017; Chamberlain et al. 2019, eq. 15-16).

    The mean over examples of log(1 + r), r = list_size / N times the sum over the N negatives of
    max(0, margin + s_neg - s_pos): r estimates the label's rank in a list of that size. With
    N = list_size this is the paper's loss; otherwise more negatives make the estimate better
    without changing what is estimated.

    Args:
        positive: [B].
        negative: [B, N]; overwritten.
        list_size: a long list makes the logarithm favour the top ranks, a short one weighs all
            ranks alike.
        margin: the paper's epsilon, 1, in units of the score.
        excluded: [B, N] or None.
    """
    violation = negative.sub_((positive - margin).unsqueeze(1)).clamp_min_(0.0)
    if excluded is not None:
        violation.masked_fill_(excluded, 0.0)
    share = list_size / negative.shape[1]
    rank = violation.sum(1).mul_(share)
    factor = share / (len(positive) * (1.0 + rank))
    by_negative = violation.sign_().mul_(factor.unsqueeze(1))
    return LossGradient(torch.log1p(rank).mean(), -by_negative.sum(1), by_negative)


def bpr(positive: Tensor, negative: Tensor, *, excluded: Tensor | None = None) -> LossGradient:
    """Bayesian personalised ranking (Rendle et al. 2009; eq. 13): mean of -ln sigma(s_pos - s_neg).

    Args:
        positive: [B].
        negative: [B, N]; overwritten. The mean is over all pairs.
        excluded: [B, N] or None; such pairs count as ranked right.
    """
    worse = negative.sub_(positive.unsqueeze(1))
    if excluded is not None:
        worse.masked_fill_(excluded, -torch.inf)
    loss = torch.nn.functional.softplus(worse).mean()
    by_negative = worse.sigmoid_().div_(negative.numel())
    return LossGradient(loss, -by_negative.sum(1), by_negative)


def softmax(
    positive: Tensor,
    negative: Tensor,
    *,
    list_size: float = 100.0,
    excluded: Tensor | None = None,
) -> LossGradient:
    """Sampled softmax (Jean et al. 2015): cross-entropy of the label against the negatives.

    The negatives stand for a list of `list_size` items: their exponentials are weighted by
    list_size / N.

    Args:
        positive: [B].
        negative: [B, N]; overwritten.
        list_size: as in `wmrb`.
        excluded: [B, N] or None.
    """
    if excluded is not None:
        negative.masked_fill_(excluded, -torch.inf)
    # Shifted by the largest score of the example, no exponential overflows.
    top = torch.maximum(negative.amax(1), positive)
    weights = negative.sub_(top.unsqueeze(1)).exp_().mul_(list_size / negative.shape[1])
    own = torch.exp(positive - top)
    total = weights.sum(1) + own
    loss = (torch.log(total) - (positive - top)).mean()
    by_negative = weights.div_((total * len(positive)).unsqueeze(1))
    return LossGradient(loss, -by_negative.sum(1), by_negative)
