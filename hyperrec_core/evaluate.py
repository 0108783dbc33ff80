"""The rank of every held-out label: among sampled negatives, as in the papers, and among all items.

A rank is 1 plus the number of candidates that score higher; candidates that score the same as the
label are placed before it or after it by a seeded coin, so that a scorer with many ties (a
popularity count, a collapsed model) is neither favoured nor punished. A score that is not a number
ranks last. Metrics, intervals and comparisons are all computed from the ranks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core import sampling
from hyperrec_core.histories import Batch, Histories, ramp
from hyperrec_core.models.protocol import Model
from hyperrec_core.ranks import Ranks

Scorer = Callable[[Batch], Tensor]
"""Scores of the whole catalogue for each example of a batch, [B, items]."""

COVERED = 10
"""Coverage asks which items stand in the first so many of some history's recommendations."""

# Scores held at once: 64 MB in float32, with as many bytes again for masks and comparisons.
_SCORES_AT_ONCE = 1 << 24


def model_scorer(model: Model) -> Scorer:
    """Scores by the model's published vectors: exactly what a reader computes."""
    vectors = model.item_vectors()

    def scores(batch: Batch) -> Tensor:
        batch = batch.to(vectors.device)
        found = model.user_vectors(batch) @ vectors.T
        return found if len(found) == len(batch.labels) else found[batch.context]

    return scores


def popularity_scorer(counts: NDArray[np.int64]) -> Scorer:
    """The same score for everybody: how often an item occurs."""
    # In float32 counts above 2^24 would be rounded, and unequal ones tie.
    row = torch.from_numpy(counts.astype(np.float64))
    return lambda batch: row.expand(len(batch.labels), -1)


def recent_counts(
    items: NDArray[np.int32], times: NDArray[np.int64], *, catalogue: int, share: float
) -> NDArray[np.int64]:
    """How often each item occurs among the newest interactions, for `popularity_scorer`.

    Args:
        items: item of each training interaction, [n].
        times: its time, in any unit, [n].
        catalogue: size of the vocabulary.
        share: the newest so many of the interactions count, and what is tied with the oldest
            of these; above 0 and up to 1.
    """
    if not len(times):
        return np.zeros(catalogue, np.int64)
    oldest = len(times) - max(1, round(share * len(times)))
    since = np.partition(times, oldest)[oldest]
    return np.bincount(items[times >= since], minlength=catalogue)


