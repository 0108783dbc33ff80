"""Users and items as rows of two tables, learned from triples: a user, an item of theirs, another.

The engine of the models whose users are a table: the settings of each name its `Metric`, which says
where points live, what a triple costs and how a point moves. Every interaction is a positive of its
user, the first one too, since nothing is predicted from a history.

Such a model knows the users of its training alone, and a reader is given a history. So it can be
scored in two ways, by what `users` says:

`table`     the user's own row, as in the papers; judged, and refused by the gate `servable`.
`midpoint`  the midpoint of the newest items of the history, in the geometry of the model (the
            Einstein midpoint on the ball, the mean in flat space): the inductive variant. A user's
            row lies among the user's items, which the loss has pulled around it, and so does their
            midpoint. It is what is judged, and what a reader computes of the published vectors.

Training is the same for both. Points go out in the coordinates of `spaces`, one more than d.

`Metric.loss` defines what a step does. On the processor a compiled twin of it does the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from hyperrec_core.examples import Examples
from hyperrec_core.histories import Batch, Histories
from hyperrec_core.kernels.rows import numbered
from hyperrec_core.kernels.triples import Triples
from hyperrec_core.models import ranges
from hyperrec_core.scores import Score, ScoreName
from hyperrec_core.spaces import Geometry, space_of
from hyperrec_core.threads import one_thread

_TARGET, _USERS = "target", "users"


@dataclass(frozen=True, kw_only=True)
class TripletsConfig:
    """Settings that the models of triples share.

    Attributes:
        users: `midpoint` or `table`; see the module.
        lags: the newest items of a history whose midpoint is the user.
        recency: ratio of the weights of neighbouring lags in that midpoint.
        dimensions: d; published vectors have d + 1 numbers.
        negatives_per_label: other items that each positive is compared with, out of a step's
            `train.negatives`; the papers have one.
        learning_rate: per unit of a row's gradient, which is summed over the step's triples.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    users: Literal["midpoint", "table"] = "midpoint"
    lags: int = 100
    recency: float = 1.0
    dimensions: int = 64
    negatives_per_label: int = 1
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        ranges.at_least(1, self, "lags", "negatives_per_label")
        ranges.at_least(2, self, "dimensions")
        ranges.above_zero(self, "learning_rate")
        ranges.share(self, "recency")

    def metric(self) -> Metric:
        """What tells the model of these settings from the others."""
        raise NotImplementedError


class Metric(Protocol):
    """What tells one model of triples from another. Points are rows of d numbers, of either table.

    `u`, `j` and `k` are points of users [B, 1, d], of an item of each [B, 1, d] and of M items that
    they have not interacted with [B, M, d].
    """

    geometry: ClassVar[Geometry]
    score: ClassVar[ScoreName]

    def initial(self, rows: int, dimensions: int, generator: torch.Generator) -> Tensor:
        """Untrained points, float32 [rows, d]."""
        ...

    def loss(self, u: Tensor, j: Tensor, k: Tensor) -> Tensor:
        """What each triple costs, [B, M]."""
        ...

    def derive(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        triples: Triples,
        by_users: NDArray[np.float32],
        by_items: NDArray[np.float32],
    ) -> float:
        """`loss` of triples, meant over M and summed; its derivatives are added to the last two.

        All four arrays are [r, d], and the triples name their rows.
        """
        ...

    def move(self, points: Tensor, gradient: Tensor, rate: float) -> Tensor:
        """Points [r, d] after a step against their gradient [r, d]."""
        ...

    def lift(self, points: Tensor) -> Tensor:
        """The same points in the coordinates of the geometry's space, [n, d] -> [n, d + 1]."""
        ...

    def settings(self) -> dict[str, Any]:
        """What `model.json` says of it beside the geometry and the score."""
        ...


class _Step(NamedTuple):
    """A step's triples by rows of the tables, and by the numbers of the rows that they touch."""

    rows: Triples
    users: Tensor
    items: Tensor
    numbers: Triples


