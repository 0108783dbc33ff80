"""Whether the vectors that would be published are points of their space: facts, not verdicts.

Computed in float64 from the float32 that readers will get, whatever the model's own arithmetic
was. The first coordinate of a published hyperboloid point is its time, negated (see `scores`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperrec_core.artefact import ItemVectors

QUANTILES = {"q01": 0.01, "q10": 0.1, "median": 0.5, "q90": 0.9, "q99": 0.99}
"""Quantiles of the radius, by name."""

AT_ORIGIN = 1e-4
"""A point nearer than this is at the origin: untrained ones start at about 0.02."""

_OUTSIDE = 1.0  # residual of a point on the other sheet, or not inside the ball


@dataclass(frozen=True)
class Soundness:
    """Facts about the vectors of a version; of all tables, items and contexts.

    Attributes:
        items: how many items it has.
        not_finite: rows with a number that is none.
        off_sheet: the largest residual, see `residuals`; None where the space has no sheet.
        radii: the distance of items to the origin, at `QUANTILES` and the `largest`; empty when no
            item is finite.
        at_origin: share of the items within `AT_ORIGIN` of the origin; 0 when none is finite.
    """

    items: int
    not_finite: int
    off_sheet: float | None
    radii: dict[str, float]
    at_origin: float


def examine(vectors: ItemVectors, geometry: str) -> Soundness:
    """The facts about published vectors.

    Args:
        vectors: as in `items.parquet`.
        geometry: of the model, as in `model.json`.
    """
    tables = [table for table in (vectors.target, vectors.context) if table is not None]
    finite = [np.isfinite(table).all(axis=1) for table in tables]
    found = [
        residuals(table[rows].astype(np.float64), geometry)
        for table, rows in zip(tables, finite, strict=True)
    ]
    off = [float(each.max()) for each in found if each is not None and len(each)]
    radius = radii(vectors.target[finite[0]].astype(np.float64), geometry)
    of_radius: dict[str, float] = {}
    if len(radius):
        values = np.quantile(radius, list(QUANTILES.values()))
        of_radius = dict(zip(QUANTILES, values.tolist(), strict=True))
        of_radius["largest"] = float(radius.max())
    return Soundness(
        items=len(vectors.item_ids),
        not_finite=sum(int((~rows).sum()) for rows in finite),
        off_sheet=max(off, default=0.0) if found[0] is not None else None,
        radii=of_radius,
        at_origin=float((radius < AT_ORIGIN).mean()) if len(radius) else 0.0,
    )


def residuals(vectors: NDArray[np.float64], geometry: str) -> NDArray[np.float64] | None:
    """How far published points are off their sheet. [n, K] -> [n].

    On the hyperboloid |<x, x> + 1| / x0^2, relative to the terms that cancel in it, about 1e-7 for
    points rounded to float32; 1 on the lower sheet. In the Poincaré ball 0 inside and 1 otherwise.
    None in flat space, all of which is points.
    """
    if geometry == "hyperboloid":
        time, squared = -vectors[:, 0], (vectors[:, 1:] ** 2).sum(1)
        residual = np.abs(squared - time**2 + 1.0) / np.maximum(time**2, 1.0)
        return np.where(time > 0, residual, _OUTSIDE)
    if geometry == "poincare":
        return np.where((vectors**2).sum(1) < 1.0, 0.0, _OUTSIDE)
    return None


def radii(vectors: NDArray[np.float64], geometry: str) -> NDArray[np.float64]:
    """Distance of published points to the origin, in the space's own metric. [n, K] -> [n]."""
    if geometry == "poincare":
        length = np.minimum(np.linalg.norm(vectors, axis=1), np.nextafter(1.0, 0.0))
        return np.asarray(2.0 * np.arctanh(length))
    length = np.linalg.norm(vectors[:, 1:], axis=1)
    return np.asarray(np.arcsinh(length)) if geometry == "hyperboloid" else length
