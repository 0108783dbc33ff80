"""The same model written the usual way: autograd, geoopt's manifold and its optimisers.

An asymmetric hyperboloid model as `hyperrec_core.models.points` with its default settings: two
tables of points, a user is the Lorentz centroid of the newest items under a learned weight a lag,
the score is the scaled Lorentz inner product, the loss WMRB against shared negatives. All of a
batch is tensor operations on ragged histories, and batches are made by array indexing.

Where it does less than ours, that is in its favour: negatives that a user has interacted with are
not left out, and there is no schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import geoopt
import numpy as np
import torch
from geoopt.optim import SparseRiemannianAdam, SparseRiemannianSGD
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag

from hyperrec_core.histories import Batch, Histories
from hyperrec_core.models import PointsConfig
from tests.benchmarks.floor import wait

# Rates at which the loss falls, on MovieLens 100K from 4.6 to 3 within a few hundred steps.
_RATES = {"sgd": 0.5, "adam": 0.005}
OPTIMISERS = ("sgd", "adam", "sparse-sgd", "sparse-adam")
"""Of geoopt: RiemannianSGD and RiemannianAdam, which step all rows of a table, and their sparse
forms, which step those that the batch touches."""


class Twin(torch.nn.Module):
    """Parameters and the loss of a batch."""

    def __init__(self, items: int, config: PointsConfig, *, sparse: bool) -> None:
        super().__init__()
        self.manifold = geoopt.Lorentz()
        self.scale, self.sparse = config.scale, sparse
        self.target = self._table(items, config)
        self.context = self._table(items, config)
        lag = torch.arange(config.lags, dtype=torch.float32)
        self.lag_logits = torch.nn.Parameter(lag * float(np.log(config.recency)))

    def _table(self, items: int, config: PointsConfig) -> geoopt.ManifoldParameter:
        spatial = (torch.rand(items, config.dimensions) - 0.5) * config.initial_width
        points = self.manifold.projx(torch.cat((torch.ones(items, 1), spatial), dim=1))
        return geoopt.ManifoldParameter(points, manifold=self.manifold)

    def forward(self, batch: Batch, negatives: Tensor) -> Tensor:
        """The mean loss of a batch against items int64 [N]."""
        # Twice as fast as a gather of padded histories and a product with their weights.
        sums = embedding_bag(
            batch.index,
            self.context,
            batch.offsets,
            mode="sum",
            per_sample_weights=torch.exp(self.lag_logits).index_select(0, batch.lags),
            sparse=self.sparse,
        )
        length = torch.sqrt(-self.manifold.inner(None, sums, keepdim=True))
        users = (sums / length)[batch.context]
        own = embedding(batch.labels, self.target, sparse=self.sparse)
        others = embedding(negatives, self.target, sparse=self.sparse)
        positive = self.scale * self.manifold.inner(None, users, own)
        flipped = torch.cat((-users[:, :1], users[:, 1:]), dim=1)
        negative = self.scale * flipped @ others.T
        violation = torch.relu(1.0 + negative - positive.unsqueeze(1))
        return torch.log1p(violation.sum(1)).mean()


def measure(
    train: Histories,
    config: PointsConfig,
    *,
    items: int,
    optimiser: str,
    batch_size: int,
    negatives: int,
    seconds: float,
    device: torch.device,
) -> dict[str, float]:
    """Train for a while, after a few steps that do not count.

    Args:
        train: labels to learn from.
        config: settings that the twin shares.
        items: size of the vocabulary.
        optimiser: one of `OPTIMISERS`.
        batch_size: labels a step.
        negatives: drawn for a step.
        seconds: how long, at least three steps.
        device: where to compute.

    Returns:
        `examples_per_second`, `steps`, and the `first_loss` and `last_loss`.
    """
    torch.manual_seed(1)
    sparse = optimiser.startswith("sparse-")
    model = Twin(items, config, sparse=sparse).to(device)
    step_all = _stepper(model, optimiser)
    losses: list[Tensor] = []
    started, warm = 0.0, 3
    for batch, drawn in _batches(train, config.lags, batch_size, items, negatives):
        if len(losses) == warm:
            wait(device)
            started = time.perf_counter()
        loss = model(batch.to(device), drawn.to(device))
        loss.backward()
        step_all()
        losses.append(loss.detach())
        if len(losses) >= 2 * warm and time.perf_counter() - started > seconds:
            break
    wait(device)
    steps = len(losses) - warm
    return {
        "examples_per_second": steps * batch_size / (time.perf_counter() - started),
        "steps": steps,
        "first_loss": float(losses[0]),
        "last_loss": float(torch.stack(losses[-10:]).mean()),
    }


def _stepper(model: Twin, name: str) -> Callable[[], None]:
    """Steps all parameters; geoopt's sparse optimisers refuse the dense gradient of the weights."""
    kind = name.removeprefix("sparse-")
    rate = _RATES[kind]
    if not model.sparse:
        make = geoopt.optim.RiemannianSGD if kind == "sgd" else geoopt.optim.RiemannianAdam
        optimisers = [make(model.parameters(), lr=rate)]
    else:
        make = SparseRiemannianSGD if kind == "sgd" else SparseRiemannianAdam
        plain = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
        tables = [model.target, model.context]
        optimisers = [make(tables, lr=rate), plain([model.lag_logits], lr=rate)]

    def step() -> None:
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return step


def _batches(
    train: Histories, lags: int, batch_size: int, items: int, negatives: int
) -> Iterator[tuple[Batch, Tensor]]:
    """Shuffled batches for ever, each with its negatives."""
    generator = np.random.default_rng(1)
    size = min(batch_size, len(train))
    while True:
        order = generator.permutation(len(train))
        for start in range(0, len(order) - size + 1, size):
            drawn = torch.from_numpy(generator.integers(0, items, negatives))
            yield train.batch(order[start : start + size], lags=lags), drawn
