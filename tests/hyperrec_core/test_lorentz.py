import math

import geoopt
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core.geometry import lorentz
from tests.hyperrec_core import spaces
from tests.hyperrec_core.spaces import seeds

FLOAT64 = torch.float64


def exact_distance(x: np.ndarray, y: np.ndarray) -> float:
    """arccosh of the inner product of the exact lifts of two spatial vectors, in 60 digits."""
    with mpmath.workdps(60):
        xs, ys = [[mpmath.mpf(float(v)) for v in p] for p in (x, y)]
        lift = [mpmath.sqrt(1 + sum(v * v for v in p)) for p in (xs, ys)]
        product = lift[0] * lift[1] - sum(a * b for a, b in zip(xs, ys, strict=True))
        return float(mpmath.acosh(max(product, mpmath.mpf(1))))


@given(seeds)
def test_points_are_on_the_sheet_and_distance_is_a_metric_value(seed):
    x = spaces.points(seed, 2)
    assert torch.all(lorentz.residual(x) < 1e-14)
    assert torch.all(x[:, 0] >= 1)
    forward, back = lorentz.distance(x[0], x[1]), lorentz.distance(x[1], x[0])
    assert forward == pytest.approx(back)
    assert lorentz.distance(x[0], x[0]) == 0


@given(seeds, st.sampled_from([0.01, 1.0, 3.0, 7.0]))
def test_triangle_inequality(seed, radius):
    x = spaces.points(seed, 3, radius)
    a, b, c = (lorentz.distance(x[i], x[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert c <= (a + b) * (1 + 1e-12)
    between = lorentz.exp_map(x[0], 0.3 * lorentz.log_map(x[0], x[1]))
    parts = lorentz.distance(x[0], between) + lorentz.distance(between, x[1])
    assert parts == pytest.approx(float(a), rel=1e-9)


@given(seeds, seeds)
def test_lorentz_transformations_are_isometries(seed, other):
    x, transformation = spaces.points(seed, 12), spaces.isometry(other)
    moved = x @ transformation.T
    before, after = lorentz.distance(x[:6], x[6:]), lorentz.distance(moved[:6], moved[6:])
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12)
    assert torch.all(lorentz.residual(moved) < 1e-13)
    torch.testing.assert_close(
        lorentz.log_map(moved[0], moved[1]),
        transformation @ lorentz.log_map(x[0], x[1]),
        rtol=1e-7,
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("radius", "separation", "bound"),
    [(1, 0.01, 2e-7), (2, 0.1, 3e-7), (4, 0.01, 3e-7), (8, 0.1, 1e-5), (9, 1, 1e-4)],
)
def test_float32_distance_keeps_its_digits_where_arccosh_loses_them(radius, separation, bound):
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(40):
        direction = rng.normal(size=32)
        x = np.sinh(radius) * direction / np.linalg.norm(direction)
        y = x + rng.normal(size=32) * separation * 0.2
        x, y = x.astype(np.float32), y.astype(np.float32)
        true = exact_distance(x, y)
        found = lorentz.distance(*(lorentz.from_spatial(torch.from_numpy(v)) for v in (x, y)))
        errors.append(abs(float(found) - true) / true)
    assert np.median(errors) < bound


@spaces.devices
@spaces.dtypes
def test_points_opposite_each_other_are_twice_their_radius_apart(dtype, device):
    """xs + ys is then nothing but rounding, which must not count as a direction."""
    for noise in (0.0, 1e-18, 1e-16, 1e-15, 1e-12, 1e-8):
        for size in (1e-3, 0.6, 40.0):
            spatial = torch.tensor([[size, -size / 2]], dtype=FLOAT64)
            x = lorentz.from_spatial(spatial.to(device, dtype))
            y = lorentz.from_spatial((-spatial + torch.tensor([noise, -noise])).to(device, dtype))
            found = float(lorentz.distance(x, y))
            assert found == pytest.approx(2 * float(lorentz.radius(x)), rel=1e-4)
            if noise < 1e-12:
                assert found == pytest.approx(2 * float(lorentz.radius(x)), rel=2e-6)


@given(seeds, st.floats(0.0, 6.0))
def test_exponential_map_goes_as_far_as_the_tangent_is_long(seed, length):
    x = spaces.points(seed, 5)
    tangent = spaces.tangents(seed, x, length)
    reached = lorentz.exp_map(x, tangent)
    assert torch.all(lorentz.residual(reached) < 1e-14)
    norm = lorentz.tangent_norm(x, tangent)
    torch.testing.assert_close(lorentz.distance(x, reached), norm, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(lorentz.log_map(x, reached), tangent, rtol=1e-8, atol=1e-9)


@spaces.devices
@spaces.dtypes
@pytest.mark.parametrize("radius", [1e-3, 0.5, 2.0, 5.0])
def test_logarithm_undoes_the_exponential_map(radius, dtype, device):
    x, y = (spaces.points(seed, 50, radius).to(device, dtype) for seed in (1, 2))
    tangent = lorentz.log_map(x, y)
    reached = lorentz.exp_map(x, tangent)
    distance = lorentz.distance(x, y)
    tolerance = 20 * torch.finfo(dtype).eps * math.cosh(radius) ** 2
    assert torch.all(lorentz.distance(reached, y) < tolerance * distance.clamp_min(1e-3))
    torch.testing.assert_close(lorentz.tangent_norm(x, tangent), distance, rtol=tolerance, atol=0.0)
    assert torch.all(lorentz.log_map(x, x) == 0)
    assert torch.all(lorentz.residual(reached) < 4 * torch.finfo(dtype).eps)


@given(seeds)
def test_transport_keeps_lengths_and_angles_and_comes_back(seed):
    x, y = spaces.points(seed, 2)
    v, w = (spaces.tangents(seed + k, x.unsqueeze(0))[0] for k in (1, 2))
    v_there, w_there = lorentz.transport(x, y, v), lorentz.transport(x, y, w)
    scale = float(x[0] * y[0])
    assert abs(float(lorentz.inner(y, v_there))) < 1e-12 * scale**2
    inner = float(lorentz.inner(v, w))
    assert float(lorentz.inner(v_there, w_there)) == pytest.approx(inner, abs=1e-11 * scale**2)
    torch.testing.assert_close(lorentz.transport(y, x, v_there), v, rtol=1e-9, atol=1e-9 * scale)
    back = lorentz.transport(x, y, lorentz.log_map(x, y))
    torch.testing.assert_close(back, -lorentz.log_map(y, x), rtol=1e-9, atol=1e-9 * scale)


@given(seeds)
def test_tangent_projection_is_orthogonal_and_idempotent(seed):
    x = spaces.points(seed, 2)
    tangent = lorentz.to_tangent(x[0], x[1])
    scale = float(x[0].abs().max() ** 2 * x[1].abs().max())
    assert abs(float(lorentz.inner(x[0], tangent))) < 1e-12 * scale
    again = lorentz.to_tangent(x[0], tangent)
    torch.testing.assert_close(again, tangent, atol=1e-12 * scale**2, rtol=1e-9)


def test_riemannian_gradient_is_the_steepest_direction_by_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x, y = lorentz.from_spatial(torch.randn(2, 3, generator=generator, dtype=FLOAT64))
    ambient = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(lorentz.inner(ambient, y), ambient)
    tangent = lorentz.riemannian_gradient(x, gradient)
    for _ in range(5):
        noise = torch.randn(4, generator=generator, dtype=FLOAT64)
        direction = lorentz.to_tangent(x, noise)
        step = 1e-6
        ahead = lorentz.inner(lorentz.exp_map(x, step * direction), y)
        behind = lorentz.inner(lorentz.exp_map(x, -step * direction), y)
        slope = (ahead - behind) / (2 * step)
        assert slope == pytest.approx(float(lorentz.inner(tangent, direction)), rel=1e-6)


def test_radius_is_the_distance_to_the_origin():
    x = lorentz.from_spatial(torch.tensor([[1e-6, 0.0], [3.0, 4.0]], dtype=FLOAT64))
    origin = torch.tensor([1.0, 0.0, 0.0], dtype=FLOAT64)
    torch.testing.assert_close(lorentz.radius(x), lorentz.distance(x, origin), rtol=1e-9, atol=0)


def test_to_sheet_keeps_spatial_coordinates_and_leaves_points_where_they_are():
    x = spaces.points(0, 6)
    torch.testing.assert_close(lorentz.to_sheet(x), x, rtol=1e-15, atol=0)
    off = x + torch.tensor([0.3, 0, 0, 0, 0], dtype=FLOAT64)
    assert torch.all(lorentz.residual(off) > 1e-3)
    torch.testing.assert_close(lorentz.to_sheet(off), x, rtol=1e-15, atol=0)


@given(seeds, st.sampled_from([1e-4, 0.1, 1.0, 3.0]))
def test_every_form_of_the_distance_agrees_in_float64(seed, radius):
    x, y = spaces.points(seed, 5, radius), spaces.points(seed + 1, 7, radius)
    each = lorentz.distance(x.unsqueeze(1), y)
    assert each.shape == (5, 7)
    torch.testing.assert_close(lorentz.pairwise_distance(x, y), each, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        lorentz.pairwise_squared_chord(x, y), -2 * lorentz.inner(x.unsqueeze(1), y) - 2,
        rtol=1e-9, atol=1e-13 * math.cosh(radius) ** 2,
    )  # fmt: skip
    if radius >= 1:
        torch.testing.assert_close(lorentz.arccosh_distance(x.unsqueeze(1), y), each)
        guarded = lorentz.guarded_distance(x.unsqueeze(1), y)
        torch.testing.assert_close(guarded, each, rtol=0, atol=2e-3)
        assert torch.all(guarded > each)


@spaces.devices
def test_pairwise_ranks_near_euclidean_points_in_float32(device):
    """At low curvature points sit at radii of 1e-3, where -<x, y> is 1 for all of them."""
    x, y = spaces.points(0, 8, 1e-3, 16), spaces.points(1, 200, 1e-3, 16)
    order = lorentz.distance(x.unsqueeze(1), y).argsort(-1)
    narrow = [points.to(device, torch.float32) for points in (x, y)]
    found = lorentz.pairwise_squared_chord(*narrow).argsort(-1).cpu()
    assert (found == order).double().mean() > 0.98
    product = -narrow[0] @ lorentz.flip_time(narrow[1]).T
    assert (product.argsort(-1).cpu() == order).double().mean() < 0.1


@spaces.devices
@spaces.dtypes
def test_coincident_points_are_at_distance_zero(dtype, device):
    x = spaces.points(0, 9, 4.0).to(device, dtype)
    assert torch.all(lorentz.distance(x, x) == 0)
    assert torch.all(lorentz.arccosh_distance(x, x) < 64 * torch.finfo(dtype).eps ** 0.5)
    guard = math.acosh(1 + 1e-6)
    assert torch.all(lorentz.guarded_distance(x, x) >= 0.9 * guard)
    noise = torch.finfo(dtype).eps ** 0.5 * x[:, 0].double()
    assert torch.all(lorentz.pairwise_distance(x, x).diagonal().double() <= 4 * noise)


@given(seeds)
def test_geoopt_agrees(seed):
    manifold = geoopt.Lorentz()
    x, y = spaces.points(seed, 8), spaces.points(seed + 1, 8)
    v = spaces.tangents(seed + 2, x)
    loose = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(manifold.dist(x, y), lorentz.distance(x, y), **loose)
    torch.testing.assert_close(manifold.expmap(x, v), lorentz.exp_map(x, v), **loose)
    torch.testing.assert_close(manifold.logmap(x, y), lorentz.log_map(x, y), **loose)
    torch.testing.assert_close(manifold.transp(x, y, v), lorentz.transport(x, y, v), **loose)
    # It changes its argument in place.
    gradient = manifold.egrad2rgrad(x, y.clone())
    torch.testing.assert_close(gradient, lorentz.riemannian_gradient(x, y))
    torch.testing.assert_close(manifold.proju(x, y), lorentz.to_tangent(x, y))
    torch.testing.assert_close(manifold.projx(y + 0.1 * v), lorentz.to_sheet(y + 0.1 * v))


@spaces.devices
@pytest.mark.parametrize("radius", [10.0, 14.0, 17.0, 20.0])
def test_float32_distances_beyond_its_reach_are_still_numbers_of_the_right_size(radius, device):
    x = torch.zeros(3, 5, dtype=torch.float32, device=device)
    x[:, 0] = math.sinh(radius)
    far, near = lorentz.from_spatial(x), lorentz.from_spatial(0.01 * torch.ones_like(x))
    found = lorentz.distance(far, near)
    assert torch.all(torch.isfinite(found) & (found > min(radius, 17.0) * 0.95))
    assert torch.all(torch.isfinite(lorentz.log_map(near, far)))
