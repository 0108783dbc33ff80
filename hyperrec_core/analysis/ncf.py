"""NCF: neural matrix factorisation (NeuMF; He et al. 2017, WWW), as in the package `cornac`.

The network, its loss (cross-entropy, four items not taken to each taken one) and its steps (Adam)
are cornac's. What it does for one item at a time, negatives and scores, is done by arrays here.

An epoch of the Amazon sets takes seconds of one core, so that NCF has the budget of its rivals;
it overfits after some ten epochs, and stops when `_PATIENCE` of them bring nothing better.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from cornac.data import Dataset
from cornac.models import NeuMF
from torch import Tensor
from torch.nn import Linear

from hyperrec_core.analysis.datasets import Split
from hyperrec_core.analysis.peers import interaction_matrix
from hyperrec_core.fit import TrainConfig
from hyperrec_core.histories import Batch
from hyperrec_core.threads import one_thread
from hyperrec_core.validate import Validation

_PATIENCE, _NEGATIVES_PER_LABEL = 5, 4
_ITEMS_AT_ONCE = 4096  # whose first layer stays in the cache


@dataclass(frozen=True, kw_only=True)
class NCFConfig:
    """Settings of NCF; `dimensions`, a multiple of 4, are those of the perceptron's vectors.

    Its layers halve from two vectors to a quarter of one, the length of the factorisation's.
    """

    name: Literal["ncf"] = "ncf"
    dimensions: int = 32
    learning_rate: float = 0.001


class NCF:
    """A fitted network; `scores` is a `Scorer`."""

    lags: ClassVar[int] = 1  # no history is looked at

    def __init__(self, network: Any) -> None:
        """Of cornac's network as it is now, wherever it is."""
        self._network = deepcopy(network).cpu()

    @torch.no_grad()
    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Of users of training [B] and items of each [B, n], float32 [B, n].

        Not the probabilities that the network makes of them, which round to 1 and tie.
        """
        pairs = users.repeat_interleave(items.shape[1]), items.flatten()
        both = self._network.gmf.h(*pairs), self._network.mlp.h(*pairs)
        found: Tensor = self._network.logit(torch.cat(both, dim=1))
        return found.view(items.shape)

    @torch.no_grad()
    @one_thread()
    def scores(self, batch: Batch) -> Tensor:
        """Logits of the catalogue for the user of each history, float32 [C, items].

        A user whom training has not seen is the mean of all. By columns, and with what the first
        layer, a sum over two vectors in a row, makes of each once for all: a tenth of `logits`.
        """
        gmf, mlp, logit = self._network.gmf, self._network.mlp, self._network.logit
        first, *layers = (layer for layer in mlp.mlp_model if isinstance(layer, Linear))
        of_users, of_items = first.weight.chunk(2, dim=1)
        of_factors, of_hidden = logit.weight[0].chunk(2)
        users = _rows(mlp.user_embedding.weight, batch.users) @ of_users.T + first.bias
        items = of_items @ mlp.item_embedding.weight.T
        factors = _rows(gmf.user_embedding.weight, batch.users) * of_factors
        found = torch.addmm(logit.bias, factors, gmf.item_embedding.weight.T)
        for part in (slice(i, i + _ITEMS_AT_ONCE) for i in range(0, len(found.T), _ITEMS_AT_ONCE)):
            for row, user in zip(found, users, strict=True):
                hidden = torch.relu_(items[:, part] + user[:, None])
                for layer in layers:
                    hidden = torch.relu_(torch.addmm(layer.bias[:, None], layer.weight, hidden))
                row[part] += of_hidden @ hidden
        return found


def fit(
    split: Split, config: NCFConfig, *, epochs: int, batch_size: int, seed: int
) -> tuple[NCF, dict[str, Any]]:
    """NCF after at most so many epochs, as of the one that validates best: `validation`, NDCG@10.

    Validation is that of `hyperrec_core.fit.fit`; all draws are made from the seed.
    """
    judged = Validation(
        split.validation.aligned_to(split.train), items=split.items, lags=NCF.lags, seed=seed,
        most=TrainConfig.validation_labels, negatives=TrainConfig.validation_negatives,
    )  # fmt: skip
    d = config.dimensions
    model = _Judged(
        num_factors=d // 4, layers=(2 * d, d, d // 2, d // 4), lr=config.learning_rate,
        num_epochs=epochs, batch_size=batch_size, num_neg=_NEGATIVES_PER_LABEL, seed=seed,
        backend="pytorch", early_stopping={"judged": judged}, verbose=False,
    )  # fmt: skip
    taken = interaction_matrix(split.train, items=split.items).tocoo()
    events = taken.row.astype(np.int64), taken.col.astype(np.int64), taken.data
    before = np.random.get_state()  # cornac seeds NumPy's global generator, and PyTorch's
    try:
        with one_thread(), torch.random.fork_rng():
            model.fit(_Train(*taken.shape, {}, {}, events, seed=seed))
    finally:
        np.random.set_state(before)
    return model.best, {"best_epoch": model.best_epoch, "validation": model.best_value}


def _rows(table: Tensor, users: Tensor) -> Tensor:
    return torch.where((users >= 0)[:, None], table[users.clamp_min(0)], table.mean(0))


class _Judged(NeuMF):  # type: ignore[misc]
    best_value: float

    def early_stop(self, train_set: Dataset, val_set: None, *, judged: Validation) -> bool:
        """Cornac asks after each epoch whether it was the last one."""
        self.current_epoch += 1
        model = NCF(self.model)
        _, ndcg = judged.judge_scores(model.logits)
        if ndcg > self.best_value:
            self.best, self.best_value, self.best_epoch = model, ndcg, self.current_epoch
        return bool(self.current_epoch - self.best_epoch >= _PATIENCE)


class _Train(Dataset):  # type: ignore[misc]
    def uir_iter(self, size: int, shuffle: bool, binary: bool, num_zeros: int) -> Iterator[Any]:
        """Users, items and whether they took them, a batch and its negatives at a time."""
        users, items, ones = self.uir_tuple
        taken = users * self.num_items + items  # ascending
        for part in self.idx_iter(len(users), size, shuffle):
            theirs = users[part].repeat(num_zeros)
            keys, again = np.empty_like(theirs), np.full(len(theirs), True)
            while again.any():
                drawn = self.rng.randint(self.num_items, size=again.sum())
                keys[again] = theirs[again] * self.num_items + drawn
                again = taken.take(np.searchsorted(taken, keys), mode="clip") == keys
            others, zeros = keys % self.num_items, np.zeros(len(keys))
            pairs = (users[part], theirs), (items[part], others), (ones[part], zeros)
            yield tuple(np.concatenate(pair) for pair in pairs)
