"""Random points and isometries of hyperbolic space, and the devices the geometry is tested on."""

import math

import pytest
import torch
from hypothesis import strategies as st

from hyperrec_core.geometry import lorentz

DIMENSIONS = 4
seeds = st.integers(0, 2**32 - 1)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(
    seed: int, count: int, radius: float = 3.0, dimensions: int = DIMENSIONS
) -> torch.Tensor:
    """Hyperboloid points, float64 [count, D], their radii uniform up to the given one."""
    random = generator(seed)
    directions = torch.randn(count, dimensions, generator=random, dtype=torch.float64)
    radii = radius * torch.rand(count, 1, generator=random, dtype=torch.float64)
    return lorentz.from_spatial(
        torch.sinh(radii) * directions / directions.norm(dim=-1, keepdim=True)
    )


def tangents(seed: int, x: torch.Tensor, length: float = 2.0) -> torch.Tensor:
    """A tangent vector at each point, of a length up to the given one."""
    random = generator(seed)
    origin = lorentz.from_spatial(torch.zeros_like(x[..., 1:]))
    noise = torch.randn(x[..., 1:].shape, generator=random, dtype=torch.float64)
    share = length * torch.rand(x[..., :1].shape, generator=random, dtype=torch.float64)
    spatial = share * noise / noise.norm(dim=-1, keepdim=True)
    return lorentz.transport(origin, x, torch.nn.functional.pad(spatial, (1, 0)))


def isometry(seed: int, rapidity: float = 2.0, dimensions: int = DIMENSIONS) -> torch.Tensor:
    """A Lorentz transformation: a rotation or reflection, a boost, another rotation. [D, D]."""
    random = generator(seed)
    boost = torch.eye(dimensions + 1, dtype=torch.float64)
    angle = rapidity * (2 * float(torch.rand((), generator=random)) - 1)
    boost[0, 0] = boost[1, 1] = math.cosh(angle)
    boost[0, 1] = boost[1, 0] = math.sinh(angle)
    return _rotation(random, dimensions) @ boost @ _rotation(random, dimensions)


def _rotation(random: torch.Generator, dimensions: int) -> torch.Tensor:
    rotation = torch.eye(dimensions + 1, dtype=torch.float64)
    noise = torch.randn(dimensions, dimensions, generator=random, dtype=torch.float64)
    rotation[1:, 1:] = torch.linalg.qr(noise).Q
    return rotation
