import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperrec_core.geometry import lorentz

FLOAT64 = torch.float64


def points(count: int, radius: float = 3.0, dimensions: int = 4):
    """`count` hyperboloid points with spatial coordinates within the radius, in float64."""
    values = st.floats(-np.sinh(radius) / 2, np.sinh(radius) / 2, allow_subnormal=False)
    return arrays(np.float64, (count, dimensions), elements=values).map(
        lambda spatial: lorentz.from_spatial(torch.from_numpy(spatial))
    )


def exact_distance(x: np.ndarray, y: np.ndarray) -> float:
    """arccosh of the inner product of the exact lifts of two spatial vectors, in 60 digits."""
    with mpmath.workdps(60):
        xs, ys = [[mpmath.mpf(float(v)) for v in p] for p in (x, y)]
        lift = [mpmath.sqrt(1 + sum(v * v for v in p)) for p in (xs, ys)]
        product = lift[0] * lift[1] - sum(a * b for a, b in zip(xs, ys, strict=True))
        return float(mpmath.acosh(max(product, mpmath.mpf(1))))


@given(points(2))
def test_points_are_on_the_sheet_and_distance_is_a_metric_value(x):
    assert torch.all(lorentz.residual(x) < 1e-14)
    assert torch.all(x[:, 0] >= 1)
    forward, back = lorentz.distance(x[0], x[1]), lorentz.distance(x[1], x[0])
    assert forward == pytest.approx(back)
    assert lorentz.distance(x[0], x[0]) == 0


@given(points(3))
def test_triangle_inequality(x):
    a, b, c = (lorentz.distance(x[i], x[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert c <= a + b + 1e-9


@pytest.mark.parametrize(
    ("radius", "separation", "bound"), [(1, 0.01, 2e-7), (2, 0.1, 1e-6), (4, 0.01, 1e-3)]
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


@given(points(2))
def test_exp_map_goes_as_far_as_the_tangent_is_long(x):
    tangent = lorentz.to_tangent(x[0], x[1] - x[0])
    norm = lorentz.tangent_norm(x[0], tangent)
    if norm > 20:
        tangent, norm = tangent * (20 / norm), torch.tensor(20.0, dtype=FLOAT64)
    reached = lorentz.exp_map(x[0], tangent)
    assert lorentz.residual(reached) < 1e-12
    if norm < 5:
        assert lorentz.distance(x[0], reached) == pytest.approx(float(norm), rel=1e-5, abs=1e-7)


@given(points(2))
def test_tangent_projection_is_orthogonal_and_idempotent(x):
    tangent = lorentz.to_tangent(x[0], x[1])
    scale = float(x[0].abs().max() ** 2 * x[1].abs().max())
    assert abs(float(lorentz.inner(x[0], tangent))) < 1e-13 * scale * 10
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
