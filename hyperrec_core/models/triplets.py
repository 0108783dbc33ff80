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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from hyperrec_core.examples import Examples
from hyperrec_core.histories import Batch, Histories
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
        ranges.at_least_one(self, "lags", "dimensions", "negatives_per_label")
        ranges.above_zero(self, "recency", "learning_rate")

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

    def move(self, points: Tensor, gradient: Tensor, rate: float) -> Tensor:
        """Points [r, d] after a step against their gradient [r, d]."""
        ...

    def lift(self, points: Tensor) -> Tensor:
        """The same points in the coordinates of the geometry's space, [n, d] -> [n, d + 1]."""
        ...

    def settings(self) -> dict[str, Any]:
        """What `model.json` says of it beside the geometry and the score."""
        ...


class _Triples(NamedTuple):
    """A step's triples.

    Shapes: `users` and `positives` int64 [B], `negatives` int64 [B, M]; `counts` float32 [B, M], 0
    where the user has interacted with the negative after all, else 1.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    counts: Tensor


class Triplets:
    """A model of triples, on one device."""

    def __init__(self, config: TripletsConfig, state: dict[str, Tensor]) -> None:
        """A model from `build`, or from the `state` of another of this configuration."""
        self.lags = config.lags
        self.knows_users = config.users == "table"
        self._config, self._metric, self._state = config, config.metric(), state
        self._space = space_of(self._metric.geometry)
        self._weights = torch.tensor([config.recency**lag for lag in range(config.lags)])

    def learn_from(self, train: Histories) -> Histories:
        return train.every_position()

    def prepare(self, batch: Examples) -> _Triples:
        device = self._state[_TARGET].device
        per_segment = torch.from_numpy(batch.heads).diff()
        per_history = torch.from_numpy(batch.first_labels).diff()
        segment = torch.arange(len(batch.rows)).repeat_interleave(per_segment)
        segment = segment.repeat_interleave(per_history)
        labels, drawn = len(batch.labels), len(batch.negatives)
        # Negatives are dealt out in turn: neighbouring labels, often of one user, get other ones.
        dealt = torch.arange(labels * self._config.negatives_per_label).view(labels, -1) % drawn
        seen = torch.from_numpy(batch.seen)[segment.unsqueeze(1), dealt]
        return _Triples(
            torch.from_numpy(batch.rows).long()[segment].to(device),
            torch.from_numpy(batch.labels).long().to(device),
            torch.from_numpy(batch.negatives).long()[dealt].to(device),
            (~seen).float().to(device),
        )

    def step(self, batch: _Triples, *, rate: float, meanwhile: Callable[[], None]) -> Tensor:
        # A step's tensors are small: a second thread would cost more than it does.
        with one_thread():
            loss = self._step(batch, rate * self._config.learning_rate)
        meanwhile()
        return loss

    def _step(self, batch: _Triples, rate: float) -> Tensor:
        users, items = self._state[_USERS], self._state[_TARGET]
        u = users[batch.users].unsqueeze(1).requires_grad_()
        j = items[batch.positives].unsqueeze(1).requires_grad_()
        k = items[batch.negatives].requires_grad_()
        with torch.enable_grad():
            loss = (self._metric.loss(u, j, k) * batch.counts).mean(1).sum()
            by_u, by_j, by_k = torch.autograd.grad(loss, (u, j, k))
        self._descend(users, batch.users, by_u.squeeze(1), rate)
        touched = torch.cat((batch.positives, batch.negatives.flatten()))
        self._descend(items, touched, torch.cat((by_j.squeeze(1), by_k.flatten(0, 1))), rate)
        return loss.detach() / batch.counts.mean(1).sum().clamp_min(1.0)

    def _descend(self, table: Tensor, touched: Tensor, gradient: Tensor, rate: float) -> None:
        """One step for every touched row, however often the batch touches it."""
        rows, place = torch.unique(touched, return_inverse=True)
        total = gradient.new_zeros(len(rows), table.shape[1]).index_add_(0, place, gradient)
        table[rows] = self._metric.move(table[rows], total, rate)

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
        points = self._metric.lift(self._state[_TARGET])
        weights = self._weights.to(points.device)[batch.lags]
        sums = embedding_bag(
            batch.index, points, batch.offsets, mode="sum", per_sample_weights=weights
        )
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
