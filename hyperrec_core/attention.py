"""What each item of a history weighs in its user, by attention, on the Poincaré ball.

a_l = h . tanh(K log0(v_l) + Q log0(q) + b) for the items v_l of a history and what asks, q (Chen et
al. 2017, "Attentive Collaborative Filtering", eq. 6, in the tangent space at the origin).
`serving_export.attention` computes the same of a published version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hyperrec_core.geometry import poincare
from hyperrec_core.spaces import Hyperboloid

PARAMETERS = ("query", "key", "bias", "head")
"""Q [w, d], K [w, d], b [w] and h [w], by name."""


class Past(NamedTuple):
    """Histories, one after the other, each newest first.

    Shapes, all int64 [m]: `items`, places in a table; `lags`, how many of the history are newer;
    `owner`, which history it is, of `size`.
    """

    items: Tensor
    lags: Tensor
    owner: Tensor
    size: int


def weights(parameters: Mapping[str, Tensor], items: Tensor, past: Past, asking: Tensor) -> Tensor:
    """exp(a_l) up to a factor a history, which no midpoint depends on. [m].

    Args:
        parameters: by the names of `PARAMETERS`, and others.
        items: the table, points of the ball, [n, d].
        past: the histories.
        asking: a point of the ball for each history, [C, d].
    """
    keys = (poincare.log_origin(items) @ parameters["key"].T)[past.items]
    asked = poincare.log_origin(asking) @ parameters["query"].T + parameters["bias"]
    logits = torch.tanh(keys + asked[past.owner]) @ parameters["head"]
    top = logits.new_full((past.size,), -torch.inf)
    top = top.scatter_reduce(0, past.owner, logits.detach(), "amax")
    return (logits - top[past.owner]).exp()


def midpoints(items: Tensor, past: Past, by_item: Tensor) -> Tensor:
    """The Einstein midpoint of each history on the ball, [C, d].

    Args:
        items: the table, points of the ball, [n, d].
        past: the histories.
        by_item: what each of their items weighs, [m].
    """
    lifted = poincare.to_lorentz(items)
    sums = lifted.new_zeros(past.size, lifted.shape[1])
    sums = sums.index_add(0, past.owner, by_item.unsqueeze(1) * lifted[past.items])
    return poincare.from_lorentz(Hyperboloid().centroid(sums)[0])
