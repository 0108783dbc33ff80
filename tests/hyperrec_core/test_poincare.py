import math

import geoopt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core.geometry import lorentz, poincare
from tests.hyperrec_core import spaces
from tests.hyperrec_core.spaces import seeds

curvatures = st.sampled_from([0.5, 1.0, 2.0, 8.0])
LOOSE = {"rtol": 1e-7, "atol": 1e-9}


def ball(seed, count, c=1.0, radius=3.0):
    return poincare.from_lorentz(spaces.points(seed, count, radius), c)


def tangents(seed, x):
    return 0.3 * torch.randn(x.shape, generator=spaces.generator(seed), dtype=x.dtype)


@given(seeds, curvatures)
def test_the_ball_is_the_hyperboloid_with_distances_shrunk_by_the_root_of_c(seed, c):
    x, y = spaces.points(seed, 6), spaces.points(seed + 1, 6)
    found = poincare.distance(poincare.from_lorentz(x, c), poincare.from_lorentz(y, c), c)
    torch.testing.assert_close(found, lorentz.distance(x, y) / math.sqrt(c), **LOOSE)
    back = poincare.to_lorentz(poincare.from_lorentz(x, c), c)
    torch.testing.assert_close(back, x, **LOOSE)
    assert torch.all(lorentz.residual(back) < 1e-12)


@given(seeds, curvatures)
def test_distance_is_hyperml_s(seed, c):
    """Tran et al. 2020, eq. 9-10: by Möbius addition and artanh."""
    x, y = ball(seed, 6, c), ball(seed + 1, 6, c)
    norm = poincare.mobius_add(-x, y, c).norm(dim=-1)
    expected = 2 / math.sqrt(c) * torch.atanh(math.sqrt(c) * norm)
    torch.testing.assert_close(poincare.distance(x, y, c), expected, **LOOSE)


