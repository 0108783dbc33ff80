"""The step of `models.points` on the processor, by compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core import processes
from hyperrec_core.examples import Examples
from hyperrec_core.histories import EVENT_TYPES
from hyperrec_core.kernels import batch as layout
from hyperrec_core.kernels import judge, loss, rows
from hyperrec_core.kernels.meeting import Meeting
from hyperrec_core.kernels.step import (
    BOTH,
    FIRST,
    LAST_WAS_FIRST,
    MET,
    SECOND,
    SHARES,
    UNMET,
    Moves,
    Table,
    Work,
    derive,
    halves,
    step,
)
from hyperrec_core.models.points_config import PointsConfig
from hyperrec_core.threads import Crew, wait_halfway

_SCORES = {
    "inner_product": loss.INNER_PRODUCT,
    "distance": loss.DISTANCE,
    "squared_distance": loss.SQUARED_DISTANCE,
}
_NONE = np.empty(0, np.float32)
_NO_ROWS = np.empty(0, np.int32)


def can_fuse(config: PointsConfig, points: Tensor) -> bool:
    """Whether there are kernels for a model of these settings and tables like this one."""
    return (
        points.device.type == "cpu"
        and points.dtype == torch.float32
        and config.users == "midpoint"
        and config.loss == "wmrb"
        and config.optimiser != "adam"
    )


class Prepared(NamedTuple):
    """A batch, and all that its step needs but the values of the model's tensors.

    Attributes:
        examples: the batch's arrays.
        touched: the distinct rows of each table in it.
        sizes: of the memory of a part.
        crew: who does the step.
        parts: that this process divides its histories into.
        place: this process's rank, and how many there are.
        floats, found: memory of each part.
        gradients: by the distinct rows of each table, [parts, r, D].
        sums: results of each part.
    """

    examples: layout.Batch
    touched: dict[str, NDArray[np.int32]]
    sizes: layout.Sizes
    crew: Crew
    parts: int
    place: tuple[int, int]
    floats: NDArray[np.float32]
    found: NDArray[np.int32]
    gradients: dict[str, NDArray[np.float32]]
    sums: layout.Sums


class FusedStep:
    """A model's tensors as arrays, the memory that steps need, and the threads that do them."""

    def __init__(self, config: PointsConfig, state: dict[str, Tensor]) -> None:
        """Bind to the tensors of a state, which steps change in place."""
        self._config = config
        self._state = {name: tensor.numpy() for name, tensor in state.items()}
        self._banded = config.aggregator == "learned"
        self._tables = ("target", "context") if config.tables == 2 else ("target",)
        self._places = {name: np.full(len(state[name]), -1, np.int32) for name in self._tables}
        self._room: dict[str, NDArray[Any]] = {}
        self._crew = Crew(1)
        self._left, self._outcome = 0, UNMET

    def prepare(self, batch: Examples) -> Prepared:
        """Number the rows that a batch touches; see `models.protocol.Model.prepare`."""
        touched = {}
        if len(self._tables) == 2:
            touched["target"], numbers = rows.numbered(
                batch.candidates, _NO_ROWS, self._places["target"]
            )
            touched["context"], item_rows = rows.numbered(
                batch.items, _NO_ROWS, self._places["context"]
            )
        else:
            touched["target"], numbers = rows.numbered(
                batch.candidates, batch.items, self._places["target"]
            )
            item_rows = numbers[len(batch.candidates) :]
        negatives = batch.seen.shape[1]
        count = len(batch.candidates) - negatives
        examples = layout.Batch(
            batch.items, item_rows, batch.events, batch.segments, batch.heads, batch.ends,
            batch.lengths, batch.first_labels, batch.candidates[:count], numbers[:count],
            batch.candidates[count:], numbers[count : count + negatives], batch.seen,
        )  # fmt: skip
        width = self._config.dimensions + 1
        sizes = layout.measure(batch.segments, batch.heads, negatives, width, self._banded)
        rank, size = processes.place()
        threads = torch.get_num_threads()
        if len(self._crew) != threads:
            self._crew = Crew(threads)
        # A part with less than a block to do would cost more than it saves.
        parts = max(1, min(threads, len(batch.ends) // (size * layout.BLOCK)))
        gradients = {
            name: self._take(f"{name}.gradient", (parts, len(touched[name]), width))
            for name in self._tables
        }
        sums = layout.Sums(
            totals=self._take("totals", (parts, 2), np.float64),
            by_lag=self._take("by_lag", (parts, len(self._state["lag_logits"]))),
            by_event=self._take("by_event", (parts, len(EVENT_TYPES))),
            by_target=gradients["target"],
            by_context=gradients[self._tables[-1]],
        )
        return Prepared(
            examples, touched, sizes, self._crew, parts, (rank, size),
            self._take("floats", (parts, sizes.floats)),
            self._take("found", (parts, negatives + 1), np.int32),
            gradients, sums,
        )  # fmt: skip

    def step(self, batch: Prepared, *, rate: float, meanwhile: Callable[[], None]) -> float:
        """One optimisation step; see `models.protocol.Model.step`."""
        config, state = self._config, self._state
        examples, touched, sizes, crew, parts, (rank, size), floats, found, gradients, sums = batch
        scoring, weights = self._scoring(), self._weights()
        steps = rows.Steps(
            scoring.flat,
            config.optimiser == "adagrad",
            np.float32(rate * config.learning_rate),
            np.float32(config.maximum_step),
            np.float32(rate * config.pull),
        )

        shares = self._shares(parts)

        def work(part: int) -> Work:
            return Work(
                rank * parts + part,
                size * parts,
                scoring,
                weights,
                examples,
                state["target"],
                state[self._tables[-1]],
                sizes,
                floats[part],
                found[part],
                layout.Sums(*(array[part] for array in sums)),
            )

        def moves(part: int) -> Moves:
            tables = (
                Table(state[name], state.get(f"{name}.sums", _NONE), touched[name], gradients[name])
                for name in self._tables
            )
            return Moves(*shares[part], steps, tuple(tables))

        def between() -> None:
            self._learn_weights(sums, weights, rate * config.lag_learning_rate)
            meanwhile()

        def both(part: int, turn: Meeting) -> None:
            todo = work(part), moves(part)
            last = part == parts - 1
            outcome = halves(turn, part, *todo, FIRST if last else BOTH)
            if outcome == UNMET:
                wait_halfway(turn, part)
            if last:
                between()
            else:
                self._outcome = outcome
            if outcome in {UNMET, MET}:
                halves(turn, part, *todo, SECOND)

        def first(part: int, _: Meeting) -> None:
            derive(work(part))

        def second(part: int, _: Meeting) -> None:
            if part == parts - 1:
                between()
            step(moves(part))

        if size == 1:
            crew.run(both, parts=parts)
        else:
            crew.run(first, parts=parts)
            sums = layout.Sums(*(array.sum(0, keepdims=True) for array in sums))
            gradients = dict(zip(self._tables, (sums.by_target, sums.by_context), strict=False))
            shared = (sums.totals, sums.by_lag, sums.by_event, *gradients.values())
            processes.add_up(*map(torch.from_numpy, shared))
            crew.run(second, parts=parts)
        return float(sums.totals[:, judge.LOSS].sum()) / len(examples.labels)

    def _shares(self, parts: int) -> list[tuple[int, int]]:
        """The shares of the rows that each thread steps, from the first up to the last.

        The last thread packs the next batch first; what is left for it goes by who was late in the
        steps before. A row's step is the same whoever takes it.
        """
        if parts == 1:
            return [(0, SHARES)]
        if self._outcome != UNMET:
            more = 1 if self._outcome == LAST_WAS_FIRST else -1
            self._left = min(max(self._left + more, 0), SHARES // 2)
        rest = SHARES - self._left
        cuts = [rest * part // (parts - 1) for part in range(parts)]
        return [*pairwise(cuts), (rest, SHARES)]

    def _scoring(self) -> loss.Scoring:
        config = self._config
        scale = np.exp(self._state["log_scale"][0]) if config.learn_scale else config.scale
        return loss.Scoring(
            config.geometry != "hyperboloid",
            _SCORES[config.score],
            np.float32(scale),
            np.float32(config.list_size),
        )

    def _weights(self) -> layout.Weights:
        config, logits = self._config, self._state["lag_logits"]
        return layout.Weights(
            banded=self._banded,
            by_lag=np.exp(logits - logits.max())[::-1].copy() if len(logits) else _NONE,
            recency=np.float32(config.recency if config.aggregator == "exponential" else 1.0),
            by_event=np.exp(self._state["event_logits"]) if config.event_weights else _NONE,
        )

    def _learn_weights(self, sums: layout.Sums, weights: layout.Weights, rate: float) -> None:
        config = self._config
        if weights.banded:
            by_logit = (sums.by_lag.sum(0) * weights.by_lag)[::-1]
            self._adagrad("lag_logits", "lag_sums", by_logit, rate)
        if config.event_weights:
            self._adagrad("event_logits", "event_sums", sums.by_event.sum(0), rate)
        if config.learn_scale:
            by_scale = sums.totals[:, judge.BY_LOG_SCALE].sum(keepdims=True)
            self._adagrad("log_scale", "scale_sums", by_scale.astype(np.float32), rate)

    def _adagrad(self, name: str, sums: str, gradient: NDArray[Any], rate: float) -> None:
        """`optim.adagrad_` on arrays, which cost a tenth of tensors this small."""
        self._state[sums] += gradient * gradient
        self._state[name] -= np.float32(rate) * gradient / np.sqrt(self._state[sums])

    def _take(
        self, name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32
    ) -> NDArray[Any]:
        """An array with any contents, from memory that is kept between steps."""
        size = math.prod(shape)
        room = self._room.get(name)
        if room is None or len(room) < size:
            room = self._room[name] = np.empty(size + size // 4, dtype)
        return room[:size].reshape(shape)
