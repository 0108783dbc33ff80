"""A user from a history: the aggregation the model was trained with, on published vectors.

Convention: hyperboloid model, <x,y> = -x0*y0 + sum xi*yi, time coordinate first, x0 > 0.
Published vectors carry the time coordinate negated, (-v0, v1, ..., vd), so that their ordinary dot
product with a user point is the Lorentz inner product and can be ranked by any dot-product index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_export.errors import ExportError


def lag_weights(model: Mapping[str, Any]) -> NDArray[np.float64]:
    """The weight of each position of a history, newest first, float64 [lags].

    Args:
        model: model.json of the active version.

    Raises:
        ExportError: an aggregator or a geometry this package does not know, named.
    """
    aggregator = model.get("aggregator", {})
    if aggregator.get("kind") != "learned_lags" or not aggregator.get("lag_weights"):
        raise ExportError(
            f"The active model aggregates a history by {aggregator.get('kind')!r} and this reader "
            "knows 'learned_lags'; use the version of hyperrec that published it."
        )
    if model.get("geometry") not in ("hyperboloid", "euclidean"):
        raise ExportError(
            f"The active model has geometry {model.get('geometry')!r} and this reader knows "
            "'hyperboloid' and 'euclidean'; use the version of hyperrec that published it."
        )
    return np.asarray(aggregator["lag_weights"], dtype=np.float64)


def user_point(model: Mapping[str, Any], newest_first: NDArray[np.float32]) -> NDArray[np.float32]:
    """The user point of a history: the Lorentz centroid, or the mean in a Euclidean model.

    On the hyperboloid s / sqrt(-<s,s>) with s = sum w_i x_i (Law et al. 2019), which is the
    Einstein midpoint of Chamberlain et al. 2019, eq. 24, with Lorentz factors.

    Args:
        model: model.json of the active version.
        newest_first: float32 [n, d+1], published context vectors (item vectors when there is one
            table), 1 <= n <= lags.

    Returns:
        float32 [d+1]; its dot product with a published item vector is the score.

    Raises:
        ExportError: the weighted points have no centroid.
    """
    weights = lag_weights(model)[: len(newest_first)]
    total: NDArray[np.float64] = weights @ newest_first.astype(np.float64)
    if model["geometry"] == "euclidean":
        return np.asarray(total / weights.sum(), dtype=np.float32)
    total[0] = -total[0]
    square = total[0] ** 2 - total[1:] @ total[1:]
    if not (square > 0 and total[0] > 0):
        raise ExportError(
            "The history has no centroid on the hyperboloid: the active model's lag weights or "
            "vectors are damaged; roll back or publish again."
        )
    return np.asarray(total / np.sqrt(square), dtype=np.float32)


def like(model: Mapping[str, Any], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The query that ranks items by nearness to an item: its own point, as a user's.

    Args:
        model: model.json of the active version.
        vector: float32 [d+1], the published item vector.
    """
    point = vector.copy()
    if model.get("geometry") == "hyperboloid":
        point[0] = -point[0]
    return point
