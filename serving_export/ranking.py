"""Scores and their order: one definition, whoever looks for the candidates.

An index or a matrix product finds candidates by scores that are rounded in its own way. What is
answered is ranked anew by scores that depend on nothing but the two vectors, so that every way of
searching a version gives the same items in the same order:

    score    the dot product, exact to float64, rounded once to float32
    order    falling score; of equal scores the lower item id first, by code point
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Half the distance from 1 to the next float32: the most that rounding changes a number, relatively.
_HALF_UNIT = 2.0**-24


@dataclass(frozen=True)
class Recommendation:
    """An item with the score it was ranked by, higher first, and its title when known."""

    item_id: str
    score: float
    title: str | None


def exact_scores(vectors: NDArray[np.float32], point: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores of item vectors for a point, float32 [n].

    Products of two float32 are exact in float64, and every row is summed by itself in one order, so
    a score does not depend on which other rows are there. A matrix product would not do: BLAS sums
    the rows at the edge of a block otherwise than those inside.

    Args:
        vectors: float32 [n, d+1].
        point: float32 [d+1].
    """
    products = vectors.astype(np.float64) * point.astype(np.float64)
    return np.asarray(products.sum(axis=1), dtype=np.float32)


def slack(
    point: NDArray[np.float32], lengths: NDArray[np.float32] | np.float32
) -> NDArray[np.float32]:
    """How far a float32 dot product may be from `exact_scores`, whatever the order of its sum.

    At most n u |x| |y| for n terms (Higham 2002, section 3.1), u half a unit; one u more for the
    rounding of the exact score, one for adding the slack itself, two for the lengths.

    Args:
        point: float32 [d+1].
        lengths: Euclidean lengths of the item vectors, float32 [n].
    """
    most = (point.size + 4) * _HALF_UNIT * float(np.linalg.norm(point.astype(np.float64)))
    return np.asarray(np.float32(most) * lengths, dtype=np.float32)


def lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean lengths of item vectors [n, d+1], float32 [n]."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return np.asarray(np.sqrt(squares), dtype=np.float32)


def in_order(found: list[Recommendation]) -> list[Recommendation]:
    """By falling score, then by item id."""
    return sorted(found, key=lambda each: (-each.score, each.item_id))
