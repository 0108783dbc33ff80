"""A warm start: known items where they were, new ones at their category, fewer epochs needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hyperrec_core.cold import category_midpoints
from hyperrec_core.fit import TrainConfig, fit
from hyperrec_core.histories import Histories
from hyperrec_core.models import PointsConfig, build
from hyperrec_core.spaces import space_of
from hyperrec_core.warm import Earlier, WarmStartError, require_alike, start_state
from tests.hyperrec_core.test_fit import CPU, ITEMS, chains

CONFIG = PointsConfig(dimensions=8, lags=4, tables=2, event_weights=False)
# Item n of the earlier model is item 2n of this one; two of the earlier ones are gone.
EARLIER_IDS = ["gone", *(f"i{2 * n}" for n in range(1, 29)), "gone too", "cold"]
IDS = [f"i{n}" for n in range(ITEMS)]
CATEGORIES = [("even", str(n % 4)) if n % 5 else () for n in range(ITEMS)]
COUNTS = np.arange(ITEMS, 0, -1)


def earlier(config: PointsConfig = CONFIG) -> Earlier:
    """Thirty trained items and a cold one, all tensors unlike those of a new model."""
    counts = torch.ones(30, dtype=torch.int64)
    state = build(config, counts=counts, users=0, seed=7, device=CPU).state()
    generator = torch.Generator().manual_seed(3)
    for name, tensor in state.items():
        if name in ("target", "context"):
            lifted = space_of(config.geometry).lift(
                torch.randn(30, config.dimensions, generator=generator)
            )
            tensor.copy_(lifted)
        else:
            tensor.copy_(1.0 + torch.rand(tensor.shape, generator=generator))
    return Earlier(config, state, EARLIER_IDS)


def started(config: PointsConfig = CONFIG, of: Earlier | None = None, **settings):
    return start_state(
        config,
        of or earlier(),
        **{"item_ids": IDS, "categories": CATEGORIES, "counts": COUNTS, "seed": 5} | settings,
    )


def untrained(config: PointsConfig = CONFIG):
    counts = torch.from_numpy(COUNTS)
    return build(config, counts=counts, users=0, seed=5, device=CPU).state()


@pytest.mark.parametrize("geometry", ["hyperboloid", "inner_product"])
def test_every_item_starts_where_it_should(geometry):
    config = replace(CONFIG, geometry=geometry)
    before, fresh = earlier(config), untrained(config)
    state = started(config, before)
    assert state.keys() == fresh.keys()
    known = [n for n in range(2, 58) if n % 2 == 0]
    rows = [n // 2 for n in known]
    for name in ("target", "context"):
        assert torch.equal(state[name][known], before.state[name][rows])
        points = state[name][known]
        paths = [CATEGORIES[n] for n in known]
        for n in set(range(ITEMS)) - set(known):
            if n % 5 == 0:  # no category
                assert torch.equal(state[name][n], fresh[name][n])
                continue
            # Odd items share the department but no category with those known.
            [midpoint], [level] = category_midpoints(
                space_of(config.geometry), points, paths, [CATEGORIES[n]]
            )
            assert level == (2 if n % 2 == 0 else 1)
            assert torch.equal(state[name][n], midpoint)


def test_a_settled_item_moves_less_and_a_new_one_freely():
    before, fresh, state = earlier(), untrained(), started()
    for name in ("target.sums", "context.sums"):
        torch.testing.assert_close(state[name][2:58:2], 0.1 * before.state[name][1:29])
        assert torch.equal(state[name][1::2], fresh[name][1::2])


def test_nothing_starts_without_a_sum_however_often_models_follow_each_other():
    # A sum of 0 would be divided by.
    known, following = earlier(), None
    for _ in range(60):
        known.state["target.sums"].zero_()
        known.state["lag_sums"].zero_()
        following = started(of=known)
        known = Earlier(CONFIG, {k: v[:30] if v.dim() else v for k, v in following.items()}, IDS)
    assert following is not None
    assert (following["target.sums"] > 0).all()
    assert (following["lag_sums"] > 0).all()


def test_weights_go_on_where_both_models_learn_as_many():
    before = earlier(replace(CONFIG, event_weights=True, learn_scale=True))
    own = replace(CONFIG, event_weights=True, learn_scale=True)
    state = started(own, before)
    for name in ("lag_logits", "event_logits", "log_scale"):
        assert torch.equal(state[name], before.state[name])
    for other in (replace(own, lags=9), replace(own, aggregator="exponential")):
        assert torch.equal(started(other, before)["lag_logits"], untrained(other)["lag_logits"])
    plain = started(CONFIG, before)
    assert plain.keys() == untrained().keys()


def test_another_optimiser_starts_anew():
    other = replace(CONFIG, optimiser="adam")
    state = started(other, earlier())
    assert torch.equal(state["target.second"], untrained(other)["target.second"])
    again = started(other, earlier(other))
    assert torch.equal(
        again["target.momentum"][2:58:2], earlier(other).state["target.momentum"][1:29]
    )


def test_with_nothing_in_common_the_start_is_an_untrained_one():
    state = started(of=replace(earlier(), item_ids=["x"] * 31))
    for name in ("target", "context", "target.sums"):
        assert torch.equal(state[name], untrained()[name])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"geometry": "inner_product"}, "its model.geometry is inner_product and here it is hyper"),
        ({"dimensions": 9}, "its model.dimensions is 9 and here it is 8"),
        ({"tables": 1}, "its model.tables is 1 and here it is 2"),
        ({"users": "table", "tables": 1}, "its model.users is table and here it is midpoint"),
    ],
)
def test_a_model_of_another_kind_is_refused(change, says):
    with pytest.raises(WarmStartError, match=says):
        started(of=replace(earlier(), config=replace(CONFIG, **change)))


def test_a_model_with_user_points_is_refused():
    symmetric = replace(CONFIG, users="table", tables=1)
    with pytest.raises(WarmStartError, match="users whose ids are not kept"):
        require_alike(symmetric, symmetric)


def learnt(train: Histories, epochs: int, start: dict[str, torch.Tensor] | None = None):
    config = TrainConfig(
        epochs=epochs,
        batch_size=64,
        negatives=30,
        model=PointsConfig(dimensions=8, lags=4, tables=1, learning_rate=0.1),
    )
    last = chains(200, 1, last=True)
    model, progress = fit(train, last, config, items=ITEMS, seed=1, device=CPU, start=start)
    return config.model, model, progress.epochs[progress.best_epoch - 1].ndcg_at_10


def test_one_epoch_from_an_earlier_model_is_worth_several_from_nothing():
    config, model, _ = learnt(chains(200, 0), 8)
    # So few that three epochs do not reach the ceiling, where rounding would decide.
    later = chains(100, 0)
    start = start_state(
        config,
        Earlier(config, model.state(), IDS),
        item_ids=IDS,
        categories=CATEGORIES,
        counts=np.bincount(later.items, minlength=ITEMS),
        seed=1,
    )
    warm = learnt(later, 1, start)[2]
    assert warm > learnt(later, 1)[2] + 0.05
    assert warm > learnt(later, 3)[2]
