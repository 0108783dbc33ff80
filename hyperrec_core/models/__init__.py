"""Models, one a file, behind one protocol (`protocol.Model`), and how to make one."""

from __future__ import annotations

from types import ModuleType
from typing import get_args

import torch
from torch import Tensor

from hyperrec_core.models import autoencoder, hvacf, points, triplets
from hyperrec_core.models.autoencoder import AutoencoderConfig
from hyperrec_core.models.cml import CMLConfig
from hyperrec_core.models.hvacf import HVACFConfig
from hyperrec_core.models.hyperml import HyperMLConfig
from hyperrec_core.models.mf_bpr import MFBPRConfig
from hyperrec_core.models.points_config import PointsConfig
from hyperrec_core.models.protocol import Model

ModelConfig = (
    PointsConfig | HyperMLConfig | CMLConfig | MFBPRConfig | AutoencoderConfig | HVACFConfig
)

CONFIGS: dict[str, type[ModelConfig]] = {kind().name: kind for kind in get_args(ModelConfig)}
"""The settings of each model, by its name."""

_MODULES: dict[str, ModuleType] = {
    "points": points,
    "hyperml": triplets,
    "cml": triplets,
    "mf-bpr": triplets,
    "autoencoder": autoencoder,
    "hvacf": hvacf,
}

__all__ = ["CONFIGS", "Model", "ModelConfig", "PointsConfig", "build", "restore", "uses_features"]


def uses_features(config: ModelConfig) -> bool:
    """Whether `build` has a use for features of the items."""
    return isinstance(config, HVACFConfig) and config.features


def build(
    config: ModelConfig,
    *,
    counts: Tensor,
    users: int,
    seed: int,
    device: torch.device,
    features: Tensor | None = None,
) -> Model:
    """A new, untrained model of the configuration's kind.

    Args:
        config: settings of the model.
        counts: how often each item occurs in training, [items].
        users: how many users training has.
        seed: of the initial points.
        device: where the model will be.
        features: what each item is like, float32 [items, F], zeros where nothing is known of it;
            for a model that `uses_features`, the others do without.
    """
    make = _MODULES[config.name].build
    given = {"features": features} if uses_features(config) else {}
    model: Model = make(config, counts=counts, users=users, seed=seed, device=device, **given)
    return model


def restore(config: ModelConfig, state: dict[str, Tensor], *, device: torch.device) -> Model:
    """The model of a configuration with the tensors that training left."""
    on_device = {name: tensor.to(device) for name, tensor in state.items()}
    model: Model = _MODULES[config.name].restore(config, on_device)
    return model
