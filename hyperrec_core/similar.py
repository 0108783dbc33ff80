"""Items near an item: the top of every item's own ranking of the catalogue, in blocks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_BLOCK = 1024


def top_similar(
    vectors: NDArray[np.float32], *, flat: bool, k: int, allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest allowed items of every item, itself left out.

    An item ranks the others as a user at its own point would: by the dot product of that point
    with their published vectors. On the hyperboloid, where these are (-v0, v1, ..., vd), that is
    the Lorentz inner product, the largest for the nearest. In flat space the point is (1, v).

    Args:
        vectors: published vectors, [items, d + 1].
        flat: whether they are of a flat geometry.
        k: how many; fewer come back when fewer are allowed.
        allowed: which items may be named, [items].

    Returns:
        Items [items, k'] and their scores [items, k'], best first, k' = min(k, allowed others).
        An item of a catalogue with a single allowed one has itself left out by a score of -inf.
    """
    published = torch.tensor(vectors)
    points = published.clone()
    points[:, 0] = 1.0 if flat else -points[:, 0]
    candidates = torch.from_numpy(np.flatnonzero(allowed))
    pool = published[candidates]
    k = min(k, max(len(candidates) - 1, 0))
    items = np.empty((len(vectors), k), np.int64)
    scores = np.empty((len(vectors), k), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = points[start : start + _BLOCK] @ pool.T
        own = torch.arange(start, start + len(block)).unsqueeze(1) == candidates
        block.masked_fill_(own, -torch.inf)
        best = block.topk(k, dim=1)
        items[start : start + len(block)] = candidates[best.indices].numpy()
        scores[start : start + len(block)] = best.values.numpy()
    return items, scores
