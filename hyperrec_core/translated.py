"""A model of another run judged on this run's labels: each knows the items by numbers of its own.

The other model is asked what it would have answered as a service: items of a history that it does
not know are passed over, the newest ones that it knows count, as many as it looks at; an item that
it does not know is never recommended, so that a label which is one ranks last. So does every label
behind a history of which it knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.aggregate import WHOLE_HISTORY
from hyperrec_core.evaluate import Scorer, Served, model_scorer
from hyperrec_core.histories import Batch
from hyperrec_core.models import Model


def rows_of(item_ids: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """The place of each id among the known ones, -1 where it is not. [items]."""
    place = {item_id: row for row, item_id in enumerate(known)}
    return np.array([place.get(item_id, -1) for item_id in item_ids], np.int64)


def translated_scorer(model: Model, rows: NDArray[np.int64]) -> tuple[Scorer, int]:
    """Scores of this run's items by another run's model.

    Args:
        model: of the other run.
        rows: this run's items as rows of that model, -1 where it has none, [items].

    Returns:
        The scorer, and how many of the newest items of a history it asks for.
    """
    if (rows >= 0).all():
        return model_scorer(_Translated(model, rows)), model.lags
    scores = model_scorer(_Translated(model, rows))
    unknown = torch.from_numpy(rows < 0)

    def known_first(batch: Batch) -> Tensor:
        found = scores(batch)
        found[:, unknown.to(found.device)] = -torch.inf
        return found

    return known_first, WHOLE_HISTORY


class _Translated(Served):
    """The other model in this run's numbers."""

    def __init__(self, model: Model, rows: NDArray[np.int64]) -> None:
        self._model = model
        vectors = model.item_vectors()
        self._rows = torch.from_numpy(rows).to(vectors.device)
        self._vectors = vectors[self._rows.clamp_min(0)]

    def item_vectors(self) -> Tensor:
        return self._vectors

    def user_vectors(self, batch: Batch) -> Tensor:
        rows = self._rows[batch.index]
        histories = torch.arange(len(batch.offsets), device=rows.device)
        ends = torch.cat((batch.offsets[1:], batch.offsets.new_tensor([len(rows)])))
        history = torch.repeat_interleave(histories, ends - batch.offsets)
        known = rows >= 0
        # Known items before each place, in all, and before the first of its history.
        before = torch.cumsum(known, 0) - known.long()
        lags = before - before[batch.offsets][history]
        known &= lags < self._model.lags
        sizes = torch.bincount(history[known], minlength=len(batch.offsets))
        users = self._model.user_vectors(
            replace(
                batch,
                index=rows[known],
                lags=lags[known],
                offsets=torch.cumsum(sizes, 0) - sizes,
                users=torch.full_like(batch.users, -1),
                events=None if batch.events is None else batch.events[known],
            )
        )
        # Some models make a user of nothing, too, whom a service does not ask them for.
        return users.masked_fill((sizes == 0).unsqueeze(1), torch.nan)
