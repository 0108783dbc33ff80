"""The layers of an autoencoder's encoder, by which a history's sum of vectors becomes a user.

`hyperrec_core.models.autoencoder` has the equations. Of `model.json`'s aggregator: `curvature` c, 0
in flat space, and `layers`, each with a `bias` and, but for the first, whose product is the sum of
context vectors, a `product`. A layer takes t to tanh(log0(exp0(P t) (+) exp0(bias))), in flat space
tanh(P t + bias). Everything is float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# The largest sqrt(c) |x| of a point, as in training: nearer to the boundary no digits are left.
_LARGEST = 1.0 - float(np.finfo(np.float64).eps) ** 0.5


def encode(aggregator: Mapping[str, Any], total: Vector, length: float) -> Vector:
    """The user of a history, [d].

    Args:
        aggregator: of the active version's `model.json`.
        total: the weighted sum of the context vectors' coordinates, [d].
        length: of the weights, as a vector.
    """
    t, c = total / length, float(aggregator["curvature"])
    for layer in aggregator["layers"]:
        if "product" in layer:
            t = np.asarray(layer["product"], dtype=np.float64) @ t
        t = np.tanh(_with_bias(t, np.asarray(layer["bias"], dtype=np.float64), c))
    return t


def _with_bias(t: Vector, bias: Vector, c: float) -> Vector:
    """log0(exp0(t) (+) exp0(bias)), + being Möbius addition; t + bias in flat space."""
    if c == 0.0:
        return t + bias
    x, y = _inside(_exp(t, c), c), _exp(bias, c)
    xy, xx, yy = x @ y, x @ x, y @ y
    added = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    added = _inside(added / (1 + 2 * c * xy + c**2 * xx * yy), c)
    norm = np.sqrt(c * (added @ added))
    return added if norm == 0.0 else np.arctanh(norm) / norm * added


def _exp(t: Vector, c: float) -> Vector:
    norm = np.sqrt(c * (t @ t))
    return t if norm == 0.0 else np.tanh(norm) / norm * t


def _inside(x: Vector, c: float) -> Vector:
    norm = np.sqrt(c * (x @ x))
    return x if norm <= _LARGEST else x * (_LARGEST / norm)
