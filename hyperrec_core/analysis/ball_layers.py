"""The autoencoder with one of its choices taken back: what keeps layers on the ball trainable.

`models.autoencoder` names its choices; here each is undone by itself, and all together, which is
how such layers are commonly written: points in float32 all the way, biases as points of the ball
that Riemannian Adam moves, bags that are sums, ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear

from hyperrec_core.analysis.datasets import Split
from hyperrec_core.examples import Shuffled
from hyperrec_core.fit import TrainConfig, TrainingError
from hyperrec_core.geometry import poincare
from hyperrec_core.models import autoencoder
from hyperrec_core.models.autoencoder import Autoencoder, AutoencoderConfig

_MOMENTUM, _SECOND_MOMENT, _GUARD = 0.9, 0.999, 1e-12
_SGD_FACTOR = 0.1 / AutoencoderConfig.learning_rate  # SGD's steps are 0.1 of the gradient
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How layers are computed and trained; by default as `models.autoencoder` does.

    Attributes:
        double: points of the ball are in float64 between the maps.
        guarded: points are kept off the boundary, and maps are defined at the origin.
        unit_bags: the bag of a history has length 1, not its number of items.
        bounded: layers end in tanh, not in ReLU.
        tangent_biases: biases are tangent vectors at the origin, not points of the ball.
        adaptive: Adam moves the parameters, not SGD.
        width: factor on the parameters at the start.
    """

    double: bool = True
    guarded: bool = True
    unit_bags: bool = True
    bounded: bool = True
    tangent_biases: bool = True
    adaptive: bool = True
    width: float = 1.0


CHOICES: Mapping[str, Choices] = {
    "as it is": Choices(),
    "float32 throughout": Choices(double=False),
    "maps without guards": Choices(guarded=False),
    "bags are sums": Choices(unit_bags=False),
    "ReLU for tanh": Choices(bounded=False),
    "biases are points": Choices(tangent_biases=False),
    "SGD for Adam": Choices(adaptive=False),
    "start ten times as wide": Choices(width=10.0),
    "sums, ReLU, points, float32": Choices(
        double=False, unit_bags=False, bounded=False, tangent_biases=False
    ),
    "the same without guards": Choices(
        double=False, guarded=False, unit_bags=False, bounded=False, tangent_biases=False
    ),
}


class Chosen(Autoencoder):
    """An autoencoder by some choices."""

    def __init__(
        self, config: AutoencoderConfig, state: dict[str, Tensor], choices: Choices
    ) -> None:
        super().__init__(config, state)
        self._choices = choices

    def _encode(
        self, parameters: Mapping[str, Tensor], items: Tensor, offsets: Tensor, weights: Tensor
    ) -> Tensor:
        if not self._choices.unit_bags:
            sizes = torch.diff(offsets, append=offsets.new_tensor([len(items)]))
            weights = weights * sizes.sqrt()[torch.repeat_interleave(sizes)]
        t = embedding_bag(
            items, parameters["context"], offsets, mode="sum", per_sample_weights=weights
        )
        activation = torch.tanh if self._choices.bounded else torch.relu
        for layer in range(self._layers):
            if layer:
                t = linear(t, parameters[f"product.{layer}"])
            t = activation(self._with_bias(t, parameters[f"bias.{layer}"]))
        return t

    def _with_bias(self, t: Tensor, bias: Tensor) -> Tensor:
        c = self.config.curvature
        if not c:
            return t + bias
        t, bias = (x.double() if self._choices.double else x for x in (t, bias))
        point = poincare.exp_origin(bias, c) if self._choices.tangent_biases else bias
        if not self._choices.guarded:
            norm = c**0.5 * t.norm(dim=-1, keepdim=True)
            added = poincare.mobius_add(torch.tanh(norm) / norm * t, point, c)
            norm = c**0.5 * added.norm(dim=-1, keepdim=True)
            bare: Tensor = (torch.atanh(norm) / norm * added).float()
            return bare
        added = poincare.mobius_add(poincare.project(poincare.exp_origin(t, c), c), point, c)
        along: Tensor = poincare.log_origin(poincare.project(added, c), c).float()
        return along

    def _move(self, gradients: Mapping[str, Tensor], rate: float) -> None:
        on_ball = self.config.curvature > 0 and not self._choices.tangent_biases
        flat = dict(gradients)
        for name in [name for name in flat if on_ball and name.startswith("bias")]:
            self._move_point(name, flat.pop(name), rate)
        if self._choices.adaptive:
            super()._move(flat, rate)
        else:
            self._state["steps"].add_(1)
            for name, gradient in flat.items():
                self._state[name] -= rate * _SGD_FACTOR * gradient

    def _move_point(self, name: str, gradient: Tensor, rate: float) -> None:
        """Riemannian Adam for a point of the ball (Bécigneul & Ganea 2019)."""
        c, x = self.config.curvature, self._state[name]
        mean, square = self._state[f"{name}.mean"], self._state[f"{name}.square"]
        tangent = poincare.riemannian_gradient(x, gradient, c)
        mean.lerp_(tangent, 1.0 - _MOMENTUM)
        length = poincare.conformal_factor(x, c).square() * tangent.square().sum()
        square.lerp_(length.expand_as(square), 1.0 - _SECOND_MOMENT)
        steps = float(self._state["steps"]) + 1.0
        corrected = (square / (1.0 - _SECOND_MOMENT**steps)).sqrt() + _GUARD
        direction = mean / (1.0 - _MOMENTUM**steps) / corrected
        moved = poincare.project(poincare.exp_map(x, -rate * direction, c), c)
        mean.copy_(poincare.transport(x, moved, mean, c))
        x.copy_(moved)


def train(
    split: Split,
    config: TrainConfig,
    choices: Choices,
    *,
    seed: int,
    after_epoch: Callable[[Chosen], None],
) -> tuple[Chosen, list[float]]:
    """Fit by some choices, as `fit.fit` does, but the last epoch counts.

    Args:
        split: what is learned is its train.
        config: of an `AutoencoderConfig`.
        choices: how.
        seed: of the start, the order of examples and what the encoder is shown.
        after_epoch: called with the model.

    Returns:
        The model and each epoch's mean loss.

    Raises:
        TrainingError: a loss is no finite number.
    """
    settings = cast(AutoencoderConfig, config.model)
    counts = torch.from_numpy(split.counts)
    built = autoencoder.build(settings, counts=counts, users=0, seed=seed, device=_CPU)
    model = Chosen(settings, built.state(), choices)
    for name in model.parameters():
        model.state()[name] *= choices.width
    histories = model.learn_from(split.train)
    losses: list[float] = []
    for number in range(1, config.epochs + 1):
        shuffled = Shuffled(
            histories,
            seed=seed,
            number=number,
            batch_size=config.batch_size,
            lags=model.lags,
            per_history=1,
            negatives=config.negatives,
            items=split.items,
        )
        total = 0.0
        for place, batch in enumerate(shuffled.batches()):
            rate = 1.0 - (number - 1 + place / len(shuffled)) / config.epochs
            loss = model.step(model.prepare(batch), rate=rate, meanwhile=lambda: None)
            total += float(loss) * len(batch.labels)
        if not math.isfinite(total):
            raise TrainingError(f"The loss of epoch {number} is {total}.")
        losses.append(total / shuffled.examples)
        after_epoch(model)
    return model, losses
