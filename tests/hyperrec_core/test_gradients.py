"""Gradients against finite differences, against closed forms, and where they could go wrong.

The closed forms are those that Chamberlain et al. 2019 derive in eq. 18 and 28-33: of the distance
by a point, of the Einstein midpoint by its items and of the WMRB loss.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core import losses, midpoint
from hyperrec_core.geometry import klein, lorentz, poincare
from tests.hyperrec_core import spaces
from tests.hyperrec_core.spaces import seeds
from tests.hyperrec_core.test_losses import plain_wmrb

FLOAT64 = torch.float64


def gradients(function, *inputs):
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    return torch.autograd.grad(function(*leaves).sum(), leaves)


def tangent_gradient(function, x, *others):
    """The Riemannian gradient by the first argument."""
    return lorentz.riemannian_gradient(x, gradients(function, x, *others)[0])


def on_sheet(function):
    """The function of spatial coordinates, whose lifts stay on the sheet when one is varied."""
    return lambda *spatial: function(*(lorentz.from_spatial(s) for s in spatial))


def spatial(seed, *shape, width=1.0):
    values = width * torch.randn(*shape, generator=spaces.generator(seed), dtype=FLOAT64)
    return values.requires_grad_()


@pytest.mark.parametrize("width", [0.01, 1.0, 10.0])
@pytest.mark.parametrize(
    "function",
    [
        lorentz.distance,
        lorentz.squared_chord,
        lorentz.arccosh_distance,
        lorentz.guarded_distance,
        lorentz.pairwise_distance,
        lorentz.log_map,
        lambda x, y: lorentz.exp_map(x, lorentz.to_tangent(x, y - x) / (1 + y[..., :1])),
        lambda x, y: lorentz.transport(x, y, lorentz.log_map(x, lorentz.flip_time(-y))),
        lambda x, _: lorentz.radius(x),
        lambda x, y: midpoint.normalise(x + 2 * y),
        lambda x, y: klein.distance(klein.from_lorentz(x), klein.from_lorentz(y)),
        lambda x, y: klein.to_lorentz(
            klein.einstein_midpoint(
                torch.stack((klein.from_lorentz(x), klein.from_lorentz(y)), -2),
                torch.tensor([1.0, 3.0], dtype=FLOAT64),
                gamma=klein.printed_gamma,
            )
        ),
        lambda x, y: poincare.distance(poincare.from_lorentz(x), poincare.from_lorentz(y)),
        lambda x, y: poincare.log_map(poincare.from_lorentz(x, 2), poincare.from_lorentz(y, 2), 2),
        lambda x, y: poincare.exp_map(poincare.from_lorentz(x), 0.1 * poincare.from_lorentz(y)),
        lambda x, _: poincare.exp_origin(poincare.log_origin(poincare.from_lorentz(x, 3), 3), 3),
        lambda x, y: poincare.transport(
            poincare.from_lorentz(x), poincare.from_lorentz(y), x[..., 1:]
        ),
    ],
)
def test_gradients_are_those_of_finite_differences(function, width):
    inputs = (spatial(1, 3, 2, width=width), spatial(2, 3, 2, width=width))
    scale = min(1.0, width)
    assert torch.autograd.gradcheck(
        on_sheet(function), inputs, eps=1e-6 * scale, rtol=1e-4, atol=1e-4
    )


@given(seeds, st.sampled_from([1e-3, 1.0, 3.0, 6.0]))
def test_gradient_of_the_distance_is_eq_18(seed, radius):
    """-(<u, v>^2 - 1)^(-1/2) v in the ambient space; its tangent part is the unit vector -Log."""
    u, v = spaces.points(seed, 5, radius), spaces.points(seed + 1, 5, radius)
    found = tangent_gradient(lorentz.distance, u, v)
    away = -lorentz.log_map(u, v) / lorentz.distance(u, v).unsqueeze(-1)
    assert torch.all(lorentz.tangent_norm(u, found - away) < 1e-9)
    torch.testing.assert_close(
        lorentz.tangent_norm(u, found), torch.ones(5, dtype=FLOAT64), rtol=1e-9, atol=0
    )
    if radius >= 1:
        sinh = (lorentz.inner(u, v).square() - 1).sqrt().unsqueeze(-1)
        printed = lorentz.to_tangent(u, -v / sinh)
        assert torch.all(lorentz.tangent_norm(u, found - printed) < 1e-6)
    by_pairs = tangent_gradient(lambda x: lorentz.pairwise_distance(x, v).diagonal(), u)
    assert torch.all(lorentz.tangent_norm(u, found - by_pairs) < 1e-4)
    squared = tangent_gradient(lambda x: lorentz.distance(x, v).square() / 2, u)
    missed = squared + lorentz.log_map(u, v)
    assert torch.all(lorentz.tangent_norm(u, missed) < 1e-9 * math.cosh(radius))


@given(seeds)
def test_gradient_of_the_inner_product_is_the_other_point_projected(seed):
    u, v = spaces.points(seed, 5), spaces.points(seed + 1, 5)
    torch.testing.assert_close(
        tangent_gradient(lorentz.inner, u, v), lorentz.to_tangent(u, v), rtol=1e-10, atol=1e-10
    )


@given(seeds, st.integers(1, 6))
def test_gradient_of_the_centroid_by_an_item(seed, count):
    """p = s / sqrt(-<s, s>): dp = w (dx + <p, dx> p) / sqrt(-<s, s>), the projection of dx at p."""
    x = spaces.points(seed, count)
    weights = torch.rand(count, generator=spaces.generator(seed), dtype=FLOAT64) + 0.1
    upstream = torch.randn(5, generator=spaces.generator(seed + 1), dtype=FLOAT64)

    def user(items):
        index = torch.arange(count)
        return midpoint.centroids(items, index, torch.tensor([0]), weights)[0]

    (found,) = gradients(lambda items: user(items) @ upstream, x)
    p, total = user(x), weights @ x
    length = (-lorentz.inner(total, total)).sqrt()
    # The transposed projection: g + (g . p) flip_time(p).
    expected = weights.unsqueeze(-1) / length * (upstream + (upstream @ p) * lorentz.flip_time(p))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


@given(seeds, st.integers(1, 6), st.booleans())
def test_gradient_of_the_einstein_midpoint_by_an_item_in_klein_coordinates(seed, count, printed):
    """dp/dx_i = w_i (gamma_i I + (x_i - p) grad(gamma_i)^T) / sum w gamma.

    grad gamma is gamma^3 x for the Lorentz factor and 2 gamma^2 x for eq. 25 as printed.
    """
    x = klein.from_lorentz(spaces.points(seed, count, 2.0))
    weights = torch.rand(count, generator=spaces.generator(seed), dtype=FLOAT64) + 0.1
    function = klein.printed_gamma if printed else klein.lorentz_factor
    gamma = function(x)
    p = klein.einstein_midpoint(x, weights, gamma=function)
    slope = (2 * gamma**2 if printed else gamma**3).unsqueeze(-1) * x
    own = gamma[:, None, None] * torch.eye(4, dtype=FLOAT64)
    own = own + (x - p).unsqueeze(-1) * slope.unsqueeze(-2)
    expected = (weights / (weights @ gamma))[:, None, None] * own
    found = torch.autograd.functional.jacobian(
        lambda items: klein.einstein_midpoint(items, weights, gamma=function), x
    ).transpose(0, 1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@given(seeds, st.integers(1, 7), st.sampled_from([5.0, 100.0]))
def test_gradient_of_wmrb(seed, negatives, list_size):
    """dL/ds_k = n/N [violated] / (1 + r) for a negative, and minus their sum for the label."""
    random = spaces.generator(seed)
    positive = torch.randn(3, generator=random, dtype=FLOAT64)
    scores = torch.randn(3, negatives, generator=random, dtype=FLOAT64)
    violation = (scores - positive.unsqueeze(-1) + 1).clamp_min(0)
    r = list_size / negatives * violation.sum(-1, keepdim=True)
    expected = list_size / negatives * (violation > 0) / (1 + r) / 3
    found = losses.wmrb(positive, scores, list_size=list_size)
    torch.testing.assert_close(found.negative, expected)
    torch.testing.assert_close(found.positive, -expected.sum(-1))


@given(seeds, st.integers(1, 4))
def test_the_chain_of_the_model_against_finite_differences(seed, history):
    """WMRB of the distances from the midpoint of a history, single items included, on the sheet."""
    random = spaces.generator(seed)
    items = 0.7 * torch.randn(history + 4, 3, generator=random, dtype=FLOAT64)

    def loss(points):
        user = midpoint.normalise(lorentz.to_sheet(points)[:history].sum(0, keepdim=True))
        scores = -lorentz.pairwise_distance(user, points[history:])
        return plain_wmrb(scores[:, 0], scores[:, 1:], torch.tensor(False), 100.0)

    x = lorentz.from_spatial(items)
    tangent = tangent_gradient(loss, x)
    direction = spaces.tangents(seed + 1, x, 1.0)
    step = 1e-5
    ahead, behind = (loss(lorentz.exp_map(x, k * step * direction)) for k in (1, -1))
    slope = float(ahead - behind) / (2 * step)
    found = float(lorentz.inner(tangent, direction).sum())
    assert found == pytest.approx(slope, rel=1e-4, abs=1e-4)


PAIRS = {
    "distance": lorentz.distance,
    "squared distance": lambda x, y: lorentz.distance(x, y).square(),
    "pairwise": lorentz.pairwise_distance,
    "arccosh": lorentz.arccosh_distance,
    "guarded": lorentz.guarded_distance,
    "inner": lorentz.inner,
    "log": lorentz.log_map,
    "transport": lambda x, y: lorentz.transport(x, y, lorentz.to_tangent(x, y)),
    "exp of nothing": lambda x, y: lorentz.exp_map(x, lorentz.log_map(x, y)),
    "midpoint": lambda x, y: lorentz.distance(midpoint.normalise(x + y), x),
    "klein": lambda x, y: klein.distance(klein.from_lorentz(x), klein.from_lorentz(y)),
    "poincaré": lambda x, y: poincare.distance(poincare.from_lorentz(x), poincare.from_lorentz(y)),
    "poincaré log": lambda x, y: poincare.log_map(
        poincare.from_lorentz(x, 2.0), poincare.from_lorentz(y, 2.0), 2.0
    ),
}


@spaces.devices
@spaces.dtypes
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_finite_where_points_coincide_or_nearly(name, dtype, device):
    # The Klein ball ends at radius 4 in float32.
    radii = (0.0, 1e-20, 1e-3, 1.0, 4.0) if name == "klein" else (0.0, 1e-20, 1e-3, 1.0, 5.0, 8.0)
    for radius in radii:
        x = spaces.points(3, 6, 1.0)
        x = lorentz.from_spatial(x[:, 1:] / x[:, 1:].norm(dim=-1, keepdim=True) * math.sinh(radius))
        for shift in (0.0, 1e-30, 1e-12, 1e-6):
            y = lorentz.from_spatial(x[:, 1:] * (1 + shift) + shift)
            narrow = x.to(device, dtype), y.to(device, dtype)
            for gradient in gradients(PAIRS[name], *narrow):
                assert torch.all(torch.isfinite(gradient)), (radius, shift)


@spaces.devices
@spaces.dtypes
def test_the_gradient_of_the_distance_of_coincident_points_is_zero(dtype, device):
    x = spaces.points(0, 6, 5.0).to(device, dtype)
    for gradient in gradients(lorentz.distance, x, x):
        assert torch.all(gradient == 0)
    # Around a matrix product coincidence is rounding: the tangent gradient is no longer than one.
    found = tangent_gradient(lambda u: lorentz.pairwise_distance(u, x).diagonal(), x)
    assert torch.all(lorentz.tangent_norm(x, found) < 1.5 * x[:, 0])


@spaces.devices
@pytest.mark.parametrize(
    ("radius", "bound"), [(1e-3, 1e-6), (1.0, 1e-6), (4.0, 2e-5), (6.0, 2e-4), (8.0, 2e-3)]
)
def test_float32_gradients_point_the_right_way_to_where_float32_stops_resolving(
    radius, bound, device
):
    x, y = (spaces.points(seed, 200, radius, 16) for seed in (0, 1))
    x, y = (lorentz.from_spatial(point[:, 1:].to(device, torch.float32)) for point in (x, y))
    found = tangent_gradient(lorentz.distance, x, y).cpu().double()
    wide = [lorentz.to_sheet(point.cpu().double()) for point in (x, y)]
    missed = found - tangent_gradient(lorentz.distance, *wide)
    assert float(lorentz.tangent_norm(wide[0], missed).quantile(0.95)) < bound


@given(seeds)
def test_of_a_single_item_history_the_item_moves_as_its_user(seed):
    """The midpoint of one item is the item, so their tangent gradients are the same."""
    x, target = spaces.points(seed, 2).unsqueeze(1)
    weight = torch.rand((), generator=spaces.generator(seed), dtype=FLOAT64) + 0.1
    through = tangent_gradient(
        lambda item: lorentz.distance(midpoint.normalise(weight * item), target), x
    )
    direct = tangent_gradient(lorentz.distance, x, target)
    torch.testing.assert_close(through, direct, rtol=1e-8, atol=1e-9)
    itself = tangent_gradient(
        lambda item: lorentz.distance(midpoint.normalise(weight * item), item), x
    )
    assert torch.all(torch.isfinite(itself))
