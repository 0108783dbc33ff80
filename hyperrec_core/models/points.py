"""Items and users as points of one space; the nearer, the better the match.

With the default settings this is the asymmetric hyperboloid model of Chamberlain et al. 2019:
items are points of the hyperboloid, a user is the Einstein midpoint of the items of the history
(eq. 24), the score is the Lorentz inner product, which ranks as the distance does and has no
singular gradient, the loss is WMRB (eq. 15-16), the optimiser Riemannian SGD (eq. 20-22). The same
code with another geometry is its Euclidean twin.

Beyond the paper: a learned weight a lag and an event type (the paper's midpoint is uniform), the
scale of the score (curvature in disguise), adaptive steps by row, and a second table of points for
items that stand in a history.

All gradients are closed forms; the suite holds them against autograd on the plain formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from hyperrec_core import aggregate, initialise, losses, midpoint, optim, processes
from hyperrec_core.examples import Examples
from hyperrec_core.histories import EVENT_TYPES, Batch, Histories
from hyperrec_core.losses import LossGradient
from hyperrec_core.models.fused import FusedStep, Prepared, can_fuse
from hyperrec_core.models.points_config import PointsConfig
from hyperrec_core.scores import Score
from hyperrec_core.spaces import space_of
from hyperrec_core.tiles import Tiles, tiles

_TARGET, _CONTEXT, _USERS = "target", "context", "users"


class Points:
    """Parameters of the model and its optimiser's state, on one device."""

    reads_histories = True
    shares_steps = True

    def __init__(self, config: PointsConfig, state: dict[str, Tensor]) -> None:
        """A model from `initial_state`, or from the `state` of another of this configuration."""
        self.config = config
        self.lags = aggregate.WHOLE_HISTORY if config.aggregator == "uniform" else config.lags
        self.knows_users = config.users == "table"
        self._space = space_of(config.geometry)
        self._score = Score(self._space, config.score)
        self._state = state
        self._history_table = _CONTEXT if config.tables == 2 else _TARGET
        # Scratch: where a row stands among the rows of the current batch, for each table.
        self._place = {
            name: torch.zeros(len(state[name]), dtype=torch.int64, device=state[name].device)
            for name in self._tables()
        }
        self._fused = FusedStep(config, state) if can_fuse(config, state[_TARGET]) else None

    def _tables(self) -> list[str]:
        return [name for name in (_TARGET, _CONTEXT, _USERS) if name in self._state]

    def learn_from(self, train: Histories) -> Histories:
        if self.config.event_weights and train.events is None:
            raise ValueError(
                "The histories have no event types to weigh: set train.model.event_weights to "
                "false, or preprocess the input again."
            )
        return train

    def prepare(self, batch: Examples) -> Prepared | LaidOut:
        return self.lay_out(batch) if self._fused is None else self._fused.prepare(batch)

    def step(self, batch: Any, *, rate: float, meanwhile: Callable[[], None]) -> Tensor | float:
        if self._fused is not None:
            return self._fused.step(batch, rate=rate, meanwhile=meanwhile)
        with torch.no_grad():
            loss = self.step_by_tensors(batch, rate=rate)
        meanwhile()
        return loss

    def lay_out(self, batch: Examples) -> LaidOut:
        """`prepare` for `step_by_tensors`."""
        device = self._state[_TARGET].device
        rank, size = processes.place()
        if size == 1:
            return LaidOut(tiles(batch, device), 1.0, {})
        own, share = batch.share(rank, size)
        touched = {_TARGET: [batch.candidates], _USERS: [batch.rows]}
        touched.setdefault(self._history_table, []).append(batch.items)
        return LaidOut(
            tiles(own, device),
            share,
            {k: torch.from_numpy(np.concatenate(v)).long().to(device) for k, v in touched.items()},
        )

    def step_by_tensors(self, prepared: LaidOut, *, rate: float) -> Tensor:
        """`step` in PyTorch's operations: on every device, for every combination of settings."""
        batch = prepared.tiles
        table, scale = self._state[_TARGET], self._scale()
        history = self._history(batch) if self.config.users == "midpoint" else None
        users = self._state[_USERS][batch.rows] if history is None else history.users
        labels, negatives = table[batch.labels], table[batch.negatives]
        shared = len(users) != len(batch.labels)
        own = users[batch.context] if shared else users

        positive, positive_slope = self._score.each(own, labels, scale)
        negative, negative_slope = self._score.pairs(users, negatives, scale)
        raw = negative.clone() if self.config.learn_scale else None
        if shared:
            found = self._loss(positive, negative[batch.context], batch.seen[batch.context])
            by_negative = torch.zeros_like(negative).index_add_(0, batch.context, found.negative)
        else:
            found = self._loss(positive, negative, batch.seen)
            by_negative = found.negative
        if prepared.everywhere:
            found = LossGradient(*(part * prepared.share for part in found))
            by_negative = by_negative * prepared.share
            processes.add_up(found.loss)
        if raw is not None:
            by_log_scale = (raw * by_negative).sum() + (positive * found.positive).sum()
            self._adagrad("log_scale", "scale_sums", by_log_scale.view(1), rate)

        by_users, by_negatives = self._score.pull_pairs(
            users, negatives, by_negative.mul_(negative_slope)
        )
        by_own, by_labels = self._score.pull_each(own, labels, found.positive * positive_slope)
        by_users = by_users.index_add_(0, batch.context, by_own) if shared else by_users + by_own
        parts = [(_TARGET, batch.labels, by_labels), (_TARGET, batch.negatives, by_negatives)]
        if history is None:
            parts.append((_USERS, batch.rows, by_users))
        else:
            parts.append(self._pull_history(batch, history, by_users, rate))
        self._update(parts, rate, prepared.everywhere)
        return found.loss

    def _history(self, batch: Tiles) -> _History:
        points = self._state[self._history_table][batch.items.flatten()]
        points = points.view(*batch.items.shape, -1)
        weights = midpoint.lag_weights(self._state["lag_logits"])
        entry = self._event_weights(batch.events)
        band = aggregate.Band(batch, weights, entry)
        users, divisor = self._space.centroid(band.sums(points))
        return _History(users, divisor, points, band, weights)

    def _pull_history(
        self, batch: Tiles, history: _History, by_users: Tensor, rate: float
    ) -> tuple[str, Tensor, Tensor]:
        """Move the weights, and hand back the derivatives by the points of the histories."""
        by_sums = self._space.centroid_gradient(history.users, history.divisor, by_users)
        learned = self.config.aggregator == "learned"
        found = history.band.gradients(history.points, by_sums, by_lag=learned)
        if found.lags is not None:
            self._adagrad("lag_logits", "lag_sums", found.lags * history.weights, rate)
        if found.entry is not None and history.band.entry is not None and batch.events is not None:
            by_event = torch.bincount(
                batch.events.flatten(),
                (found.entry * history.band.entry).flatten(),
                minlength=len(EVENT_TYPES),
            )
            self._adagrad("event_logits", "event_sums", by_event.to(found.entry.dtype), rate)
        items, by_items = batch.items.flatten(), found.points.flatten(0, 1)
        return self._history_table, items[batch.filled], by_items[batch.filled]

    def _event_weights(self, events: Tensor | None) -> Tensor | None:
        if events is None or not self.config.event_weights:
            return None
        return self._state["event_logits"].exp()[events]

    def _scale(self) -> float:
        return (
            float(self._state["log_scale"].exp()) if self.config.learn_scale else self.config.scale
        )

    def _adagrad(self, name: str, sums: str, gradient: Tensor, rate: float) -> None:
        if processes.place()[1] > 1:
            processes.add_up(gradient)
        optim.adagrad_(
            self._state[name],
            self._state[sums],
            gradient,
            learning_rate=rate * self.config.lag_learning_rate,
        )

    def _loss(self, positive: Tensor, negative: Tensor, excluded: Tensor) -> LossGradient:
        if self.config.loss == "bpr":
            return losses.bpr(positive, negative, excluded=excluded)
        loss = losses.wmrb if self.config.loss == "wmrb" else losses.softmax
        return loss(positive, negative, list_size=self.config.list_size, excluded=excluded)

    def _update(
        self,
        parts: list[tuple[str, Tensor, Tensor]],
        rate: float,
        everywhere: Mapping[str, Tensor],
    ) -> None:
        """One step for every touched row, however often and wherever the batch touches it."""
        config = self.config
        for name in self._tables():
            mine = [(index, gradient) for table, index, gradient in parts if table == name]
            if not mine:
                continue
            table, index = self._state[name], torch.cat([index for index, _ in mine])
            rows, place = self._distinct(name, everywhere.get(name, index), index)
            gradient = table.new_zeros(len(rows), table.shape[1])
            gradient.index_add_(0, place, torch.cat([gradient for _, gradient in mine]))
            if everywhere:
                processes.add_up(gradient)
            prefix = f"{name}."
            optim.step_(
                config.optimiser,
                self._space,
                table,
                {k.removeprefix(prefix): v for k, v in self._state.items() if k.startswith(prefix)},
                rows,
                gradient,
                learning_rate=rate * config.learning_rate,
                maximum_step=config.maximum_step,
                pull=rate * config.pull,
            )

    def _distinct(self, name: str, touched: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows in `touched`, and `index` in terms of them, without a sort."""
        place, order = self._place[name], torch.arange(len(touched), device=touched.device)
        place[touched] = order  # of equal rows, one wins
        first = place[touched] == order
        number = torch.cumsum(first, 0) - 1
        return touched[first], number[place[index]]

    def item_vectors(self) -> Tensor:
        return self._score.published(self._state[_TARGET])

    def context_vectors(self) -> Tensor | None:
        context = self._state.get(_CONTEXT)
        return None if context is None else self._score.published(context)

    def user_vectors(self, batch: Batch) -> Tensor:
        if self.config.users == "table":
            # A user whom training has not seen has no point; the origin ranks by radius.
            origin = self._space.lift(torch.zeros(1, self.config.dimensions))
            known = (batch.users >= 0).unsqueeze(1)
            points = self._state[_USERS][batch.users.clamp_min(0)]
            return torch.where(known, points, origin.to(points.device))
        points = self._state[self._history_table]
        weights = midpoint.lag_weights(self._state["lag_logits"])
        weight = weights[batch.lags] if len(weights) else torch.ones_like(batch.lags).to(points)
        if (entry := self._event_weights(batch.events)) is not None:
            weight = weight * entry
        sums = embedding_bag(
            batch.index, points, batch.offsets, mode="sum", per_sample_weights=weight
        )
        return self._space.centroid(sums)[0]

    def state(self) -> dict[str, Tensor]:
        return self._state

    def description(self) -> dict[str, Any]:
        config = self.config
        weights = midpoint.lag_weights(self._state["lag_logits"])
        aggregator: dict[str, Any] = {"kind": config.aggregator, "lag_weights": weights.tolist()}
        if config.users == "table":
            aggregator = {"kind": "none"}
        elif config.event_weights:
            by_event = self._state["event_logits"].exp().tolist()
            aggregator["event_weights"] = dict(zip(EVENT_TYPES, by_event, strict=True))
        return {
            "name": config.name,
            "format": 2,
            "package": metadata.version("hyperrec"),
            "geometry": config.geometry,
            "d": config.dimensions,
            "users": config.users,
            "score": config.score,
            "scale": self._scale(),
            "tables": config.tables,
            "aggregator": aggregator,
        }


def build(
    config: PointsConfig, *, counts: Tensor, users: int, seed: int, device: torch.device
) -> Points:
    """An untrained model; see `models.build`."""
    state = initial_state(config, counts=counts, users=users, seed=seed, device=device)
    return restore(config, state)


def restore(config: PointsConfig, state: dict[str, Tensor]) -> Points:
    """The model of a state; see `models.restore`."""
    return Points(config, state)


class LaidOut(NamedTuple):
    """This process's share of a batch, and the rows that all processes touch, where there are more.

    Attributes:
        tiles: the share.
        share: of the batch's labels that are in it.
        everywhere: rows of each table that the batch touches, int64; empty for a single process.
    """

    tiles: Tiles
    share: float
    everywhere: Mapping[str, Tensor]


class _History(NamedTuple):
    """What the backward pass needs of the forward one."""

    users: Tensor
    divisor: Tensor
    points: Tensor
    band: aggregate.Band
    weights: Tensor


def initial_state(
    config: PointsConfig, *, counts: Tensor, users: int, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """Tensors of an untrained model.

    Args:
        config: settings of the model.
        counts: how often each item occurs in training, [items].
        users: how many users training has.
        seed: of the points.
        device: where the model will be.
    """
    generator = torch.Generator().manual_seed(seed)
    space = space_of(config.geometry)

    def table(rows: int, occurrences: Tensor | None) -> Tensor:
        d, width = config.dimensions, config.initial_width
        if config.initial == "radius" and occurrences is not None:
            spatial = initialise.by_popularity(occurrences, d, width=width, generator=generator)
        elif config.initial == "hypercube":
            spatial = initialise.hypercube(rows, d, width=width, generator=generator)
        else:
            spatial = initialise.ball(rows, d, width=width, generator=generator)
        return space.lift(spatial).to(device)

    tables = {_TARGET: table(len(counts), counts)}
    if config.tables == 2:
        tables[_CONTEXT] = table(len(counts), counts)
    if config.users == "table":
        tables[_USERS] = table(users, None)
    state = dict(tables)
    for name, points in tables.items():
        remembered = optim.new_state(config.optimiser, points)
        state |= {f"{name}.{part}": tensor for part, tensor in remembered.items()}
    logits = aggregate.initial_logits(config.aggregator, config.lags, config.recency, device)
    state |= {"lag_logits": logits, "lag_sums": optim.new_accumulator(len(logits), device=device)}
    if config.event_weights:
        state["event_logits"] = torch.zeros(len(EVENT_TYPES), device=device)
        state["event_sums"] = optim.new_accumulator(len(EVENT_TYPES), device=device)
    if config.learn_scale:
        state["log_scale"] = torch.tensor([config.scale], device=device).log()
        state["scale_sums"] = optim.new_accumulator(1, device=device)
    return state
