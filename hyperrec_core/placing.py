"""Where each label of a block stands among the scores of the catalogue.

Twice: as tensors, for a GPU, and as a kernel for the processor that walks each row of scores while
it is in the cache and needs no table of who has seen what.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.histories import ramp
from hyperrec_core.kernels.compiled import kernel
from hyperrec_core.threads import in_threads
from hyperrec_core.topk import best_of_rows, how_many_above, how_many_level, insert

COVERED = 10
"""Coverage asks which items stand in the first so many of some history's recommendations."""

# Scores that are held against the last of the first COVERED in one go.
_AT_ONCE = 128


@dataclass(frozen=True)
class Block:
    """Some labels of a split; labels that share a history stand together.

    Attributes:
        rows: the row of scores of each label, int64 [B].
        labels: the label, int64 [B].
        drawn: its sampled negatives, -1 where there are fewer, int64 [B, negatives].
        starts: where its history starts in the positions, int64 [B].
        ends: where it ends, exclusive, int64 [B].
        sampled_coins: in [0, 1), break ties among the negatives, float64 [B].
        full_coins: the same for the whole catalogue.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    drawn: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sampled_coins: NDArray[np.float64]
    full_coins: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, which: slice) -> Block:
        """Some of the labels."""
        return Block(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


@dataclass(frozen=True)
class Places:
    """What is found of a split's labels.

    Attributes:
        sampled: rank among the negatives, int32 [labels].
        full: rank among the catalogue, int32 [labels].
        repeat: whether the label stands in its history, bool [labels].
        recommended: whether an item is among the first COVERED of some list, bool [items].
    """

    sampled: NDArray[np.int32]
    full: NDArray[np.int32]
    repeat: NDArray[np.bool_]
    recommended: NDArray[np.bool_]

    def part(self, which: slice) -> Places:
        """Those of some labels, in the same memory."""
        return Places(self.sampled[which], self.full[which], self.repeat[which], self.recommended)


def by_kernel(
    scores: Tensor,
    block: Block,
    positions: NDArray[np.int32],
    *,
    exclude_seen: bool,
    places: Places,
) -> None:
    """Fill in the places of a block's labels on the processor.

    Args:
        scores: float32 or float64, [R, items].
        block: the labels.
        positions: item of every position of every history, read-only.
        exclude_seen: the items of the history are no candidates of the full ranking, and a label
            that is one of them ranks last there.
        places: where to write, [B] each; `recommended` is added to.
    """
    table = np.ascontiguousarray(scores.numpy())

    def fill(which: slice) -> None:
        some, found = block.part(which), places.part(which)
        _place(
            table,
            some.rows,
            some.labels,
            some.drawn,
            positions,
            some.starts,
            some.ends,
            some.sampled_coins,
            some.full_coins,
            exclude_seen,
            found.sampled,
            found.full,
            found.repeat,
            found.recommended,
        )

    in_threads(fill, len(block))


@kernel
def _place(
    scores: Any,
    rows: Any,
    labels: Any,
    drawn: Any,
    positions: Any,
    starts: Any,
    ends: Any,
    sampled_coins: Any,
    full_coins: Any,
    exclude_seen: bool,
    sampled: Any,
    full: Any,
    repeat: Any,
    recommended: Any,
) -> None:
    items = scores.shape[1]
    # Which history has an item, by number: the table is not emptied in between.
    seen_by, history = np.full(items, -1, np.int32), np.int32(-1)
    seen, distinct = np.empty(items, np.int32), 0
    for i in range(len(labels)):
        row, label = scores[rows[i]], labels[i]
        if i == 0 or ends[i] != ends[i - 1]:
            history, distinct = np.int32(history + 1), 0
            for position in range(starts[i], ends[i]):
                item = positions[position]
                if seen_by[item] != history:
                    seen_by[item], seen[distinct] = history, item
                    distinct += 1
            _note_first(row, seen_by, history if exclude_seen else np.int32(-2), recommended)
        own = row[label]
        repeat[i] = seen_by[label] == history

        higher, level, others = 0, 0, 0
        for item in drawn[i]:
            if item >= 0:
                higher += row[item] > own
                level += row[item] == own
                others += 1
        sampled[i] = rank(own, higher, level, others, sampled_coins[i])

        # The label is level with itself.
        higher, level, others = how_many_above(row, own), how_many_level(row, own) - 1, items - 1
        if exclude_seen:
            for item in seen[:distinct]:
                higher -= row[item] > own
                level -= row[item] == own
            others -= distinct
        full[i] = rank(own, higher, level, others, full_coins[i])
        if exclude_seen and repeat[i]:
            full[i] = items


@kernel
def rank(own: Any, higher: int, level: int, others: int, coin: float) -> int:
    """The rank of a label by how many candidates beat it, or are level with it and come first."""
    return 1 + (others if np.isnan(own) else higher + int(coin * (level + 1)))


@kernel
def _note_first(row: Any, seen_by: Any, left_out: Any, recommended: Any) -> None:
    """Mark the first items of one list; of equal scores, those of lower numbers."""
    best, items = np.empty(COVERED, row.dtype), np.empty(COVERED, np.int64)
    best[:] = -np.inf
    for start in range(0, len(row), _AT_ONCE):
        scores = row[start : start + _AT_ONCE]
        if how_many_above(scores, best[-1]) == 0:
            continue
        for i in range(len(scores)):
            if scores[i] > best[-1] and seen_by[start + i] != left_out:
                insert(best, items, scores[i], start + i)
    for place in range(COVERED):
        if best[place] > -np.inf:
            recommended[items[place]] = True


def by_tensors(
    scores: Tensor,
    block: Block,
    positions: NDArray[np.int32],
    *,
    exclude_seen: bool,
    places: Places,
) -> None:
    """Fill in the places of a block's labels on the device of the scores; see `by_kernel`."""
    device, items = scores.device, scores.shape[1]
    scores = scores[torch.from_numpy(block.rows).to(device)]
    labels = torch.from_numpy(block.labels).to(device).unsqueeze(1)
    own = scores.gather(1, labels)

    candidates = torch.from_numpy(block.drawn).to(device)
    there = candidates >= 0
    found = scores.gather(1, candidates.clamp(min=0))
    places.sampled[:] = ranks(own, found, there, block.sampled_coins)

    lengths = block.ends - block.starts
    of_label = np.repeat(np.arange(len(block)), lengths)
    item = positions[np.repeat(block.starts, lengths) + ramp(lengths)]
    seen = torch.zeros(scores.shape, dtype=torch.bool, device=device)
    seen[torch.from_numpy(of_label).to(device), torch.from_numpy(item).long().to(device)] = True
    places.repeat[:] = seen.gather(1, labels).squeeze(1).cpu().numpy()
    left_out = seen if exclude_seen else torch.zeros_like(seen)
    others = ~left_out.scatter(1, labels, True)
    places.full[:] = ranks(own, scores, others, block.full_coins)
    if exclude_seen:
        places.full[places.repeat] = items

    first = torch.from_numpy(np.flatnonzero(np.diff(block.ends, prepend=-1))).to(device)
    listed = scores[first].masked_fill(left_out[first], -torch.inf)
    best, best_items = best_of_rows(listed.float(), min(COVERED, items))
    # What is left at minus infinity is no recommendation: left out, or not a number.
    places.recommended[best_items[~best.isneginf()].cpu().numpy()] = True


def ranks(
    own: Tensor, scores: Tensor, candidates: Tensor, coins: NDArray[np.float64]
) -> NDArray[np.int64]:
    """`rank` of every label among its candidates.

    Args:
        own: score of the label, [B, 1].
        scores: of other items, [B, n].
        candidates: which of them count, bool [B, n].
        coins: float64 [B].

    Returns:
        int64 [B].
    """
    higher = ((scores > own) & candidates).sum(1)
    level = ((scores == own) & candidates).sum(1)
    before = higher + (torch.from_numpy(coins).to(own.device) * (level + 1)).long()
    found = 1 + torch.where(own.isnan().squeeze(1), candidates.sum(1), before)
    return np.asarray(found.cpu().numpy(), np.int64)
