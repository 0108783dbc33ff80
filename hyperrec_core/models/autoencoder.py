"""A user from a history by an encoder, and the items' scores by a decoder: flat, or on the ball.

Kuchaiev & Ginsburg 2017 ("Training Deep AutoEncoders for Collaborative Filtering"), with the
multinomial likelihood of Liang et al. 2018 ("Variational Autoencoders for Collaborative
Filtering"), and both on the Poincaré ball after Mirvakhabova et al. 2020 ("Performance of
Hyperbolic Geometry Models on Top-N Recommendation Tasks"), by the layers of Ganea et al. 2018:

    product      W (x) x = exp0(W log0(x))
    bias         x (+) b, + Möbius addition
    activation   f (x) x = exp0(f(log0(x)))

Between two biases these are the same as in flat space, seen in the tangent space at the origin.
So a layer is t -> f(log0(exp0(W t) (+) b)) on tangent vectors t, of which a curvature of 0 leaves
f(W t + b): one code for both. With x the bag of the history's n items, 1 / sqrt(n) for each (so of
length 1 where none is repeated), and A and D the tables of items in a history and as candidates:

    t = A^T x  ->  bias, tanh  ->  (product, bias, tanh for each of `hidden`)  ->  g = t
    scores = D g + e

The last product is a dot product of item vectors (e_i, D_i) and a user vector (1, g), the first a
sum of context vectors, so the model is served like any other; what lies between is in `model.json`,
and `serving_export.encoder` computes it.

Three choices are there to keep it stable. Biases are parameters in the tangent space, so that Adam
has no manifold to leave and no metric to divide by; the bag is divided by sqrt(n) and tanh bounds
every coordinate; and points near the boundary are computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, linear

from hyperrec_core import optim
from hyperrec_core.examples import Examples
from hyperrec_core.geometry import poincare
from hyperrec_core.histories import Batch, Histories
from hyperrec_core.models import ranges

_CONTEXT, _TARGET, _OWN = "context", "target", "own"

_PUBLISHED = 40_000  # numbers in layers: of some 20 bytes each in `model.json`

_SEED_STEPS = 1 << 32  # more steps than any training has: no two seeds share a stream


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Settings of the autoencoder; a step's examples are whole histories.

    Attributes:
        curvature: c, where the curvature is -c; 0 is flat space.
        loss: `multinomial`, the likelihood of the history's items among all; `masked_mse`, of the
            history's items, to be 1, and the step's negatives, to be 0.
        dimensions: d, width of the first and the last layer; published vectors have d + 1 numbers.
        hidden: widths of the layers between them; they go into `model.json`, so they are small.
        lags: the newest items of a history that make the user.
        dropout: share of a history that the encoder is not shown in training.
        learning_rate: of Adam.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: Literal["autoencoder"] = "autoencoder"
    curvature: float = 0.0
    loss: Literal["multinomial", "masked_mse"] = "multinomial"
    dimensions: int = 64
    hidden: tuple[int, ...] = ()
    lags: int = 1000
    dropout: float = 0.5
    learning_rate: float = 0.003

    def __post_init__(self) -> None:
        ranges.not_below_zero(self, "curvature")
        ranges.at_least(1, self, "dimensions", "lags")
        ranges.above_zero(self, "learning_rate")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"model.hidden is {self.hidden}; every width must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is {self.dropout}; it must be from 0 to below 1.")
        widths = (self.dimensions, *self.hidden, self.dimensions)
        if self.hidden and (numbers := sum(a * b for a, b in pairwise(widths))) > _PUBLISHED:
            raise ValueError(
                f"model.hidden {list(self.hidden)} makes layers of {numbers:,} numbers; at most "
                f"{_PUBLISHED:,} can be published: make them narrower."
            )


class _Rows(NamedTuple):
    """A step's histories.

    Shapes: `items` int64 [M], one history after the other; `offsets` int64 [B], where each starts;
    `negatives` int64 [N]; `learned` bool [M], which items are to be scored high (a view is shown to
    the encoder alone, where labels are purchases); `seen` bool [B, N], which of the negatives the
    user has interacted with.
    """

    items: Tensor
    offsets: Tensor
    negatives: Tensor
    learned: Tensor
    seen: Tensor


class Autoencoder:
    """Parameters of the model and Adam's memory of them, on one device."""

    knows_users = False
    reads_histories = True
    shares_steps = False

    def __init__(self, config: AutoencoderConfig, state: dict[str, Tensor]) -> None:
        """A model from `build`, or from the `state` of another of this configuration."""
        self.lags = config.lags
        self.config = config
        self._state = state
        self._layers = len(config.hidden) + 1 + bool(config.hidden)
        self._learned: NDArray[np.int8] | None = None

    def learn_from(self, train: Histories) -> Histories:
        self._learned = train.label_events()
        return train.whole_rows()

    def prepare(self, batch: Examples) -> _Rows:
        device = self._state[_TARGET].device
        found = (batch.items, batch.segments[:-1], batch.negatives)
        items, offsets, negatives = (torch.from_numpy(x).long().to(device) for x in found)
        learned = np.ones(len(items), bool)
        if self._learned is not None:
            learned = np.isin(batch.events, self._learned)
        masks = (torch.from_numpy(x).to(device) for x in (learned, batch.seen))
        return _Rows(items, offsets, negatives, *masks)

    def step(self, batch: _Rows, *, rate: float, meanwhile: Callable[[], None]) -> Tensor:
        leaves = {name: self._state[name].detach().requires_grad_() for name in self.parameters()}
        with torch.enable_grad():
            loss = self.loss(leaves, batch)
            gradients = torch.autograd.grad(loss, list(leaves.values()))
        self._move(dict(zip(leaves, gradients, strict=True)), rate * self.config.learning_rate)
        meanwhile()
        return loss.detach()

    def loss(self, parameters: Mapping[str, Tensor], batch: _Rows) -> Tensor:
        """The mean loss of a step's histories, a scalar."""
        sizes = _sizes(batch.items, batch.offsets)
        row = torch.repeat_interleave(sizes)
        shown = 1.0 / sizes.sqrt()[row]
        if self.config.dropout:
            shown = shown * self._mask(len(row)).to(shown.device) / (1.0 - self.config.dropout)
        users = self._encode(parameters, batch.items, batch.offsets, shown)
        scores = linear(users, parameters[_TARGET], parameters[_OWN])
        row, own = row[batch.learned], scores[row, batch.items][batch.learned]
        if self.config.loss == "multinomial":
            total: Tensor = (row.bincount(minlength=len(sizes)) * scores.logsumexp(1)).sum()
            return (total - own.sum()) / len(sizes)
        others = scores[:, batch.negatives].masked_fill(batch.seen, 0.0)
        squares = (own - 1.0).square().sum() + others.square().sum()
        mean: Tensor = squares / (len(own) + (~batch.seen).sum())
        return mean

    def _encode(
        self, parameters: Mapping[str, Tensor], items: Tensor, offsets: Tensor, weights: Tensor
    ) -> Tensor:
        """Users of histories, [B, d], from the weight of each of their items, [M]."""
        t = embedding_bag(
            items, parameters[_CONTEXT], offsets, mode="sum", per_sample_weights=weights
        )
        c = self.config.curvature
        for layer in range(self._layers):
            if layer:
                t = linear(t, parameters[f"product.{layer}"])
            t = torch.tanh(_with_bias(t, parameters[f"bias.{layer}"], c))
        return t

    def _mask(self, size: int) -> Tensor:
        """What the encoder is shown, 0 or 1: drawn for the step, whenever it is taken."""
        seed = int(self._state["seed"]) * _SEED_STEPS + int(self._state["steps"])
        drawn = torch.rand(size, generator=torch.Generator().manual_seed(seed % (1 << 63)))
        return (drawn >= self.config.dropout).float()

    def _move(self, gradients: Mapping[str, Tensor], rate: float) -> None:
        optim.adam_(self._state, gradients, learning_rate=rate)

    def parameters(self) -> list[str]:
        """Names of the tensors that training moves."""
        return [name for name in self._state if f"{name}.mean" in self._state]

    def item_vectors(self) -> Tensor:
        return torch.cat((self._state[_OWN].unsqueeze(1), self._state[_TARGET]), dim=1)

    def context_vectors(self) -> Tensor | None:
        context = self._state[_CONTEXT]
        return torch.cat((torch.zeros_like(context[:, :1]), context), dim=1)

    def user_vectors(self, batch: Batch) -> Tensor:
        sizes = _sizes(batch.index, batch.offsets)
        weights = 1.0 / sizes.sqrt()[torch.repeat_interleave(sizes)]
        users = self._encode(self._state, batch.index, batch.offsets, weights)
        return torch.cat((torch.ones_like(users[:, :1]), users), dim=1)

    def state(self) -> dict[str, Tensor]:
        return self._state

    def description(self) -> dict[str, Any]:
        layers = [
            {
                "bias": self._state[f"bias.{layer}"].tolist(),
                **({"product": self._state[f"product.{layer}"].tolist()} if layer else {}),
            }
            for layer in range(self._layers)
        ]
        return {
            "name": self.config.name,
            "format": 2,
            "package": metadata.version("hyperrec"),
            "geometry": "inner_product",
            "d": self.config.dimensions,
            "users": "encoder",
            "score": "inner_product",
            "scale": 1.0,
            "tables": 2,
            "aggregator": {
                "kind": "encoder",
                "lag_weights": [1.0] * self.config.lags,
                "curvature": self.config.curvature,
                "layers": layers,
            },
        }


