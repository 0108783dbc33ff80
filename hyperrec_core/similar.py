"""Items near an item: the top of every item's own ranking of the catalogue, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperrec_core.kernels.compiled import kernel
from hyperrec_core.threads import in_threads
from hyperrec_core.topk import best_of_rows, keep_best

Similar = tuple[NDArray[np.int64], NDArray[np.float32]]

# A block of scores stays in a core's cache between the product that makes it and the scan. All are
# of this shape, filled up with zeros: where the kernels of BLAS treat the edge of a matrix apart,
# its sums round otherwise, and equal items would get unequal scores.
_ROWS, _COLUMNS = 384, 768

# Scores held at once on a GPU: 256 MB in float32, and three times as much while they are ordered.
_SCORES_AT_ONCE = 1 << 26


def top_similar(
    vectors: NDArray[np.float32], *, flat: bool, k: int, allowed: NDArray[np.bool_]
) -> Similar:
    """The k nearest allowed items of every item, itself left out.

    An item ranks the others as a user at its own point would: by the dot product of that point
    with their published vectors. On the hyperboloid, where these are (-v0, v1, ..., vd), that is
    the Lorentz inner product, the largest for the nearest. In flat space the point is (1, v).

    All scores are looked at, on the GPU where there is one, and none is kept: memory does not grow
    with the square of the catalogue.

    Args:
        vectors: published vectors, finite, [items, d + 1].
        flat: whether they are of a flat geometry.
        k: how many; fewer come back when fewer are allowed.
        allowed: which items may be named, [items].

    Returns:
        Items [items, k'] and their scores [items, k'], k' = min(k, allowed items - 1), best first;
        of equal scores the lower item number first.
    """
    points = vectors.copy()
    points[:, 0] = 1.0 if flat else -points[:, 0]
    candidates = np.flatnonzero(allowed)
    k = min(k, max(len(candidates) - 1, 0))
    if k == 0:
        return np.empty((len(vectors), 0), np.int64), np.empty((len(vectors), 0), np.float32)
    # Where an item stands among the candidates, to be left out of its own list.
    own = np.where(allowed, np.cumsum(allowed) - 1, -1)
    pool = vectors[candidates]
    if torch.cuda.is_available():
        columns, scores = _by_tensors(points, pool, own, k, torch.device("cuda"))
    else:
        columns, scores = _by_kernels(points, pool, own, k)
    return candidates[columns], scores


def _by_kernels(
    points: NDArray[np.float32], pool: NDArray[np.float32], own: NDArray[np.int64], k: int
) -> Similar:
    """Best columns and scores on the processor, a block of rows a thread."""
    width = points.shape[1]
    blocks = -(-len(pool) // _COLUMNS)
    by_block = np.zeros((blocks * _COLUMNS, width), np.float32)
    by_block[: len(pool)] = pool
    by_block = np.ascontiguousarray(by_block.reshape(blocks, _COLUMNS, width).transpose(0, 2, 1))
    columns = np.zeros((len(points), k), np.int64)
    best = np.full((len(points), k), -np.inf, np.float32)

    def rank(rows: slice) -> None:
        mine = np.zeros((_ROWS, width), np.float32)
        mine[: len(points[rows])] = points[rows]
        scores = np.empty((_ROWS, _COLUMNS), np.float32)
        for block in range(blocks):
            first = block * _COLUMNS
            np.matmul(mine, by_block[block], out=scores)
            valid = min(_COLUMNS, len(pool) - first)
            _keep_best_of_rows(scores, valid, first, own[rows], best[rows], columns[rows])

    in_threads(rank, len(points), size=_ROWS)
    return columns, best


@kernel
def _keep_best_of_rows(
    scores: Any, valid: int, first: int, own: Any, best: Any, columns: Any
) -> None:
    """`keep_best` for the rows of a block of scores, which lose their own columns."""
    for row in range(len(best)):
        place = own[row] - first
        if 0 <= place < valid:
            scores[row, place] = np.float32(-np.inf)
        keep_best(scores[row, :valid], first, best[row], columns[row])


def _by_tensors(
    points: NDArray[np.float32],
    pool: NDArray[np.float32],
    own: NDArray[np.int64],
    k: int,
    device: torch.device,
) -> Similar:
    """Best columns and scores on a GPU, some rows at a time."""
    by_column = torch.from_numpy(pool).to(device).T
    columns = np.empty((len(points), k), np.int64)
    best = np.empty((len(points), k), np.float32)
    size = max(1, _SCORES_AT_ONCE // len(pool))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        scores = torch.from_numpy(points[rows]).to(device) @ by_column
        place = torch.from_numpy(own[rows]).to(device).unsqueeze(1)
        self_ = torch.arange(len(pool), device=device) == place
        found = best_of_rows(scores.masked_fill_(self_, -torch.inf), k)
        best[rows], columns[rows] = found[0].cpu().numpy(), found[1].cpu().numpy()
    return columns, best
