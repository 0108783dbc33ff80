"""HyperML, HyperTS, CML and MF-BPR: what they learn, and who users are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import geoopt
import numpy as np
import pytest
import torch

from hyperrec_core import artefact
from hyperrec_core.evaluate import evaluate, model_scorer, popularity_scorer
from hyperrec_core.fit import TrainConfig, fit
from hyperrec_core.geometry import poincare
from hyperrec_core.models import CONFIGS, ModelConfig, build, restore
from hyperrec_core.models.hyperml import HyperMLConfig
from tests.hyperrec_core.test_triplets import (
    CPU,
    ITEMS,
    USERS,
    VARIANTS,
    D,
    every_variant,
    groups,
    points,
)


def train(config: ModelConfig, **options: Any):
    settings = TrainConfig(model=config, epochs=6, batch_size=64, negatives=64)
    return fit(
        groups(0),
        groups(1, last=True),
        settings,
        items=ITEMS,
        seed=3,
        device=CPU,
        **options,
    )


# --- Learning ------------------------------------------------------------------------------------


@every_variant
@pytest.mark.parametrize("users", ["midpoint", "table"])
def test_it_learns_who_likes_what(variant, users):
    rate = 0.5 if variant == "mf-bpr" else 0.1
    config = replace(VARIANTS[variant], users=users, learning_rate=rate)
    model, progress = train(config)
    assert progress.epochs[-1].loss < progress.epochs[0].loss
    assert model.knows_users == (users == "table")
    test = groups(1, last=True).aligned_to(groups(0))
    counts = np.bincount(groups(0).items, minlength=ITEMS)
    ours, popular = (
        evaluate(scorer, test, items=ITEMS, lags=model.lags, negatives=20, seed=0).ndcg_at_10
        for scorer in (model_scorer(model), popularity_scorer(counts))
    )
    assert ours > 1.5 * popular


def test_an_interaction_is_learned_by_itself():
    sizes = []
    train(
        replace(VARIANTS["cml"], dimensions=2),
        on_batch=lambda done, total, _: sizes.append((done, total)),
    )
    # Segments would overshoot a batch, and put several labels of a user into it.
    assert sizes[0] == (64, 7 * USERS)


def test_the_first_item_of_a_user_is_learned_from_too():
    train_set = groups(0)
    learned = build(
        VARIANTS["hyperml"], counts=torch.ones(ITEMS), users=USERS, seed=1, device=CPU
    ).learn_from(train_set)
    assert len(train_set) == 6 * USERS
    assert len(learned) == 7 * USERS == len(learned.items)
    assert (learned.labels == learned.items).all()
    assert (learned.rows == np.repeat(np.arange(USERS), 7)).all()


def test_points_start_on_the_ball_whatever_its_curvature():
    config = HyperMLConfig(curvature=2000.0, learning_rate=1e-4)
    assert np.isfinite(train(config)[1].epochs[0].loss)


@every_variant
def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit(variant):
    saved = []
    whole, _ = train(
        VARIANTS[variant],
        on_batch=lambda done, _, now: (
            done > 200 and not saved and saved.append(artefact.save_checkpoint(*now()))
        ),
    )
    resumed, _ = train(VARIANTS[variant], resume=artefact.load_checkpoint(saved[0]))
    assert all(torch.equal(x, whole.state()[name]) for name, x in resumed.state().items())


# --- Who users are -------------------------------------------------------------------------------


@every_variant
def test_scores_rank_as_the_models_own_measure_does(variant):
    """By the table's points, in the coordinates that the paper has them in."""
    config = replace(VARIANTS[variant], users="table")
    state = {"target": points(ITEMS, 1), "users": points(USERS, 2)}
    model = restore(config, state, device=CPU)
    batch = groups(1, last=True).batch(np.arange(USERS), lags=4)
    scores = model_scorer(model)(batch)
    u, j = state["users"].unsqueeze(1), state["target"].unsqueeze(0)
    if variant == "hyperts":
        u, j = (poincare.exp_origin(x) for x in (u, j))
    expected = {
        "hyperml": lambda: geoopt.PoincareBall(1.0).dist(u, j).neg(),
        "hyperts": lambda: geoopt.PoincareBall(1.0).dist(u, j).neg(),
        "cml": lambda: (u - j).norm(dim=-1).neg(),
        "mf-bpr": lambda: (u * j).sum(-1),
    }[variant]()
    assert torch.equal(scores.argsort(1), expected.argsort(1))


def test_a_user_is_the_midpoint_that_geoopt_finds():
    config = HyperMLConfig(dimensions=D, curvature=2.0, lags=3, recency=0.5)
    state = {"target": points(ITEMS, 1, c=2.0), "users": points(USERS, 2, c=2.0)}
    model = restore(config, {name: x.float() for name, x in state.items()}, device=CPU)
    data = groups(1, last=True)
    found = model.user_vectors(data.batch(np.arange(USERS), lags=model.lags))
    ball = geoopt.PoincareBall(2.0)
    for user in range(5):
        newest = data.items[data.ends[user] - 3 : data.ends[user]][::-1].copy()
        weights = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
        middle = ball.weighted_midpoint(state["target"][newest], weights=weights)
        own = poincare.from_lorentz(found[user].double(), 2.0)
        torch.testing.assert_close(own, middle, rtol=1e-5, atol=1e-6)


def test_a_stranger_among_the_users_of_a_table_is_at_the_origin():
    config = replace(VARIANTS["hyperml"], users="table")
    model = build(config, counts=torch.ones(ITEMS), users=USERS, seed=1, device=CPU)
    batch = replace(groups(1, last=True), users=np.full(USERS, -1)).batch(np.arange(3), lags=1)
    origin = torch.zeros(3, D + 1)
    origin[:, 0] = 1.0
    assert torch.equal(model.user_vectors(batch), origin)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("hyperml", "curvature", 0.0),
        ("hyperml", "distortion", -0.1),
        ("hyperml", "margin", float("inf")),
        ("hyperml", "negatives_per_label", 0),
        ("hyperml", "learning_rate", 0.0),
        ("cml", "margin", 0.0),
        ("cml", "recency", 0.0),
        ("mf-bpr", "regularisation", -1.0),
    ],
)
def test_a_setting_out_of_range_is_named(kind, setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting} is {value}; it must"):
        CONFIGS[kind](**{setting: value})
