import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core import midpoint
from hyperrec_core.geometry import lorentz
from tests.hyperrec_core import spaces


def random_points(seed: int, count: int, radius: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return lorentz.from_spatial(
        radius * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    )


def midpoint_of(points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    index = torch.arange(len(points))
    return midpoint.centroids(points, index, torch.tensor([0]), weights)[0]


def klein_einstein_midpoint(points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Chamberlain et al. 2019, eq. 24, in Klein coordinates, then lifted to the hyperboloid."""
    klein = points[:, 1:] / points[:, :1]
    gamma = weights / (1 - (klein * klein).sum(-1)).sqrt()
    mean = (gamma.unsqueeze(-1) * klein).sum(0) / gamma.sum()
    return torch.cat((torch.ones(1, dtype=mean.dtype), mean)) / (1 - mean @ mean).sqrt()


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_centroid_is_the_einstein_midpoint_of_the_paper(seed, count):
    points = random_points(seed, count)
    weights = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights += 0.01
    found = midpoint_of(points, weights)
    torch.testing.assert_close(
        found, klein_einstein_midpoint(points, weights), rtol=1e-8, atol=1e-8
    )
    assert lorentz.residual(found) < 1e-12


@given(spaces.seeds, spaces.seeds)
def test_a_lorentz_transformation_of_the_items_is_one_of_the_midpoint(seed, other):
    points, isometry = random_points(seed, 5, radius=1.0), spaces.isometry(other, dimensions=3)
    weights = torch.rand(5, generator=spaces.generator(other), dtype=torch.float64) + 0.01
    torch.testing.assert_close(
        midpoint_of(points @ isometry.T, weights), isometry @ midpoint_of(points, weights)
    )


@spaces.devices
@spaces.dtypes
def test_the_midpoint_is_on_the_sheet_out_to_where_float32_stops_resolving(dtype, device):
    for radius in (1e-3, 1.0, 4.0, 8.0):
        points = spaces.points(0, 30, radius).to(device, dtype)
        index, offsets = torch.arange(30, device=device), torch.arange(0, 30, 5, device=device)
        users = midpoint.centroids(points, index, offsets, torch.ones(30).to(device, dtype))
        assert torch.all(lorentz.residual(users) < 16 * torch.finfo(dtype).eps)
        exact = midpoint.centroids(
            lorentz.to_sheet(points.cpu().double()), index.cpu(), offsets.cpu(),
            torch.ones(30, dtype=torch.float64),
        )  # fmt: skip
        apart = lorentz.distance(lorentz.to_sheet(users.cpu().double()), exact)
        assert torch.all(apart < 8 * torch.finfo(dtype).eps * math.cosh(radius) ** 2)


def test_a_single_item_is_its_own_midpoint_and_histories_do_not_mix():
    points = random_points(3, 4)
    index, offsets = torch.tensor([2, 0, 1, 3]), torch.tensor([0, 1])
    weights = torch.ones(4, dtype=torch.float64)
    users = midpoint.centroids(points, index, offsets, weights)
    torch.testing.assert_close(users[0], points[2])
    torch.testing.assert_close(users[1], midpoint_of(points[[0, 1, 3]], weights[:3]))


def test_scaling_all_weights_changes_nothing_and_weights_are_positive():
    logits = torch.tensor([5.0, -3.0, 0.0])
    torch.testing.assert_close(midpoint.lag_weights(logits), midpoint.lag_weights(logits + 9.0))
    assert torch.all(midpoint.lag_weights(logits) > 0)
