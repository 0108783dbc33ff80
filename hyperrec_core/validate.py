"""Judging a model between epochs: the sampled ranking of `evaluate`, of the candidates alone.

The candidates are drawn once for the whole training, and only they are scored: a hundredth of the
work of ranking a catalogue of ten thousand items.
"""

from __future__ import annotations

import numpy as np
import torch

from hyperrec_core import sampling
from hyperrec_core.evaluate import marks
from hyperrec_core.histories import Histories
from hyperrec_core.models.protocol import Model

_LABELS_AT_ONCE = 512


class Validation:
    """Some labels of a split with their candidates.

    A label has the same candidates as in `evaluate` with the same seed.
    """

    def __init__(
        self, histories: Histories, *, items: int, lags: int, most: int, negatives: int, seed: int
    ) -> None:
        """Draw labels and candidates.

        Args:
            histories: the validation split, users numbered as in training.
            items: size of the vocabulary.
            lags: how much of a history the model looks at.
            most: at most this many labels, drawn at random.
            negatives: candidates beside a label.
            seed: of both draws.
        """
        labels = np.arange(len(histories))
        if len(labels) > most:
            generator = np.random.default_rng(seed)
            labels = np.sort(generator.choice(len(labels), most, replace=False))
        self._parts = []
        for start in range(0, len(labels), _LABELS_AT_ONCE):
            numbers = labels[start : start + _LABELS_AT_ONCE]
            rows = histories.rows[numbers]
            seen = marks(histories, histories.offsets[rows], histories.offsets[rows + 1], items)
            drawn = sampling.unseen_items(seen, numbers, size=negatives, seed=seed)
            coin = sampling.uniform(seed, sampling.SAMPLED_TIES, numbers)
            batch = histories.batch(numbers, lags=lags)
            self._parts.append((batch, torch.from_numpy(drawn), torch.from_numpy(coin)))
        self._labels = len(labels)

    def __len__(self) -> int:
        return self._labels

    @torch.no_grad()
    def judge(self, model: Model) -> tuple[float, float]:
        """HR@10 and NDCG@10 of the labels among themselves and their candidates."""
        vectors = model.item_vectors()
        hits, gains = 0.0, 0.0
        for batch, drawn, coin in self._parts:
            moved = batch.to(vectors.device)
            users = model.user_vectors(moved)[moved.context].unsqueeze(2)
            candidates = drawn.to(vectors.device)
            own = (vectors[moved.labels].unsqueeze(1) @ users).flatten(1)
            others = (vectors[candidates.clamp_min(0)] @ users).squeeze(2)
            there = candidates >= 0
            higher = ((others > own) & there).sum(1).cpu()
            level = ((others == own) & there).sum(1).cpu()
            rank = 1 + higher + (coin * (level + 1)).long()
            rank[~own.squeeze(1).isfinite().cpu()] = 1 + there.shape[1]
            hit = rank <= 10
            hits += float(hit.sum())
            gains += float((hit / torch.log2(1.0 + rank)).sum())
        return hits / self._labels, gains / self._labels
