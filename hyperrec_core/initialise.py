"""Where points start before training."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrec_core.geometry import lorentz


def hypercube(rows: int, dimensions: int, *, width: float, generator: torch.Generator) -> Tensor:
    """Uniform in a cube of that width around 0, lifted (Chamberlain et al. 2019, section 4).

    Returns:
        Points, float32 [rows, dimensions + 1], on the generator's device.
    """
    uniform = torch.rand(rows, dimensions, generator=generator, device=generator.device)
    return lorentz.from_spatial((uniform - 0.5) * width)