def _sizes(items: Tensor, offsets: Tensor) -> Tensor:
    """How many items each history has, [B]."""
    return torch.diff(offsets, append=offsets.new_tensor([len(items)]))


def _with_bias(t: Tensor, bias: Tensor, c: float) -> Tensor:
    """log0(exp0(t) (+) exp0(bias)), or t + bias in flat space. [B, w]."""
    if not c:
        return t + bias
    # In float64, as a reader computes it: a few hundred numbers, which float32 would lose digits of
    # from a radius of 4 on.
    points = poincare.project(poincare.exp_origin(t.double(), c), c)
    added = poincare.mobius_add(points, poincare.exp_origin(bias.double(), c), c)
    return poincare.log_origin(poincare.project(added, c), c).to(t)


def build(
    config: AutoencoderConfig, *, counts: Tensor, users: int, seed: int, device: torch.device
) -> Autoencoder:
    """An untrained model; see `models.build`."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, into: int) -> Tensor:
        """Normal numbers that keep the length of a vector of `into` coordinates, about."""
        return torch.randn(rows, columns, generator=generator) / math.sqrt(into)

    d, items = config.dimensions, len(counts)
    widths = (d, *config.hidden, d) if config.hidden else (d,)
    # A bag of n distinct items has length 1: its sum of context vectors is as long as one, about.
    parameters = {
        _CONTEXT: normal(items, d, d),
        _TARGET: normal(items, d, d),
        _OWN: torch.zeros(items),
    }
    for layer, width in enumerate(widths):
        if layer:
            parameters[f"product.{layer}"] = normal(width, widths[layer - 1], widths[layer - 1])
        parameters[f"bias.{layer}"] = torch.zeros(width)
    state = {name: tensor.to(device) for name, tensor in parameters.items()}
    for name, tensor in parameters.items():
        state[f"{name}.mean"] = torch.zeros_like(tensor, device=device)
        state[f"{name}.square"] = torch.zeros_like(tensor, device=device)
    # Numbers that go with the tensors: of the step, for Adam and for what the encoder is shown.
    state["steps"], state["seed"] = torch.tensor([0]), torch.tensor([seed])
    return restore(config, state)


def restore(config: AutoencoderConfig, state: dict[str, Tensor]) -> Autoencoder:
    """The model of a state; see `models.restore`."""
    return Autoencoder(config, state)
