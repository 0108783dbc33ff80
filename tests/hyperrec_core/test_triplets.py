"""HyperML, HyperTS, CML and MF-BPR: printed equations, and steps."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import geoopt
import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from hyperrec_core.examples import Shuffled
from hyperrec_core.geometry import poincare
from hyperrec_core.histories import Histories
from hyperrec_core.models import ModelConfig, build, restore
from hyperrec_core.models.cml import CMLConfig, UnitBall
from hyperrec_core.models.hyperml import Ball, HyperMLConfig
from hyperrec_core.models.mf_bpr import Factors, MFBPRConfig
from tests.hyperrec_core.test_histories import table

CPU = torch.device("cpu")
D, ITEMS, USERS = 5, 40, 120
VARIANTS: dict[str, ModelConfig] = {
    "hyperml": HyperMLConfig(dimensions=D),
    "hyperts": HyperMLConfig(dimensions=D, tangent=True),
    "cml": CMLConfig(dimensions=D),
    "mf-bpr": MFBPRConfig(dimensions=D),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def points(rows: int, seed: int, *, c: float = 1.0, radius: float = 0.6) -> Tensor:
    """Points well inside the ball, float64."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=rng, dtype=torch.float64)
    length = radius * torch.rand(rows, 1, generator=rng, dtype=torch.float64) / c**0.5
    return torch.nn.functional.normalize(x, dim=1) * length


