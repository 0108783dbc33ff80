"""Models, one a file, behind one protocol (`protocol.Model`), and how to build one by its name."""

from __future__ import annotations

import torch

from hyperrec_core.models.hyperboloid import Hyperboloid, HyperboloidConfig
from hyperrec_core.models.protocol import Model

ModelConfig = HyperboloidConfig

__all__ = ["Hyperboloid", "HyperboloidConfig", "Model", "ModelConfig", "build"]


def build(config: ModelConfig, *, items: int, seed: int, device: torch.device) -> Model:
    """A new, untrained model of the configuration's kind."""
    return Hyperboloid(config, items=items, seed=seed, device=device)
