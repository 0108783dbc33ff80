"""Ranking metrics of held-out labels: sampled negatives as in the papers, and the full catalogue.

A rank is 1 plus the number of candidates that score higher; candidates that score the same as the
label are placed before it or after it by a seeded coin, so that a scorer with many ties (a
popularity count, a collapsed model) is neither favoured nor punished. A score that is not a number
ranks last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.histories import Batch, Histories
from hyperrec_core.models.protocol import Model

Scorer = Callable[[Batch], Tensor]
"""Scores of the whole catalogue for each example of a batch, [B, items]."""

CUTOFF = 10

# Scores held at once, as float64 with masks and keys beside them: about 1 GB.
_SCORES_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Metrics:
    """Means over labels, each with one relevant item: HR@10 and Recall@10 are the same there.

    `hr_at_10` and `ndcg_at_10` rank the label among itself and the sampled negatives;
    `recall_at_10_full` and `ndcg_at_10_full` among the whole catalogue.
    """

    labels: int
    negatives: int
    hr_at_10: float
    ndcg_at_10: float
    recall_at_10_full: float
    ndcg_at_10_full: float

    def to_json(self) -> dict[str, float]:
        """The fields as a dictionary."""
        return asdict(self)


def model_scorer(model: Model) -> Scorer:
    """Scores by the model's published vectors: exactly what a reader computes."""
    vectors = model.item_vectors()

    def scores(batch: Batch) -> Tensor:
        batch = batch.to(vectors.device)
        return (model.user_vectors(batch) @ vectors.T)[batch.context]

    return scores


def popularity_scorer(counts: NDArray[np.int64]) -> Scorer:
    """The same score for everybody: how often an item occurs in training."""
    row = torch.from_numpy(counts.astype(np.float64))
    return lambda batch: row.expand(len(batch.labels), -1)


def evaluate(
    scorer: Scorer,
    histories: Histories,
    *,
    items: int,
    lags: int,
    negatives: int,
    seed: int,
    examples: NDArray[np.int64] | None = None,
) -> Metrics:
    """Rank every label.

    Negatives are drawn uniformly, without replacement, from the items that do not occur in the
    label's row (Chamberlain et al. 2019, section 5). The same seed draws the same negatives for
    any scorer, so two scorers are compared on the same candidates. In the full ranking nothing
    is left out: repeat purchases are purchases.

    Args:
        scorer: scores of the catalogue for a batch.
        histories: the split to judge.
        items: size of the vocabulary.
        lags: how much of a history the scorer looks at.
        negatives: how many to draw for a label; where fewer items are unseen, all of them.
        seed: of the draw and of the ties.
        examples: numbers of the labels to rank; all by default.

    Raises:
        ValueError: there is no label.
    """
    examples = np.arange(len(histories)) if examples is None else examples
    if not len(examples):
        raise ValueError("There is no label to evaluate: the split is empty.")
    batch_size = max(1, min(1024, _SCORES_AT_ONCE // items))
    sampled, full = [], []
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        batch = histories.batch(part, lags=lags)
        scores = scorer(batch).to("cpu", torch.float64)
        scores = torch.nan_to_num(scores, nan=-torch.inf)
        generator = np.random.default_rng((seed, start))
        unseen = _unseen(histories, part, items)
        drawn = _draw(unseen, negatives, generator)
        sampled.append(_ranks(scores, batch.labels, drawn, generator))
        full.append(_ranks(scores, batch.labels, torch.ones_like(unseen), generator))
    hr, ndcg = _at_cutoff(np.concatenate(sampled))
    recall_full, ndcg_full = _at_cutoff(np.concatenate(full))
    return Metrics(len(examples), negatives, hr, ndcg, recall_full, ndcg_full)


def _unseen(histories: Histories, examples: NDArray[np.int64], items: int) -> Tensor:
    """Which items do not occur in each example's row, bool [B, items]."""
    rows = histories.rows[examples]
    starts, lengths = histories.offsets[rows], np.diff(histories.offsets)[rows]
    inside = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    unseen = torch.ones(len(examples), items, dtype=torch.bool)
    example = np.repeat(np.arange(len(examples)), lengths)
    seen = histories.items[np.repeat(starts, lengths) + inside].astype(np.int64)
    unseen[torch.from_numpy(example), torch.from_numpy(seen)] = False
    return unseen


def _draw(unseen: Tensor, negatives: int, generator: np.random.Generator) -> Tensor:
    """`negatives` of the allowed items of each row, uniformly without replacement. [B, items]."""
    keys = torch.from_numpy(generator.random(unseen.shape, dtype=np.float32))
    keys[~unseen] = 2.0
    count = min(negatives, unseen.shape[1])
    smallest = keys.topk(count, largest=False).indices
    drawn = torch.zeros_like(unseen)
    drawn.scatter_(1, smallest, True)
    return drawn & unseen


def _ranks(
    scores: Tensor, labels: Tensor, candidates: Tensor, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Rank, from 1, of each label among the candidates; the label itself is not one. [B]."""
    own = scores.gather(1, labels.unsqueeze(1))
    others = candidates.scatter(1, labels.unsqueeze(1), False)
    # A label whose score was not a number stands behind everything, ties included.
    lost = torch.isneginf(own.squeeze(1)).numpy()
    higher = ((scores > own) & others).sum(1).numpy()
    equal = ((scores == own) & others).sum(1).numpy()
    before = np.where(lost, equal, generator.integers(0, equal + 1))
    return 1 + higher + before


def _at_cutoff(ranks: NDArray[np.int64]) -> tuple[float, float]:
    """Hit rate and NDCG at the cutoff for one relevant item a list."""
    hit = ranks <= CUTOFF
    gain = np.where(hit, 1.0 / np.log2(ranks + 1.0), 0.0)
    return float(hit.mean()), float(gain.mean())