@torch.no_grad()
def evaluate(
    scorer: Scorer,
    histories: Histories,
    *,
    items: int,
    lags: int,
    negatives: int,
    seed: int,
    examples: NDArray[np.int64] | None = None,
    exclude_seen: bool = False,
) -> Ranks:
    """Rank every label.

    Negatives are drawn uniformly, without replacement, from the items that do not occur in the
    label's row (Chamberlain et al. 2019, section 5). A label's negatives and coins depend on the
    seed and its number alone, so any two scorers are compared on the same candidates.

    In the full ranking nothing is left out by default: repeat purchases are purchases. With
    `exclude_seen` the items of the label's history are no candidates, and a label that is one of
    them, which such a list cannot contain, ranks last.

    Args:
        scorer: scores of the catalogue for a batch.
        histories: the split to judge.
        items: size of the vocabulary.
        lags: how much of a history the scorer looks at.
        negatives: how many to draw for a label; where fewer items are unseen, all of them.
        seed: of the draw and of the ties.
        examples: numbers of the labels to rank; all by default.
        exclude_seen: leave the items of the history out of the full ranking.

    Raises:
        ValueError: there is no label.
    """
    examples = np.arange(len(histories)) if examples is None else examples
    if not len(examples):
        raise ValueError("There is no label to evaluate: the split is empty.")
    sampled = np.empty(len(examples), np.int32)
    full = np.empty(len(examples), np.int32)
    repeat = np.empty(len(examples), bool)
    recommended = torch.zeros(items, dtype=torch.bool)
    rows, ends = histories.rows[examples], histories.ends[examples]
    starts, row_ends = histories.offsets[rows], histories.offsets[rows + 1]
    size = max(1, min(1024, _SCORES_AT_ONCE // items))
    for start in range(0, len(examples), size):
        part = slice(start, start + size)
        numbers = examples[part]
        batch = histories.batch(numbers, lags=lags)
        labels = batch.labels.numpy()
        scores = scorer(batch)
        own = scores.gather(1, batch.labels.to(scores.device).unsqueeze(1))

        seen = marks(histories, starts[part], row_ends[part], items)
        drawn = sampling.unseen_items(seen, numbers, size=negatives, seed=seed)
        coin = sampling.uniform(seed, sampling.SAMPLED_TIES, numbers)
        sampled[part] = _sampled_ranks(scores, own, drawn, coin)

        history = marks(histories, starts[part], ends[part], items)
        repeat[part] = history[np.arange(len(labels)), labels]
        left_out = torch.from_numpy(history).to(scores.device) if exclude_seen else None
        coin = sampling.uniform(seed, sampling.FULL_TIES, numbers)
        full[part] = _full_ranks(scores, own, left_out, coin)
        _note_first(scores, left_out, batch, recommended)
    if exclude_seen:
        full[repeat] = items
    return Ranks(
        user=rows,
        item=histories.labels[examples],
        history=(ends - starts).astype(np.int32),
        repeat=repeat,
        sampled=sampled,
        full=full,
        items=items,
        negatives=negatives,
        exclude_seen=exclude_seen,
        coverage_at_10=float(recommended.double().mean()),
    )


def marks(
    histories: Histories, starts: NDArray[np.int64], ends: NDArray[np.int64], items: int
) -> NDArray[np.bool_]:
    """Which items stand in the positions from `starts` up to `ends`, [B, items]."""
    lengths = ends - starts
    inside = ramp(lengths)
    marks = np.zeros((len(starts), items), bool)
    example = np.repeat(np.arange(len(starts)), lengths)
    marks[example, histories.items[np.repeat(starts, lengths) + inside]] = True
    return marks


def _sampled_ranks(
    scores: Tensor, own: Tensor, drawn: NDArray[np.int64], coin: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Ranks among the drawn items, [B]."""
    candidates = torch.from_numpy(drawn).to(scores.device)
    there = candidates >= 0
    found = scores.gather(1, candidates.clamp(min=0))
    higher = _count((found > own) & there)
    level = _count((found == own) & there)
    return _place(own, higher, level, _count(there), coin)


def _full_ranks(
    scores: Tensor, own: Tensor, left_out: Tensor | None, coin: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Ranks among all items but those left out, [B]."""
    higher, level = scores > own, scores == own
    if left_out is not None:
        higher &= ~left_out
        level &= ~left_out
    # The label is level with itself.
    others = np.full(len(scores), scores.shape[1] - 1)
    if left_out is not None:
        others -= _count(left_out)
    return _place(own, _count(higher), np.maximum(_count(level) - 1, 0), others, coin)


def _place(
    own: Tensor,
    higher: NDArray[np.int64],
    level: NDArray[np.int64],
    others: NDArray[np.int64],
    coin: NDArray[np.float64],
) -> NDArray[np.int64]:
    """The rank of a label by how many candidates beat it, or are level with it and come first."""
    before = higher + (coin * (level + 1)).astype(np.int64)
    return 1 + np.where(own.isnan().squeeze(1).cpu().numpy(), others, before)


def _count(marks: Tensor) -> NDArray[np.int64]:
    """How many in each row: [B]."""
    if marks.device.type == "cpu":
        # Several times faster than PyTorch's sum of booleans, which would be half of all the time.
        found: NDArray[np.int64] = np.count_nonzero(marks.numpy(), axis=1)
        return found
    return np.asarray(marks.sum(1).cpu().numpy(), np.int64)


def _note_first(scores: Tensor, left_out: Tensor | None, batch: Batch, recommended: Tensor) -> None:
    """Mark the first items of every history's list in `recommended`, [items]."""
    if len(batch.offsets) < len(scores):
        # Labels that share a history share its list.
        context = batch.context.numpy()
        first = torch.from_numpy(np.flatnonzero(np.diff(context, prepend=-1))).to(scores.device)
        scores = scores[first]
        left_out = None if left_out is None else left_out[first]
    if left_out is not None:
        scores = scores.masked_fill(left_out, -torch.inf)
    best = scores.topk(min(COVERED, scores.shape[1]), dim=1, sorted=False)
    if best.values.isnan().any():
        # PyTorch takes NaN for the largest number.
        best = scores.nan_to_num(nan=-torch.inf).topk(best.indices.shape[1], dim=1, sorted=False)
    # What is left at minus infinity is no recommendation: excluded, or not a number.
    recommended[best.indices[~best.values.isneginf()].cpu()] = True
