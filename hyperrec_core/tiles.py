"""A batch's segments side by side in tiles, so that their sums are one banded matrix product.

All histories that end inside a segment lie in its tile, so their weighted sums are one banded
matrix times the tile's points (see `aggregate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.examples import SEGMENT, Examples
from hyperrec_core.kernels.pack import lay_out

_LEAST_TILE = 64  # positions of a tile, so that short segments are packed together


@dataclass(frozen=True)
class Tiles:
    """A batch as tensors, its histories padded.

    Shapes: `items` int64 [T, P], oldest first, padded with 0; `filled` int64 [M], the flat places
    of [T, P] that hold items; `ends` int64 [T, S], the column where a history ends (exclusive), and
    `lengths` int64 [T, S], how many items it has, 0 where a place is empty; `slots` int64 [C], the
    flat places of [T, S] that hold the histories; `rows` int64 [C], whose they are; `labels` int64
    [B], and `context` int64 [B], the history that each follows; `negatives` int64 [N], and `seen`
    bool [C, N], which of them are none for the history's user; `events` int64 [T, P], or None.
    """

    items: Tensor
    filled: Tensor
    ends: Tensor
    lengths: Tensor
    slots: Tensor
    rows: Tensor
    labels: Tensor
    context: Tensor
    negatives: Tensor
    seen: Tensor
    events: Tensor | None = None


def tiles(batch: Examples, device: torch.device) -> Tiles:
    """Lay a batch out, on a device."""
    spans, counts = np.diff(batch.segments), np.diff(batch.heads)
    width, places = max(_LEAST_TILE, int(spans.max())), max(SEGMENT, int(counts.max()))
    tile, column, place = lay_out(batch.segments, batch.heads, width, places)
    height = int(tile[-1]) + 1
    width, places = int((column + spans).max()), int((place + counts).max())
    # Where an element's segment starts in the flat arrays becomes where it starts in the tiles.
    at = np.repeat(tile * width + column - batch.segments[:-1], spans) + np.arange(len(batch.items))
    slots = np.repeat(tile * places + place - batch.heads[:-1], counts)
    slots += np.arange(len(batch.ends))
    segment = np.repeat(np.arange(len(counts)), counts)

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    def spread(values: NDArray[Any], where: NDArray[np.int64], across: int) -> Tensor:
        flat = np.zeros(height * across, np.int64)
        flat[where] = values
        return tensor(flat.reshape(height, across))

    context = np.repeat(np.arange(len(batch.ends)), np.diff(batch.first_labels))
    return Tiles(
        items=spread(batch.items, at, width),
        ends=spread(batch.ends + np.repeat(column, counts), slots, places),
        lengths=spread(batch.lengths, slots, places),
        filled=tensor(at),
        slots=tensor(slots),
        rows=tensor(batch.rows[segment].astype(np.int64)),
        labels=tensor(batch.labels.astype(np.int64)),
        context=tensor(context),
        negatives=tensor(batch.negatives.astype(np.int64)),
        seen=tensor(batch.seen[segment]),
        events=spread(batch.events, at, width) if len(batch.events) else None,
    )
