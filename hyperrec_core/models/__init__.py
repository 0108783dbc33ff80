"""Models, one a file, behind one protocol (`protocol.Model`), and how to make one."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrec_core.models import points
from hyperrec_core.models.points_config import PointsConfig
from hyperrec_core.models.protocol import Model

ModelConfig = PointsConfig

__all__ = ["Model", "ModelConfig", "PointsConfig", "build", "restore"]


def build(
    config: ModelConfig, *, counts: Tensor, users: int, seed: int, device: torch.device
) -> Model:
    """A new, untrained model of the configuration's kind.

    Args:
        config: settings of the model.
        counts: how often each item occurs in training, [items].
        users: how many users training has.
        seed: of the initial points.
        device: where the model will be.
    """
    state = points.initial_state(config, counts=counts, users=users, seed=seed, device=device)
    return points.Points(config, state)


def restore(config: ModelConfig, state: dict[str, Tensor], *, device: torch.device) -> Model:
    """The model of a configuration with the tensors that training left."""
    return points.Points(config, {name: tensor.to(device) for name, tensor in state.items()})
