"""Steps of Riemannian optimisers on the touched rows of a table of points.

Their length is coordinate-free: the Riemannian norm of a tangent gradient does not depend on
coordinates, so one accumulated scalar a row rescales the step of exact Riemannian SGD and needs no
parallel transport; only a momentum does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.optim.adam import adam

from hyperrec_core.spaces import Space

OptimiserName = Literal["rsgd", "adagrad", "adam"]

# Start of every row's accumulator: a row whose first gradient is zero divides by this, not by 0.
_ACCUMULATOR_START = 1e-12

# Riemannian Adam's decay rates (Bécigneul & Ganea 2019), those of Adam.
_MOMENTUM, _SECOND_MOMENT = 0.9, 0.999

# Adam's guard (Kingma & Ba 2015): an element whose gradients are all 0 divides by this.
_GUARD = 1e-8


def new_state(name: OptimiserName, table: Tensor) -> dict[str, Tensor]:
    """What the optimiser remembers of each row of a table, [n, D].

    `rsgd`: nothing. `adagrad`: `sums` [n], of squared gradient norms. `adam`: `momentum` [n, D], a
    tangent vector at each row's point, `second` [n] and `steps` [n].
    """
    rows, device = len(table), table.device
    if name == "adagrad":
        return {"sums": new_accumulator(rows, device=device)}
    if name == "adam":
        zeros = torch.zeros(rows, device=device)
        return {"momentum": torch.zeros_like(table), "second": zeros, "steps": zeros.clone()}
    return {}


def new_accumulator(rows: int, *, device: torch.device) -> Tensor:
    """The sum of squared gradient norms of each row, float32 [rows]."""
    return torch.full((rows,), _ACCUMULATOR_START, device=device)


def step_(
    name: OptimiserName,
    space: Space,
    table: Tensor,
    state: dict[str, Tensor],
    rows: Tensor,
    gradient: Tensor,
    *,
    learning_rate: float,
    maximum_step: float,
    pull: float,
) -> None:
    """One step in place: x <- Exp_x(-v), v's length clipped (Chamberlain et al. 2019, eq. 20-22).

    With h the tangent gradient: `rsgd` takes v = rate h, the paper's; `adagrad` rate h / sqrt(sum
    of |h|^2 so far); `adam` (Bécigneul & Ganea 2019, row-wise) rate m / sqrt(s), m and s the bias
    corrected running means of h, transported along, and of |h|^2, as of the row's own steps.

    Args:
        name: the optimiser.
        space: of the points.
        table: points, [n, D].
        state: as of `new_state`; updated.
        rows: the distinct rows that the gradient is of, int64 [r].
        gradient: Euclidean gradient by the coordinates, [r, D].
        learning_rate: the length of a row's first step, in distance; for `rsgd` per unit of h.
        maximum_step: no step is longer, in distance.
        pull: share of its radius by which each row is drawn to the origin first.
    """
    points = table.index_select(0, rows)
    direction, squared = space.tangent(points, gradient)
    rate = torch.full_like(squared, learning_rate)
    if name == "adagrad":
        sums = state["sums"].index_select(0, rows).add_(squared)
        state["sums"].index_copy_(0, rows, sums)
        rate.div_(sums.sqrt())
    elif name == "adam":
        steps = state["steps"].index_select(0, rows).add_(1.0)
        second = state["second"].index_select(0, rows).lerp_(squared, 1.0 - _SECOND_MOMENT)
        momentum = state["momentum"].index_select(0, rows)
        direction = momentum.lerp_(direction, 1.0 - _MOMENTUM)
        state["steps"].index_copy_(0, rows, steps)
        state["second"].index_copy_(0, rows, second)
        corrected = second / (1.0 - _SECOND_MOMENT**steps)
        rate.div_((1.0 - _MOMENTUM**steps) * corrected.clamp_min(_ACCUMULATOR_START).sqrt())
        _, squared = space.tangent(points, space.dual(direction))
    norm = squared.sqrt()
    rate = torch.minimum(rate, maximum_step / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    if pull:
        points, direction = _pulled(space, points, direction, pull)
    moved = space.move(points, direction * -rate.unsqueeze(1), rate * norm)
    table.index_copy_(0, rows, moved)
    if name == "adam":
        state["momentum"].index_copy_(0, rows, space.transport(points, moved, direction))


def _pulled(space: Space, points: Tensor, direction: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Points drawn along their geodesics to the origin, and tangent vectors taken with them."""
    nearer = space.shrink(points, 1.0 - share)
    return nearer, space.transport(points, nearer, direction)


def adagrad_(
    parameter: Tensor, accumulator: Tensor, gradient: Tensor, *, learning_rate: float
) -> None:
    """One Adagrad step in place, element by element (Duchi et al. 2011)."""
    accumulator += gradient * gradient
    parameter -= learning_rate * gradient / accumulator.sqrt()


def adam_(
    state: Mapping[str, Tensor], gradients: Mapping[str, Tensor], *, learning_rate: float
) -> None:
    """One step of Adam in place (Kingma & Ba 2015), by PyTorch in one pass over memory.

    Args:
        state: parameters by name; beside each, as `name.mean` and `name.square`, the running means
            of its gradients and of their squares, of its shape; and `steps` int64 [1], how many
            there have been. All are updated.
        gradients: of those that move, by name.
        learning_rate: the length of an element's first step.
    """
    taken = float(state["steps"])
    adam(
        [state[name] for name in gradients],
        [gradient.contiguous() for gradient in gradients.values()],
        [state[f"{name}.mean"] for name in gradients],
        [state[f"{name}.square"] for name in gradients],
        [],
        [gradient.new_tensor(taken) for gradient in gradients.values()],
        fused=True,
        amsgrad=False,
        beta1=_MOMENTUM,
        beta2=_SECOND_MOMENT,
        lr=learning_rate,
        weight_decay=0.0,
        eps=_GUARD,
        maximize=False,
    )
    state["steps"].add_(1)