class Triplets:
    """A model of triples, on one device."""

    reads_histories = False
    shares_steps = False

    def __init__(self, config: TripletsConfig, state: dict[str, Tensor]) -> None:
        """A model from `build`, or from the `state` of another of this configuration."""
        self.lags = config.lags
        self.knows_users = config.users == "table"
        self._config, self._metric, self._state = config, config.metric(), state
        self._space = space_of(self._metric.geometry)
        self._places = {name: np.full(len(table), -1, np.int32) for name, table in state.items()}
        self._weights = torch.tensor([config.recency**lag for lag in range(config.lags)])

    def learn_from(self, train: Histories) -> Histories:
        return train.every_position()

    def prepare(self, batch: Examples) -> _Step:
        labels = len(batch.labels)
        segments = batch.label_segments
        negatives, seen = batch.deal(segments, self._config.negatives_per_label)
        triples = Triples(batch.rows[segments], batch.labels, negatives, seen)
        users, by_user = self._number(_USERS, triples.users, triples.users[:0])
        items, by_item = self._number(_TARGET, triples.positives, triples.negatives.ravel())
        numbers = Triples(
            by_user, by_item[:labels], by_item[labels:].reshape(negatives.shape), seen
        )
        return _Step(triples, users, items, numbers)

    def _number(
        self, name: str, first: NDArray[np.int32], second: NDArray[np.int32]
    ) -> tuple[Tensor, NDArray[np.int32]]:
        """The distinct rows of two indices, on the device, and both in terms of them."""
        found, numbers = numbered(first, second, self._places[name])
        return torch.from_numpy(found).long().to(self._state[name].device), numbers

    def step(self, batch: _Step, *, rate: float, meanwhile: Callable[[], None]) -> Tensor | float:
        # A step's tensors are small: a second thread would cost more than it does.
        with one_thread():
            tables = self._state[_USERS], self._state[_TARGET]
            touched = batch.users, batch.items
            points = [table[rows] for table, rows in zip(tables, touched, strict=True)]
            fused = tables[0].device.type == "cpu" and tables[0].dtype == torch.float32
            loss, gradients = (self._fused if fused else self._derived)(points, batch.numbers)
            rate *= self._config.learning_rate
            for table, rows, x, gradient in zip(tables, touched, points, gradients, strict=True):
                table[rows] = self._metric.move(x, gradient, rate)
        meanwhile()
        return loss / max(float((~batch.rows.seen).mean(1).sum()), 1.0)

    def _derived(
        self, points: Sequence[Tensor], triples: Triples
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The summed loss, and its gradients by points of users and of items."""
        users, items = leaves = [x.detach().requires_grad_() for x in points]
        by_user, by_item, others, seen = (torch.from_numpy(x).to(users.device) for x in triples)
        u, j, k = users[by_user].unsqueeze(1), items[by_item].unsqueeze(1), items[others]
        with torch.enable_grad():
            loss = (self._metric.loss(u, j, k) * ~seen).mean(1).sum()
        return loss.detach(), torch.autograd.grad(loss, leaves)

    def _fused(self, points: Sequence[Tensor], triples: Triples) -> tuple[float, Sequence[Tensor]]:
        """`_derived` by a kernel."""
        users, items = points
        by_users, by_items = gradients = [torch.zeros_like(x) for x in points]
        loss = self._metric.derive(
            users.numpy(), items.numpy(), triples, by_users.numpy(), by_items.numpy()
        )
        return loss, gradients

    def item_vectors(self) -> Tensor:
        score = Score(self._space, self._metric.score)
        return score.published(self._metric.lift(self._state[_TARGET]))

    def context_vectors(self) -> Tensor | None:
        return None

    def user_vectors(self, batch: Batch) -> Tensor:
        if self.knows_users:
            # A user whom training has not seen has no point; the origin ranks by radius.
            known = (batch.users >= 0).unsqueeze(1)
            points = self._state[_USERS][batch.users.clamp_min(0)]
            return self._metric.lift(torch.where(known, points, 0.0))
        rows, place = torch.unique(batch.index, return_inverse=True)
        points = self._metric.lift(self._state[_TARGET][rows])
        weights = self._weights.to(points.device)[batch.lags]
        sums = embedding_bag(place, points, batch.offsets, mode="sum", per_sample_weights=weights)
        return self._space.centroid(sums)[0]

    def state(self) -> dict[str, Tensor]:
        return self._state

    def description(self) -> dict[str, Any]:
        aggregator = {"kind": "exponential", "lag_weights": self._weights.tolist()}
        return {
            "name": self._config.name,
            "format": 2,
            "package": metadata.version("hyperrec"),
            "geometry": self._metric.geometry,
            "d": self._config.dimensions,
            "users": self._config.users,
            "score": self._metric.score,
            "scale": 1.0,
            "tables": 1,
            "aggregator": {"kind": "none"} if self.knows_users else aggregator,
        } | self._metric.settings()


def build(
    config: TripletsConfig, *, counts: Tensor, users: int, seed: int, device: torch.device
) -> Triplets:
    """An untrained model; see `models.build`."""
    generator, metric = torch.Generator().manual_seed(seed), config.metric()
    sizes = {_TARGET: len(counts), _USERS: users}
    state = {
        name: metric.initial(rows, config.dimensions, generator).to(device)
        for name, rows in sizes.items()
    }
    return restore(config, state)


def restore(config: TripletsConfig, state: dict[str, Tensor]) -> Triplets:
    """The model of a state; see `models.restore`."""
    return Triplets(config, state)
