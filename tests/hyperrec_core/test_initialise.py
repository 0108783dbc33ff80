import numpy as np
import pytest
import torch

from hyperrec_core import initialise
from hyperrec_core.geometry import lorentz, poincare

COUNTS = torch.tensor([0, 1, 10, 100, 10_000])


def generator():
    return torch.Generator().manual_seed(1)


def radii(spatial):
    """In Poincaré coordinates, where the paper measures them."""
    return poincare.from_lorentz(lorentz.from_spatial(spatial.double())).norm(dim=1)


def test_a_cube_is_as_wide_as_said_and_around_the_origin():
    spatial = initialise.hypercube(5000, 3, width=0.2, generator=generator())
    assert spatial.abs().max() <= 0.1
    assert spatial.abs().max() > 0.0999
    assert spatial.mean(0).abs().max() < 0.005


@pytest.mark.parametrize("width", [0.01, 0.5, 1.9])
def test_a_ball_is_filled_evenly(width):
    radius = radii(initialise.ball(20_000, 3, width=width, generator=generator()))
    assert radius.max() <= width / 2 + 1e-6
    # Half of the volume of a ball in three dimensions lies within 0.5 ^ (1/3) of its radius.
    within = (radius < 0.5 ** (1 / 3) * width / 2).double().mean()
    assert within == pytest.approx(0.5, abs=0.02)


def test_popular_items_start_near_the_origin():
    spatial = initialise.by_popularity(COUNTS, 4, width=0.5, generator=generator())
    radius = radii(spatial).numpy()
    assert (np.diff(radius) < 0).all()
    assert radius[0] == pytest.approx(0.25)
    # Radius times log(2 + count) is the same for all: the paper's radius ~ 1 / log(count).
    product = radius * np.log(2.0 + COUNTS.numpy())
    np.testing.assert_allclose(product, product[0], rtol=1e-5)
