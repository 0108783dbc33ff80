"""Steps against geoopt's optimisers, and what an adaptive step promises."""

import geoopt
import pytest
import torch

from hyperrec_core import optim
from hyperrec_core.geometry import lorentz
from hyperrec_core.spaces import Flat, Hyperboloid
from tests.hyperrec_core.test_points import ITEMS

SPACES = {"hyperboloid": Hyperboloid(), "flat": Flat()}


def points(space, seed=0, rows=ITEMS):
    generator = torch.Generator().manual_seed(seed)
    return space.lift(torch.randn(rows, 4, generator=generator, dtype=torch.float64))


def gradients(table, steps):
    """Of a loss that changes every step, as a stochastic one does."""
    generator = torch.Generator().manual_seed(9)
    return [
        torch.randn(table.shape, generator=generator, dtype=torch.float64) for _ in range(steps)
    ]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("rsgd", geoopt.optim.RiemannianSGD), ("adam", geoopt.optim.RiemannianAdam)],
)
def test_steps_equal_geoopts(name, theirs):
    space, rate = SPACES["hyperboloid"], 0.05
    table = points(space)
    manifold = geoopt.Lorentz()
    parameter = geoopt.ManifoldParameter(table.clone(), manifold=manifold)
    optimiser = theirs([parameter], lr=rate)
    state = {k: v.double() for k, v in optim.new_state(name, table).items()}
    for gradient in gradients(table, 5):
        # geoopt changes the gradient it is given.
        parameter.grad = gradient.clone()
        optimiser.step()
        step(name, space, table, state, gradient, rate)
    torch.testing.assert_close(table, parameter.detach(), rtol=1e-6, atol=1e-6)


def step(name, space, table, state, gradient, rate, *, maximum=1e9, pull=0.0, rows=None):
    rows = torch.arange(len(table)) if rows is None else rows
    optim.step_(
        name,
        space,
        table,
        state,
        rows,
        gradient[rows],
        learning_rate=rate,
        maximum_step=maximum,
        pull=pull,
    )


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("name", ["rsgd", "adagrad", "adam"])
def test_only_the_named_rows_move_and_no_step_is_longer_than_allowed(name, space):
    table = points(space)
    before, state = table.clone(), {k: v.double() for k, v in optim.new_state(name, table).items()}
    rows = torch.tensor([7, 2])
    (gradient,) = gradients(table, 1)
    step(name, space, table, state, 100 * gradient, 1.0, maximum=0.3, rows=rows)
    moved = (
        lorentz.distance(before, table)
        if isinstance(space, Hyperboloid)
        else (before - table).norm(dim=1)
    )
    still = torch.ones(len(table), dtype=torch.bool)
    still[rows] = False
    assert torch.equal(table[still], before[still])
    torch.testing.assert_close(moved[rows], torch.full((2,), 0.3, dtype=torch.float64))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_the_first_adaptive_step_is_as_long_as_the_rate_whatever_the_gradient(space):
    for size in (1e-3, 1.0, 1e3):
        table = points(space)
        before, state = table.clone(), optim.new_state("adagrad", table)
        state = {k: v.double() for k, v in state.items()}
        step("adagrad", space, table, state, size * gradients(table, 1)[0], 0.2)
        radius = (
            lorentz.distance(before, table)
            if isinstance(space, Hyperboloid)
            else (before - table).norm(dim=1)
        )
        torch.testing.assert_close(radius, torch.full_like(radius, 0.2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_pull_takes_its_share_of_the_radius(space):
    table = points(space)
    before, state = table.clone(), optim.new_state("rsgd", table)
    step("rsgd", space, table, state, torch.zeros_like(table), 1.0, pull=0.25)
    radius = lorentz.radius if isinstance(space, Hyperboloid) else lambda x: x[:, 1:].norm(dim=1)
    torch.testing.assert_close(radius(table), 0.75 * radius(before))
    torch.testing.assert_close(
        torch.nn.functional.normalize(table[:, 1:]), torch.nn.functional.normalize(before[:, 1:])
    )


@pytest.mark.parametrize("name", ["rsgd", "adagrad", "adam"])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_vanishing_gradient_leaves_the_points_where_they_are(space, name):
    table = points(space)
    before, state = table.clone(), {k: v.double() for k, v in optim.new_state(name, table).items()}
    step(name, space, table, state, torch.zeros_like(table), 0.5)
    torch.testing.assert_close(table, before)
