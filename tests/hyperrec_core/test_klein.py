import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core import midpoint
from hyperrec_core.geometry import klein, lorentz, poincare
from tests.hyperrec_core import spaces
from tests.hyperrec_core.spaces import seeds


def positive(seed, count):
    return 0.05 + torch.rand(count, generator=spaces.generator(seed), dtype=torch.float64)


@given(seeds, st.sampled_from([0.01, 1.0, 4.0]))
def test_distance_is_the_lifts_and_the_textbook_s(seed, radius):
    x, y = (spaces.points(seed + k, 6, radius) for k in (0, 1))
    a, b = klein.from_lorentz(x), klein.from_lorentz(y)
    torch.testing.assert_close(klein.distance(a, b), lorentz.distance(x, y), rtol=1e-7, atol=1e-9)
    cosh = (1 - (a * b).sum(-1)) * klein.lorentz_factor(a) * klein.lorentz_factor(b)
    textbook = torch.arccosh(cosh.clamp_min(1.0))
    torch.testing.assert_close(klein.distance(a, b), textbook, rtol=1e-3, atol=1e-6)
    assert torch.all(klein.distance(a, a) == 0)


@given(seeds)
def test_conversions_between_all_three_models_come_back(seed):
    x = spaces.points(seed, 6)
    ball, disc = klein.from_lorentz(x), poincare.from_lorentz(x)
    torch.testing.assert_close(klein.to_lorentz(ball), x, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(klein.from_poincare(disc), ball)
    torch.testing.assert_close(klein.to_poincare(ball), disc, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        poincare.to_lorentz(klein.to_poincare(ball)), x, rtol=1e-9, atol=1e-11
    )
    torch.testing.assert_close(klein.lorentz_factor(ball), x[:, 0], rtol=1e-11, atol=0)


@spaces.devices
@spaces.dtypes
def test_conversions_keep_the_digits_of_small_radii(dtype, device):
    x = spaces.points(0, 20, 1e-3).to(device, dtype)
    for there, back in (
        (klein.from_lorentz, klein.to_lorentz),
        (poincare.from_lorentz, poincare.to_lorentz),
    ):
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(back(there(x)), x, rtol=8 * eps, atol=1e-6 * eps)


@given(seeds, st.integers(1, 8))
def test_einstein_midpoint_is_the_lorentz_centroid(seed, count):
    x, weights = spaces.points(seed, count), positive(seed, count)
    found = klein.to_lorentz(klein.einstein_midpoint(klein.from_lorentz(x), weights))
    index = torch.arange(count)
    centroid = midpoint.centroids(x, index, torch.tensor([0]), weights)[0]
    torch.testing.assert_close(found, centroid, rtol=1e-9, atol=1e-10)


@given(seeds)
def test_einstein_midpoint_of_a_batch_is_that_of_its_singles(seed):
    x = klein.from_lorentz(spaces.points(seed, 12)).reshape(3, 4, -1)
    weights = positive(seed, 12).reshape(3, 4)
    for gamma in (klein.lorentz_factor, klein.printed_gamma):
        together = klein.einstein_midpoint(x, weights, gamma=gamma)
        for row in range(3):
            alone = klein.einstein_midpoint(x[row], weights[row], gamma=gamma)
            torch.testing.assert_close(together[row], alone)
        scaled = klein.einstein_midpoint(x, 7 * weights, gamma=gamma)
        torch.testing.assert_close(scaled, together)


@given(seeds, seeds)
def test_lorentz_factor_s_midpoint_moves_with_the_points(seed, other):
    x, weights, isometry = spaces.points(seed, 5), positive(seed, 5), spaces.isometry(other)
    before = klein.to_lorentz(klein.einstein_midpoint(klein.from_lorentz(x), weights))
    after = klein.einstein_midpoint(klein.from_lorentz(x @ isometry.T), weights)
    torch.testing.assert_close(klein.to_lorentz(after), isometry @ before, rtol=1e-6, atol=1e-7)


def test_printed_gamma_is_the_lorentz_factor_squared_and_no_isometry_s_midpoint():
    """Eq. 25 to the letter weighs far items more, so that the midpoint depends on the origin."""
    items = torch.tensor([[0.0], [0.8]], dtype=torch.float64)
    torch.testing.assert_close(klein.printed_gamma(items), klein.lorentz_factor(items) ** 2)
    ones = torch.ones(2, dtype=torch.float64)
    half_way = klein.einstein_midpoint(items, ones)
    torch.testing.assert_close(
        klein.distance(items[0], half_way), klein.distance(items[1], half_way)
    )
    printed = klein.einstein_midpoint(items, ones, gamma=klein.printed_gamma)
    # weights 1 and 1 / (1 - 0.64)
    assert float(printed) == pytest.approx(0.8 / 0.36 / (1 + 1 / 0.36))
    assert klein.distance(items[1], printed) < klein.distance(items[0], printed) - 0.1
