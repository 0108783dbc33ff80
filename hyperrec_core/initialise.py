"""Where points start before training: spatial coordinates, float32 [rows, d]."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

InitialName = Literal["hypercube", "ball", "radius"]


def hypercube(rows: int, dimensions: int, *, width: float, generator: torch.Generator) -> Tensor:
    """Uniform in a cube of that width around 0 (Chamberlain et al. 2019, section 4)."""
    return (torch.rand(rows, dimensions, generator=generator) - 0.5) * width


def ball(rows: int, dimensions: int, *, width: float, generator: torch.Generator) -> Tensor:
    """Uniform in a Poincaré ball of radius width / 2 around 0, lifted (Nickel & Kiela 2017)."""
    uniform = torch.rand(rows, generator=generator)
    return _at(_directions(rows, dimensions, generator), uniform ** (1 / dimensions) * width / 2)


def by_popularity(
    counts: Tensor, dimensions: int, *, width: float, generator: torch.Generator
) -> Tensor:
    """A random direction, and a Poincaré radius ~ 1 / log(count): popular items near the origin.

    Chamberlain et al. 2019, section 4. `width` is the diameter of the ball that holds the items
    seen least, whose radius the others' are relative to.

    Args:
        counts: how often each item occurs, [rows].
        dimensions: d.
        width: diameter, in Poincaré coordinates, below 2.
        generator: of the directions.
    """
    # log(2 + n) is positive for the items that never occur, too.
    radius = torch.log(torch.tensor(2.0)) / torch.log(2.0 + counts.float())
    return _at(_directions(len(counts), dimensions, generator), radius * width / 2)


def _directions(rows: int, dimensions: int, generator: torch.Generator) -> Tensor:
    normal = torch.randn(rows, dimensions, generator=generator)
    return torch.nn.functional.normalize(normal, dim=1)


def _at(directions: Tensor, poincare_radius: Tensor) -> Tensor:
    """Spatial coordinates of the lifted Poincaré points: 2 p / (1 - |p|^2)."""
    r = poincare_radius.unsqueeze(1)
    return directions * (2.0 * r / (1.0 - r * r))
