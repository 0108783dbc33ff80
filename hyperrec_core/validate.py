"""Judging a model between epochs: the sampled ranking of `evaluate`, of the candidates alone.

The candidates are drawn once for the whole training, and only they are scored: a hundredth of the
work of ranking a catalogue of ten thousand items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core import sampling
from hyperrec_core.histories import Batch, Histories
from hyperrec_core.kernels.compiled import dot, kernel
from hyperrec_core.models.protocol import Model
from hyperrec_core.placing import rank, ranks
from hyperrec_core.threads import one_thread

_LABELS_AT_ONCE = 4096

_Places = Callable[[Batch, NDArray[np.int64], NDArray[np.float64]], NDArray[np.int64]]


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
        positions = sampling.read_only(histories.items)
        self._parts = []
        for start in range(0, len(labels), _LABELS_AT_ONCE):
            numbers = labels[start : start + _LABELS_AT_ONCE]
            rows = histories.rows[numbers]
            drawn = sampling.unseen_items(
                positions,
                histories.offsets[rows],
                histories.offsets[rows + 1],
                numbers,
                items=items,
                size=negatives,
                seed=seed,
            )
            coins = sampling.uniform(seed, sampling.SAMPLED_TIES, numbers)
            self._parts.append((numbers, drawn, coins))
        self._histories, self._lags, self._labels = histories, lags, len(labels)

    def __len__(self) -> int:
        return self._labels

    @torch.no_grad()
    def judge(self, model: Model) -> tuple[float, float]:
        """HR@10 and NDCG@10 of the labels among themselves and their candidates."""
        vectors = model.item_vectors()

        def places(
            batch: Batch, drawn: NDArray[np.int64], coins: NDArray[np.float64]
        ) -> NDArray[np.int64]:
            with one_thread():
                users = model.user_vectors(batch.to(vectors.device))
            rank_drawn = _by_kernel if users.device.type == "cpu" else _by_tensors
            return rank_drawn(users, vectors, batch, drawn, coins)

        return self._judge(places)

    @torch.no_grad()
    def judge_scores(self, scores: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
        """The same of a model that has no vectors to publish.

        Args:
            scores: of users' numbers, int64 [B], and items of each, int64 [B, n]: float [B, n].
        """

        def places(
            batch: Batch, drawn: NDArray[np.int64], coins: NDArray[np.float64]
        ) -> NDArray[np.int64]:
            others = torch.from_numpy(drawn)
            candidates = torch.cat((batch.labels[:, None], others.clamp_min(0)), 1)
            found = scores(batch.users[batch.context], candidates)
            return ranks(found[:, :1], found[:, 1:], others >= 0, coins)

        return self._judge(places)

    def _judge(self, places: _Places) -> tuple[float, float]:
        hits, gains = 0.0, 0.0
        for numbers, drawn, coins in self._parts:
            # Made anew each time: whole histories of thousands of labels would fill the memory.
            place = places(self._histories.batch(numbers, lags=self._lags), drawn, coins)
            hit = place <= 10
            hits += float(hit.sum())
            gains += float((hit / np.log2(1.0 + place)).sum())
        return hits / self._labels, gains / self._labels


def _by_kernel(
    users: Tensor,
    vectors: Tensor,
    batch: Batch,
    drawn: NDArray[np.int64],
    coins: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Ranks of a part's labels among their candidates, on the processor: [B]."""
    found = np.empty(len(drawn), np.int64)
    context, labels = batch.context.numpy(), batch.labels.numpy()
    _rank_drawn(users.numpy(), vectors.numpy(), context, labels, drawn, coins, found)
    return found


@kernel
def _rank_drawn(
    users: Any, vectors: Any, context: Any, labels: Any, drawn: Any, coins: Any, found: Any
) -> None:
    scores = np.empty(1 + drawn.shape[1], vectors.dtype)
    for i in range(len(labels)):
        user, there = users[context[i]], 0
        # One loop for all, so that equal vectors get equal scores.
        for j in range(len(scores)):
            item = drawn[i, j - 1] if j else labels[i]
            if item >= 0:
                scores[there] = dot(vectors[item], user)
                there += 1
        own, others = scores[0], scores[1:there]
        found[i] = rank(own, (others > own).sum(), (others == own).sum(), there - 1, coins[i])


def _by_tensors(
    users: Tensor,
    vectors: Tensor,
    batch: Batch,
    drawn: NDArray[np.int64],
    coins: NDArray[np.float64],
) -> NDArray[np.int64]:
    """The same on a GPU."""
    columns = users[batch.context.to(users.device)].unsqueeze(2)
    candidates = torch.from_numpy(drawn).to(users.device)
    own = (vectors[batch.labels.to(users.device)].unsqueeze(1) @ columns).flatten(1)
    others = (vectors[candidates.clamp_min(0)] @ columns).squeeze(2)
    return ranks(own, others, candidates >= 0, coins)