def groups(seed: int, *, last: bool = False) -> Histories:
    """Users take items of one of four groups of ten, in any order."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        items = (10 * (user % 4) + rng.permutation(10)[:7]).tolist()
        labels = [False] * 6 + [True] if last else [False] + [True] * 6
        rows.append((f"u{user:04d}", items, list(range(7)), labels))
    return Histories.from_tables([table(rows)], items=ITEMS)


# --- Equations -----------------------------------------------------------------------------------


def mobius(x: Any, y: Any, c: float) -> Any:
    """Eq. 4, as printed."""
    xy, xx, yy = ((a.T * b)[0] for a, b in ((x, y), (x, x), (y, y)))
    above = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    return above / (1 + 2 * c * xy + c**2 * xx * yy)


def hyperbolic(x: Any, y: Any, c: float) -> Any:
    """Eq. 9-10, as printed."""
    root = mpmath.sqrt(c)
    return 2 / root * mpmath.atanh(root * mpmath.norm(mobius(-x, y, c)))


def printed_loss(u: Any, j: Any, k: Any, config: HyperMLConfig) -> Any:
    """Eq. 11-13 by hand, of points of the ball."""
    c = config.curvature
    near, far = hyperbolic(u, j, c), hyperbolic(u, k, c)

    def tangent(x: Any) -> Any:
        length = mpmath.norm(x)
        return mpmath.atanh(mpmath.sqrt(c) * length) / (mpmath.sqrt(c) * length) * x

    def distortion(curved: Any, x: Any) -> Any:
        flat = 2 * mpmath.norm(tangent(u) - tangent(x))
        return abs(curved - flat) / flat

    hinge = max(config.margin + near**2 - far**2, 0)
    return hinge + config.distortion * (distortion(near, j) + distortion(far, k))


@pytest.mark.parametrize(
    ("c", "margin", "gamma"), list(itertools.product((0.5, 1.0, 8.0), (0.1, 0.5), (0.0, 0.7)))
)
def test_the_loss_is_the_printed_one(c, margin, gamma):
    config = HyperMLConfig(dimensions=D, curvature=c, margin=margin, distortion=gamma)
    u, j, k = (points(20, seed, c=c) for seed in range(3))
    found = Ball(config).loss(u.unsqueeze(1), j.unsqueeze(1), k.unsqueeze(1)).squeeze(1)
    assert (found > 0).any()
    with mpmath.workdps(40):
        for row in range(20):
            vectors = [mpmath.matrix(x[row].tolist()) for x in (u, j, k)]
            expected = printed_loss(*vectors, config)
            assert float(found[row]) == pytest.approx(float(expected), rel=1e-11, abs=1e-12)


def test_hyperts_has_the_same_loss_of_points_over_tangent_vectors():
    flat = HyperMLConfig(dimensions=D, curvature=2.0, tangent=True)
    u, j, k = (points(20, seed, c=2.0).unsqueeze(1) for seed in range(3))
    on_ball = Ball(replace(flat, tangent=False)).loss(u, j, k)
    tangents = [poincare.log_origin(x, 2.0) for x in (u, j, k)]
    torch.testing.assert_close(Ball(flat).loss(*tangents), on_ball)


def test_cml_and_bpr_by_hand():
    u = torch.tensor([[[0.1, 0.2]]])
    j, k = torch.tensor([[[0.3, 0.2]]]), torch.tensor([[[0.1, 0.7], [0.1, 0.3]]])
    found = UnitBall(CMLConfig(dimensions=2, margin=0.1)).loss(u, j, k)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.1 + 0.04 - 0.01]]))
    found = Factors(MFBPRConfig(dimensions=2, regularisation=0.5)).loss(u, j, k[:, :1])
    worse = (0.01 + 0.14) - (0.03 + 0.04)
    expected = np.log1p(np.exp(worse)) + 0.25 * (0.05 + 0.13 + 0.5)
    torch.testing.assert_close(found, torch.tensor([[expected]], dtype=torch.float32))


def test_two_points_at_one_place_have_finite_gradients():
    u = torch.zeros(1, 1, D, requires_grad=True)
    j, k = u.detach().clone().requires_grad_(), u.detach().clone().requires_grad_()
    for tangent in (False, True):
        loss = Ball(HyperMLConfig(dimensions=D, tangent=tangent)).loss(u, j, k).sum()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (u, j, k)))


def test_points_start_where_the_paper_says():
    start = Ball(HyperMLConfig()).initial(1000, 64, torch.Generator().manual_seed(0))
    alpha = (3 * 0.01**2 / (2 * 64)) ** (1 / 3)
    assert start.abs().max() <= alpha
    assert start.abs().max() > 0.99 * alpha
    assert abs(start.mean()) < alpha / 50


# --- Steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.5, 1.0, 8.0])
def test_a_step_is_riemannian_sgd(c):
    x, gradient, rate = points(30, 5, c=c), torch.randn(30, D, dtype=torch.float64), 0.01
    config = HyperMLConfig(dimensions=D, curvature=c)
    moved = Ball(config).move(x, gradient, rate)
    by_hand = x - rate * (1 - c * x.square().sum(1, keepdim=True)) ** 2 / 4 * gradient
    torch.testing.assert_close(moved, by_hand)
    ball = geoopt.PoincareBall(c)
    torch.testing.assert_close(moved, ball.retr(x, -rate * ball.egrad2rgrad(x, gradient)))


@pytest.mark.parametrize("tangent", [False, True])
def test_regularisation_draws_a_share_of_the_way_to_the_origin(tangent):
    x, still = points(30, 5, c=2.0), torch.zeros(30, D, dtype=torch.float64)
    x[0] = 0.0
    config = HyperMLConfig(dimensions=D, curvature=2.0, tangent=tangent, regularisation=0.5)
    ball, rate = Ball(config), 0.2
    for dtype in (torch.float64, torch.float32):  # the second is the compiled step
        moved = ball.move(x.to(dtype), still.to(dtype), rate)
        before, after = (ball.lift(y)[:, 0].acosh() for y in (x, moved.double()))
        torch.testing.assert_close(after, 0.9 * before, rtol=1e-3, atol=1e-6)
        if not tangent:
            # A step of Riemannian SGD against lambda d(0, x)^2 / 2.
            away = geoopt.PoincareBall(2.0).expmap0(
                0.9 * geoopt.PoincareBall(2.0).logmap0(x.to(dtype))
            )
            torch.testing.assert_close(moved, away)
    assert not ball.move(x, still, 10.0).any()
    drawn = UnitBall(CMLConfig(dimensions=D, regularisation=0.5)).move(x, still, rate)
    torch.testing.assert_close(drawn, 0.9 * x)


def test_no_step_leaves_the_ball_or_is_too_long():
    x, gradient = points(30, 5, radius=0.99), 1e6 * torch.randn(30, D, dtype=torch.float64)
    moved = Ball(HyperMLConfig(dimensions=D)).move(x, gradient, 1.0)
    assert (moved.norm(dim=1) < 1.0).all()
    near = x.norm(dim=1) < 0.5
    assert poincare.distance(x, moved)[near].max() < 0.25
    far = UnitBall(CMLConfig(dimensions=D)).move(x, gradient, 1.0)
    torch.testing.assert_close(far.norm(dim=1), torch.ones(30, dtype=torch.float64))


@every_variant
def test_a_batch_moves_its_rows_by_the_summed_gradient_of_its_triples(variant):
    """In float64, beside finite differences of the loss of the whole batch."""
    config = replace(VARIANTS[variant], negatives_per_label=3)
    model = build(config, counts=torch.ones(ITEMS), users=USERS, seed=1, device=CPU)
    state = {"target": points(ITEMS, 1), "users": points(USERS, 2)}
    model = restore(config, {name: x.clone() for name, x in state.items()}, device=CPU)
    learned = model.learn_from(groups(0))
    shuffled = Shuffled(
        learned, seed=1, number=1, batch_size=8, lags=4, per_history=9, negatives=20, items=ITEMS
    )
    batch = model.prepare(next(iter(shuffled.batches())))
    triples = batch.rows
    users, positives, negatives = (torch.from_numpy(x).long() for x in triples[:3])
    counts = torch.from_numpy(~triples.seen).double()
    assert (counts == 0).any()
    rows = learned.offsets[triples.users]
    for row, user in enumerate(triples.users):
        own = learned.items[rows[row] : learned.offsets[user + 1]]
        assert triples.positives[row] in own
        assert [k in own for k in triples.negatives[row]] == triples.seen[row].tolist()
    loss = model.step(batch, rate=1e-3, meanwhile=lambda: None)

    metric = model._metric

    def cost(tables: dict[str, Tensor]) -> Tensor:
        u = tables["users"][users].unsqueeze(1)
        j = tables["target"][positives].unsqueeze(1)
        k = tables["target"][negatives]
        return (metric.loss(u, j, k) * counts).sum() / 3

    torch.testing.assert_close(loss, cost(state) / (counts.sum() / 3))
    small = 1e-6
    for name, rows_of in (("users", users), ("target", positives)):
        row = int(rows_of[0])
        slope = torch.zeros(D, dtype=torch.float64)
        for axis in range(D):
            ends = []
            for sign in (1, -1):
                moved = {n: x.clone() for n, x in state.items()}
                moved[name][row, axis] += sign * small
                ends.append(cost(moved))
            slope[axis] = (ends[0] - ends[1]) / (2 * small)
        rate = 1e-3 * config.learning_rate
        expected = metric.move(state[name][row : row + 1], slope.unsqueeze(0), rate)
        torch.testing.assert_close(model.state()[name][row], expected[0], rtol=0, atol=1e-10)
    untouched = set(range(USERS)) - set(users.tolist())
    keep = torch.tensor(sorted(untouched))
    assert torch.equal(model.state()["users"][keep], state["users"][keep])


KERNELS: dict[str, ModelConfig] = {
    "hyperml": HyperMLConfig(dimensions=D, distortion=0.0),
    "distorted": HyperMLConfig(dimensions=D, distortion=0.7, curvature=0.5),
    "curved": HyperMLConfig(dimensions=D, distortion=0.3, curvature=8.0, margin=0.1),
    "hyperts": HyperMLConfig(dimensions=D, distortion=0.3, curvature=2.0, tangent=True),
    "hyperts, drawn in": HyperMLConfig(dimensions=D, tangent=True, regularisation=0.5),
    "drawn in": HyperMLConfig(dimensions=D, curvature=2.0, regularisation=0.5),
    "cml": CMLConfig(dimensions=D),
    "mf-bpr": MFBPRConfig(dimensions=D, regularisation=0.3),
}


@pytest.mark.parametrize("variant", KERNELS)
def test_the_compiled_step_is_that_of_the_tensor_code(variant):
    config = replace(KERNELS[variant], negatives_per_label=3)
    c = getattr(config, "curvature", 1.0)
    state = {"target": points(ITEMS, 1, c=c), "users": points(USERS, 2, c=c)}
    # Two points at one place, and two at the origin.
    state["users"][:10] = state["target"][:10]
    state["users"][10], state["target"][10] = 0.0, 0.0
    exact, compiled = (
        restore(config, {name: x.to(dtype, copy=True) for name, x in state.items()}, device=CPU)
        for dtype in (torch.float64, torch.float32)
    )
    shuffled = Shuffled(
        exact.learn_from(groups(0)), seed=1, number=1, batch_size=300, lags=4, per_history=9,
        negatives=700, items=ITEMS,
    )  # fmt: skip
    batch = exact.prepare(next(iter(shuffled.batches())))
    assert batch.rows.seen.any()
    losses = [model.step(batch, rate=0.1, meanwhile=lambda: None) for model in (exact, compiled)]
    assert isinstance(losses[1], float)
    assert losses[1] == pytest.approx(float(losses[0]), rel=1e-5)
    for name, before in state.items():
        assert not torch.equal(exact.state()[name], before)
        torch.testing.assert_close(
            compiled.state()[name].double(), exact.state()[name], rtol=2e-4, atol=2e-6
        )
