"""What each item of a history weighs in its user, by attention.

`hyperrec_core.models.hvacf` has the equations. Of `model.json`'s aggregator: `query` and `key`, [w,
d], `bias` and `head`, [w]. With t(x) half the hyperboloid's logarithm at the origin, which is that
of the Poincaré ball, and q the midpoint of the history by its lag weights alone, an item x weighs
exp(head . tanh(key t(x) + query t(q) + bias)), up to a factor. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def weights(aggregator: Mapping[str, Any], points: Array, by_lag: Array) -> Array:
    """The weights of a history's items, by lag and by attention, [n].

    Args:
        aggregator: of the active version's `model.json`.
        points: of the hyperboloid, newest first, [n, d + 1].
        by_lag: what each weighs without attention, [n].
    """
    query, key, bias, head = (
        np.asarray(aggregator[name], dtype=np.float64) for name in ("query", "key", "bias", "head")
    )
    total = by_lag @ points
    middle = total / np.sqrt(total[0] ** 2 - total[1:] @ total[1:])
    logits = np.tanh(_tangent(points) @ key.T + _tangent(middle) @ query.T + bias) @ head
    return np.asarray(by_lag * np.exp(logits - logits.max()))


def _tangent(points: Array) -> Array:
    """Tangent vectors of the ball at its origin, [..., d], of points [..., d + 1]."""
    spatial = points[..., 1:]
    length = np.linalg.norm(spatial, axis=-1, keepdims=True)
    away = length > 0.0
    ratio = np.where(away, np.arcsinh(length) / np.where(away, length, 1.0), 1.0)
    return np.asarray(ratio / 2.0 * spatial)