@given(seeds, curvatures)
def test_geoopt_agrees(seed, c):
    # Its roots of c are taken in c's own dtype.
    manifold = geoopt.PoincareBall(c=torch.tensor(c, dtype=torch.float64))
    x, y = ball(seed, 6, c), ball(seed + 1, 6, c)
    v = tangents(seed, x)
    for found, expected in (
        (poincare.mobius_add(x, y, c), manifold.mobius_add(x, y)),
        (poincare.distance(x, y, c), manifold.dist(x, y)),
        (poincare.conformal_factor(x, c), manifold.lambda_x(x)),
        (poincare.exp_map(x, v, c), manifold.expmap(x, v, project=False)),
        (poincare.log_map(x, y, c), manifold.logmap(x, y)),
        (poincare.exp_origin(v, c), manifold.expmap0(v, project=False)),
        (poincare.log_origin(x, c), manifold.logmap0(x)),
        (poincare.transport(x, y, v, c), manifold.transp(x, y, v)),
        (poincare.riemannian_gradient(x, v, c), manifold.egrad2rgrad(x, v.clone())),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@given(seeds, curvatures)
def test_mobius_addition_is_a_gyrogroup(seed, c):
    x, y = ball(seed, 6, c), ball(seed + 1, 6, c)
    zero = torch.zeros_like(x)
    torch.testing.assert_close(poincare.mobius_add(x, zero, c), x)
    torch.testing.assert_close(poincare.mobius_add(zero, x, c), x)
    torch.testing.assert_close(poincare.mobius_add(-x, x, c), zero, rtol=0, atol=1e-12)
    left = poincare.mobius_add(-x, poincare.mobius_add(x, y, c), c)
    torch.testing.assert_close(left, y, rtol=1e-7, atol=1e-7)


@given(seeds, seeds)
def test_translations_and_rotations_are_isometries(seed, other):
    x, y, a = (ball(seed + k, 6) for k in range(3))
    before = poincare.distance(x, y)
    moved = (poincare.mobius_add(a, point) for point in (x, y))
    torch.testing.assert_close(poincare.distance(*moved), before, rtol=1e-6, atol=1e-8)
    isometry = spaces.isometry(other)
    there = (poincare.from_lorentz(poincare.to_lorentz(p) @ isometry.T) for p in (x, y))
    torch.testing.assert_close(poincare.distance(*there), before, rtol=1e-6, atol=1e-8)


@given(seeds, curvatures)
def test_logarithm_undoes_the_exponential_map(seed, c):
    x, y = ball(seed, 6, c), ball(seed + 1, 6, c)
    v = poincare.log_map(x, y, c)
    torch.testing.assert_close(poincare.exp_map(x, v, c), y, rtol=1e-7, atol=1e-8)
    length = poincare.conformal_factor(x, c) * v.norm(dim=-1)
    torch.testing.assert_close(length, poincare.distance(x, y, c), **LOOSE)
    torch.testing.assert_close(poincare.exp_origin(poincare.log_origin(x, c), c), x, **LOOSE)
    assert torch.all(poincare.log_map(x, x, c) == 0)


@given(seeds, curvatures)
def test_transport_keeps_lengths_and_comes_back(seed, c):
    x, y = ball(seed, 6, c), ball(seed + 1, 6, c)
    v = tangents(seed, x)
    there = poincare.transport(x, y, v, c)
    before = poincare.conformal_factor(x, c) * v.norm(dim=-1)
    after = poincare.conformal_factor(y, c) * there.norm(dim=-1)
    torch.testing.assert_close(after, before, **LOOSE)
    torch.testing.assert_close(poincare.transport(y, x, there, c), v, rtol=1e-6, atol=1e-8)
    onward = poincare.transport(x, y, poincare.log_map(x, y, c), c)
    torch.testing.assert_close(onward, -poincare.log_map(y, x, c), rtol=1e-6, atol=1e-8)


def test_curvature_may_be_a_tensor_that_learns():
    x, y = ball(0, 4), ball(1, 4)
    c = torch.tensor(0.7, dtype=x.dtype, requires_grad=True)
    found = poincare.distance(poincare.exp_map(x, 0.1 * y, c), poincare.project(y, c), c).sum()
    (slope,) = torch.autograd.grad(found, c)
    step = 1e-6
    ahead, behind = (
        poincare.distance(poincare.exp_map(x, 0.1 * y, k), y, k).sum()
        for k in (0.7 + step, 0.7 - step)
    )
    assert float(slope) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-5)


@spaces.devices
@spaces.dtypes
@pytest.mark.parametrize("c", [0.5, 1.0, 4.0])
def test_project_keeps_points_where_distances_are_numbers(c, dtype, device):
    inside = ball(0, 5, c, radius=2.0).to(device, dtype)
    assert torch.equal(poincare.project(inside, c), inside)
    wide = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1e9, -1e9]], dtype=dtype, device=device)
    held = poincare.project(wide, c)
    edge = 1 - torch.finfo(dtype).eps ** 0.5
    torch.testing.assert_close(
        math.sqrt(c) * held.norm(dim=-1),
        torch.full((3,), edge, dtype=dtype, device=device).minimum(
            math.sqrt(c) * wide.norm(dim=-1)
        ),
    )
    torch.testing.assert_close(
        torch.nn.functional.normalize(held), torch.nn.functional.normalize(wide)
    )
    between = poincare.distance(held[:1], held[1:], c)
    assert torch.all(torch.isfinite(between) & (between > 0))
    assert torch.all(torch.isfinite(poincare.log_map(held[:1], held[1:], c)))
    limit = math.log(2 / torch.finfo(dtype).eps ** 0.5) / math.sqrt(c)
    far = poincare.distance(torch.zeros_like(held), held, c)
    assert torch.all(far <= limit * 1.001)


@spaces.devices
@spaces.dtypes
def test_near_points_keep_their_digits(dtype, device):
    x = ball(0, 50, radius=2.0)
    y = poincare.exp_map(x, 1e-4 * tangents(1, x))
    x, y = x.to(dtype), y.to(dtype)
    true = poincare.distance(x.double(), y.double())
    found = poincare.distance(x.to(device), y.to(device)).cpu().double()
    assert float(((found - true).abs() / true).median()) < 8 * torch.finfo(dtype).eps
