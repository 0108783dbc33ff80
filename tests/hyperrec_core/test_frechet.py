import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core import midpoint
from hyperrec_core.frechet import frechet_mean
from hyperrec_core.geometry import lorentz
from tests.hyperrec_core import spaces
from tests.hyperrec_core.spaces import seeds

FLOAT64 = torch.float64


def positive(seed, *shape):
    return 0.05 + torch.rand(*shape, generator=spaces.generator(seed), dtype=FLOAT64)


def spread(mean, points, weights):
    return (weights * lorentz.distance(mean, points).square()).sum(-1)


@given(seeds, st.integers(1, 12), st.sampled_from([0.1, 2.0, 6.0]))
def test_no_neighbour_has_a_smaller_sum_of_squared_distances(seed, count, radius):
    x, weights = spaces.points(seed, count, radius), positive(seed, count)
    mean = frechet_mean(x, weights)
    assert lorentz.residual(mean) < 1e-14
    least = spread(mean, x, weights)
    for step in (1e-4, 1e-2, 0.5):
        tangent = step * spaces.tangents(seed + 1, mean.expand(8, -1))
        around = lorentz.exp_map(mean, tangent).unsqueeze(1)
        # Strongly convex: the sum grows at least by the squared step.
        growth = lorentz.tangent_norm(mean, tangent).square() * weights.sum()
        assert torch.all(spread(around, x, weights) >= least + 0.99 * growth - 1e-12)


@given(seeds, st.integers(1, 9))
def test_on_a_line_it_is_the_arithmetic_mean(seed, count):
    alpha = 4 * torch.randn(count, generator=spaces.generator(seed), dtype=FLOAT64).clamp(-1, 1)
    weights = positive(seed, count)
    mean = frechet_mean(lorentz.from_spatial(torch.sinh(alpha).unsqueeze(-1)), weights)
    expected = float((weights * alpha).sum() / weights.sum())
    assert float(torch.asinh(mean[1])) == pytest.approx(expected, abs=1e-9)


@given(seeds, seeds)
def test_a_lorentz_transformation_of_the_points_is_one_of_the_mean(seed, other):
    x, weights, isometry = spaces.points(seed, 6), positive(seed, 6), spaces.isometry(other)
    mean, moved = frechet_mean(x, weights), frechet_mean(x @ isometry.T, weights)
    assert lorentz.distance(moved, isometry @ mean) < 1e-7


@given(seeds)
def test_of_two_points_it_is_their_einstein_midpoint(seed):
    x = spaces.points(seed, 2)
    centre = midpoint.normalise(x.sum(0))
    assert lorentz.distance(frechet_mean(x, torch.ones(2, dtype=FLOAT64)), centre) < 1e-9


def test_of_one_point_or_of_one_with_weight_it_is_the_point():
    x = spaces.points(0, 3)
    torch.testing.assert_close(frechet_mean(x[:1], torch.ones(1, dtype=FLOAT64)), x[0])
    only = torch.tensor([0.0, 2.0, 0.0], dtype=FLOAT64)
    torch.testing.assert_close(frechet_mean(x, only), x[1], rtol=1e-9, atol=1e-9)


@spaces.devices
@spaces.dtypes
def test_a_batch_is_its_singles_in_the_dtype_and_on_the_device_it_came_in(dtype, device):
    x, weights = spaces.points(0, 20).reshape(4, 5, -1), positive(0, 4, 5)
    x, weights = x.to(device, dtype), weights.to(device, dtype)
    together = frechet_mean(x, weights)
    assert (together.dtype, together.device) == (x.dtype, x.device)
    for row in range(4):
        torch.testing.assert_close(together[row], frechet_mean(x[row], weights[row]))


def test_a_tolerance_that_is_not_met_is_an_error():
    x = spaces.points(0, 6)
    with pytest.raises(ArithmeticError, match="did not converge: after 1 iterations"):
        frechet_mean(x, torch.ones(6, dtype=FLOAT64), most_iterations=1)
