"""A user from a history: the aggregation the model was trained with, on published vectors.

Convention: points have D = d + 1 coordinates, users and items alike. On the hyperboloid,
<x,y> = -x0*y0 + sum xi*yi, the first is the time coordinate, x0 > 0, and an item is published with
it negated: (-v0, v1, ..., vd). In flat space a point is (1, v), and an item is published as
(-|v|^2 / 2, v) where the distance is the score, as (0, v) where the inner product is. So the dot
product of a user point with a published vector ranks as the model's score does, in any dot-product
index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_export import attention, encoder
from serving_export.errors import ExportError

_GEOMETRIES = ("hyperboloid", "euclidean", "inner_product")
# `uniform` has no lag weights: all items of a history count. The last is what models of format 1,
# hyperboloids all, call `learned`.
_AGGREGATORS = (
    *("uniform", "window", "exponential", "learned", "learned_lags"),
    *("encoder", "attention"),
)


def most_items(model: Mapping[str, Any]) -> int | None:
    """How many of the newest items of a history make the user; None when all of them do.

    Args:
        model: model.json of the active version.

    Raises:
        ExportError: an aggregator this package does not know, named, or none at all.
    """
    return len(_lag_weights(model)) or None


def user_point(
    model: Mapping[str, Any],
    newest_first: NDArray[np.float32],
    events: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """The user point of a history: the Lorentz centroid, in flat space the weighted mean.

    Or, of an autoencoder, what its encoder makes of the weighted sum.

    On the hyperboloid s / sqrt(-<s,s>) with s = sum w_i x_i (Law et al. 2019), which is the
    Einstein midpoint of Chamberlain et al. 2019, eq. 24, with Lorentz factors. A weight is the
    lag's times the event type's times that of attention, as far as the model has them.

    Args:
        model: model.json of the active version.
        newest_first: float32 [n, d+1], published context vectors (item vectors when there is one
            table), 1 <= n <= `most_items`.
        events: the event type of each, [n]; without them all are purchases. A model without
            weights by event type does not look at them.

    Returns:
        float32 [d+1]; its dot product with a published item vector is the score.

    Raises:
        ExportError: a geometry, aggregator or event type that the model or this package does not
            know, or weighted points that have no centroid.
    """
    points = _points(model, newest_first)
    by_lag, by_event = _lag_weights(model), model["aggregator"].get("event_weights")
    weights = by_lag[: len(points)] if len(by_lag) else np.ones(len(points))
    if events is not None and by_event is not None:
        weights = weights * _event_weights(by_event, events)
    if model["aggregator"]["kind"] == "attention":
        weights = attention.weights(model["aggregator"], points, weights)
    total: NDArray[np.float64] = weights @ points
    if model["aggregator"]["kind"] == "encoder":
        user = encoder.encode(model["aggregator"], total[1:], float(np.linalg.norm(weights)))
        return np.asarray(np.r_[1.0, user], dtype=np.float32)
    hyperbolic = model["geometry"] == "hyperboloid"
    # In flat space the first number is the sum of the weights.
    square = total[0] ** 2 - (total[1:] @ total[1:] if hyperbolic else 0.0)
    if not (square > 0 and total[0] > 0):
        raise ExportError(
            "The history has no centroid: the active model's weights or vectors are damaged; roll "
            "back or publish again."
        )
    return np.asarray(total / np.sqrt(square), dtype=np.float32)


def like(model: Mapping[str, Any], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The query that ranks items by nearness to an item: its own point, as a user's.

    Args:
        model: model.json of the active version.
        vector: float32 [d+1], the published item vector.

    Raises:
        ExportError: a geometry this package does not know.
    """
    return np.asarray(_points(model, vector[np.newaxis])[0], dtype=np.float32)


def _points(model: Mapping[str, Any], published: NDArray[np.float32]) -> NDArray[np.float64]:
    """The points behind published vectors, [n, d+1]."""
    geometry = model.get("geometry")
    if geometry not in _GEOMETRIES:
        raise ExportError(
            f"The active model has geometry {geometry!r} and this reader knows "
            f"{', '.join(_GEOMETRIES)}; use the version of hyperrec that published it."
        )
    points = published.astype(np.float64)
    points[:, 0] = -points[:, 0] if geometry == "hyperboloid" else 1.0
    return points


def _lag_weights(model: Mapping[str, Any]) -> NDArray[np.float64]:
    """The weight of each place of a history, newest first, [lags]; [0] when all weigh the same."""
    aggregator = model.get("aggregator", {})
    kind, weights = aggregator.get("kind"), aggregator.get("lag_weights", [])
    if kind == "none":
        raise ExportError(
            "The active model has a point for each user of its training and none for a history; "
            "publish one trained with train.model.users midpoint, or roll back."
        )
    if kind not in _AGGREGATORS or (not weights and kind != "uniform"):
        having = "" if kind not in _AGGREGATORS else " without lag weights"
        raise ExportError(
            f"The active model aggregates a history by {kind!r}{having} and this reader knows "
            f"{', '.join(_AGGREGATORS)}; use the version of hyperrec that published it."
        )
    return np.asarray([] if kind == "uniform" else weights, dtype=np.float64)


def _event_weights(by_event: Mapping[str, float], events: Sequence[str]) -> NDArray[np.float64]:
    if unknown := sorted(set(events) - set(by_event)):
        raise ExportError(
            f"The event type {unknown[0]!r} has no weight in the active model; give "
            f"{', '.join(by_event)}."
        )
    return np.array([by_event[event] for event in events], dtype=np.float64)
