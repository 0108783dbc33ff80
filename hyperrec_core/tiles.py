"""A batch's segments side by side in tiles, so that their sums are one banded matrix product.

All histories that end inside a segment lie in its tile, so their weighted sums are one banded
matrix times the tile's points (see `aggregate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hyperrec_core.examples import SEGMENT, Examples
from hyperrec_core.kernels.pack import lay_out

_LEAST_TILE = 64  # positions of a tile, so that short segments are packed together


@dataclass(frozen=True)
class Tiles:
    """The histories of a batch, padded.

    Shapes: `items` int64 [T, P], oldest first, padded with 0; `ends` int64 [T, S], the column where
    a history ends (exclusive), and `lengths` int64 [T, S], how many items it has, 0 where a place
    is empty; `slots` int64 [C], the flat places of [T, S] that hold the histories; `segment` int64
    [C], the segment of each; `context` int64 [B], the history that each label follows; `events`
    int64 [T, P], or None.
    """

    items: Tensor
    ends: Tensor
    lengths: Tensor
    slots: Tensor
    segment: Tensor
    context: Tensor
    events: Tensor | None = None


def tiles(batch: Examples) -> Tiles:
    """Lay a batch out, on its device."""
    device = batch.items.device
    segments, heads = batch.segments.cpu(), batch.heads.cpu()
    spans = (segments[1:] - segments[:-1]).long()
    counts = (heads[1:] - heads[:-1]).long()
    width, places = max(_LEAST_TILE, int(spans.max())), max(SEGMENT, int(counts.max()))
    placed = torch.from_numpy(lay_out(segments.numpy(), heads.numpy(), width, places))
    tile, column, place = placed
    height = int(tile[-1]) + 1
    width, places = int((column + spans).max()), int((place + counts).max())

    def each(values: Tensor, repeats: Tensor) -> Tensor:
        return torch.repeat_interleave(values, repeats).to(device)

    # Where an element's segment starts in the flat arrays becomes where it starts in the tiles.
    at = each(tile * width + column - segments[:-1], spans)
    at += torch.arange(len(batch.items), device=device)
    slots = each(tile * places + place - heads[:-1], counts)
    slots += torch.arange(len(batch.ends), device=device)

    def spread(values: Tensor, where: Tensor, across: int) -> Tensor:
        flat = torch.zeros(height * across, dtype=torch.int64, device=device)
        flat[where] = values.long()
        return flat.view(height, across)

    follow = batch.first_labels.diff().long()
    return Tiles(
        items=spread(batch.items, at, width),
        ends=spread(batch.ends + each(column, counts), slots, places),
        lengths=spread(batch.lengths, slots, places),
        slots=slots,
        segment=each(torch.arange(len(counts)), counts),
        context=torch.repeat_interleave(torch.arange(len(follow), device=device), follow),
        events=None if batch.events is None else spread(batch.events, at, width),
    )
