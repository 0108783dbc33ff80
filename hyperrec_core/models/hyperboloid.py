"""The asymmetric hyperboloid model of Chamberlain et al. 2019, with learned recency.

Items are points of the hyperboloid; a user is the Einstein midpoint of the newest items of the
history (eq. 24), weighted by a learned weight a lag; the score is the Lorentz inner product,
which ranks as the distance does and has no singular gradient; the loss is WMRB (eq. 15-16); the
optimiser is exact Riemannian SGD (eq. 20-22) with row-wise adaptive steps.

Beyond the paper: the weight per lag (the paper's midpoint is uniform), the scale of the score
(curvature in disguise), adaptive steps, and a second table of points for items that stand in a
history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from hyperrec_core import initialise, losses, midpoint, optim
from hyperrec_core.geometry import lorentz
from hyperrec_core.histories import Batch


@dataclass(frozen=True, kw_only=True)
class HyperboloidConfig:
    """Settings of the model.

    Attributes:
        dimensions: d; published vectors have d + 1 numbers.
        tables: 2 keeps one point for an item as a candidate and another for it in a history,
            which pays on dense data; 1 shares them, which pays on sparse data.
        lags: the newest items of a history that make the user, each lag with its learned weight.
        scale: factor on the inner product; a larger one means lower curvature.
        list_size: the loss estimates ranks in a list of this size, see `losses.wmrb`.
        learning_rate: hyperbolic length of a point's first step.
        maximum_step: no step is longer; the paper clips at 1.
        initial_width: width of the hypercube in which points start.
        recency: ratio of the weights of neighbouring lags before training.
        lag_learning_rate: Adagrad rate of the lag weights' logarithms.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: Literal["hyperboloid"] = "hyperboloid"
    dimensions: int = 50
    tables: Literal[1, 2] = 2
    lags: int = 50
    scale: float = 30.0
    list_size: float = 100.0
    learning_rate: float = 0.05
    maximum_step: float = 1.0
    initial_width: float = 0.01
    recency: float = 0.9
    lag_learning_rate: float = 0.05

    def __post_init__(self) -> None:
        positive = ("dimensions", "lags", "scale", "list_size", "learning_rate", "maximum_step")
        for name in (*positive, "initial_width", "recency", "lag_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it must be above 0.")
        if self.dimensions < 2:
            raise ValueError(f"model.dimensions is {self.dimensions}; it must be at least 2.")


class Hyperboloid:
    """Parameters of the model and its optimiser's state, on one device."""

    def __init__(
        self, config: HyperboloidConfig, *, items: int, seed: int, device: torch.device
    ) -> None:
        self.config = config
        self.lags = config.lags
        generator = torch.Generator().manual_seed(seed)
        self._tables = [
            initialise.hypercube(
                items, config.dimensions, width=config.initial_width, generator=generator
            ).to(device)
            for _ in range(config.tables)
        ]
        self._sums = [optim.new_accumulator(items, device=device) for _ in self._tables]
        lag = torch.arange(config.lags, dtype=torch.float32, device=device)
        self._lag_logits = lag * torch.log(torch.tensor(config.recency))
        self._lag_sums = optim.new_accumulator(config.lags, device=device)
        # Scratch: where a table row stands among the rows of the current batch.
        self._slot = torch.zeros(items, dtype=torch.int64, device=device)

    def step(self, batch: Batch, negatives: Tensor, *, rate: float) -> Tensor:
        config = self.config
        history_rows, history = self._compact(batch.index)
        target_rows, targets = self._compact(torch.cat((batch.labels, negatives)))
        contexts = self._tables[-1][history_rows].requires_grad_()
        candidates = self._tables[0][target_rows].requires_grad_()
        logits = self._lag_logits.clone().requires_grad_()

        users = midpoint.centroids(
            contexts, history, batch.offsets, midpoint.lag_weights(logits)[batch.lags]
        )
        users = config.scale * lorentz.flip_time(users)
        size = len(batch.labels)
        positive = (users[batch.context] * candidates[targets[:size]]).sum(-1)
        negative = (users @ candidates[targets[size:]].T)[batch.context]
        loss = losses.wmrb(positive, negative, list_size=config.list_size)
        gradients = torch.autograd.grad(loss, (contexts, candidates, logits))

        with torch.no_grad():
            self._update(history_rows, gradients[0], target_rows, gradients[1], rate)
            optim.adagrad_(
                self._lag_logits,
                self._lag_sums,
                gradients[2],
                learning_rate=rate * config.lag_learning_rate,
            )
        return loss.detach()

    def _compact(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows in `index`, ascending, and `index` in terms of them."""
        rows = torch.bincount(index, minlength=len(self._slot)).nonzero().squeeze(-1)
        self._slot[rows] = torch.arange(len(rows), device=rows.device)
        return rows, self._slot[index]

    def _update(
        self,
        history_rows: Tensor,
        history: Tensor,
        target_rows: Tensor,
        target: Tensor,
        rate: float,
    ) -> None:
        parts = [(0, target_rows, target), (len(self._tables) - 1, history_rows, history)]
        if len(self._tables) == 1:
            # An item may be a candidate and part of a history in one batch: one step for both.
            rows, place = self._compact(torch.cat((target_rows, history_rows)))
            both = torch.zeros(len(rows), target.shape[1], device=target.device)
            both.index_add_(0, place, torch.cat((target, history)))
            parts = [(0, rows, both)]
        for table, rows, gradient in parts:
            optim.adaptive_rsgd_(
                self._tables[table],
                self._sums[table],
                rows,
                gradient,
                learning_rate=rate * self.config.learning_rate,
                maximum_step=self.config.maximum_step,
            )

    def item_vectors(self) -> Tensor:
        return lorentz.flip_time(self._tables[0])

    def context_vectors(self) -> Tensor | None:
        return lorentz.flip_time(self._tables[1]) if len(self._tables) == 2 else None

    def user_vectors(self, batch: Batch) -> Tensor:
        weights = midpoint.lag_weights(self._lag_logits)[batch.lags]
        return midpoint.centroids(self._tables[-1], batch.index, batch.offsets, weights)

    def state(self) -> dict[str, Tensor]:
        tensors = {"lag_logits": self._lag_logits, "lag_sums": self._lag_sums}
        for number, (table, sums) in enumerate(zip(self._tables, self._sums, strict=True)):
            tensors |= {f"table{number}": table, f"sums{number}": sums}
        return tensors

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def description(self) -> dict[str, Any]:
        weights = midpoint.lag_weights(self._lag_logits)
        return {
            "name": self.config.name,
            "format": 1,
            "package": metadata.version("hyperrec"),
            "geometry": "hyperboloid",
            "d": self.config.dimensions,
            "score": "inner_product",
            "scale": self.config.scale,
            "tables": self.config.tables,
            "aggregator": {"kind": "learned_lags", "lag_weights": weights.tolist()},
        }
