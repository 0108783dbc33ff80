"""HVACF: its equations by another library, steps, what it learns, and that it is read as judged."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import geoopt
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from hyperrec_core import artefact, soundness
from hyperrec_core.evaluate import evaluate, model_scorer, popularity_scorer
from hyperrec_core.examples import Shuffled
from hyperrec_core.fit import TrainConfig, fit
from hyperrec_core.geometry import lorentz, poincare
from hyperrec_core.histories import Histories
from hyperrec_core.models import build, restore, uses_features
from hyperrec_core.models.hvacf import HVACF, HVACFConfig
from hyperrec_core.threads import one_thread
from serving_export import attention, userpoint
from tests.hyperrec_core.test_triplets import ITEMS, USERS, groups, table

CPU = torch.device("cpu")
D, F = 5, 7
BALL = geoopt.PoincareBall(1.0)
ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "without-attention": {"attention": False},
    "without-features": {"features": False},
    "without-euclidean": {"euclidean": False},
    "without-adjustment": {"adjustment": 0.0},
}


@pytest.fixture(autouse=True)
def small_tensors() -> Iterator[None]:
    """Threads would cost tensors of this size more than they do."""
    with one_thread():
        yield


def features() -> Tensor:
    return torch.randn(ITEMS, F, generator=torch.Generator().manual_seed(4))


def random_model(*, dtype: torch.dtype = torch.float64, **settings: Any) -> HVACF:
    """A model with every number of its own, points well inside the ball."""
    config = HVACFConfig(**{"dimensions": D, "lags": 4, "recency": 0.8} | settings)
    made = build(
        config, counts=torch.ones(ITEMS), users=USERS, seed=1, device=CPU, features=features()
    )
    rng = torch.Generator().manual_seed(2)
    state = {}
    for name, tensor in made.state().items():
        state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if name in ("target", "users"):
            drawn = 0.3 * torch.randn(len(tensor), D, generator=rng, dtype=dtype)
            state[name] = lorentz.from_spatial(drawn)
        elif "." not in name and tensor.is_floating_point():
            # geoopt draws points beyond 1 - 1e-5 back: features are to leave them far inside.
            scale = 0.1 if name == "projection" else 0.5
            state[name] = scale * torch.randn(tensor.shape, generator=rng, dtype=dtype)
    return HVACF(config, state, features().to(dtype) if config.features else None)


def train(config: HVACFConfig, *, epochs: int = 8, **options: Any):
    settings = TrainConfig(model=config, epochs=epochs, batch_size=64, negatives=64)
    given = {"features": features()} | options
    return fit(groups(0), groups(1, last=True), settings, items=ITEMS, seed=3, device=CPU, **given)


# --- Equations -----------------------------------------------------------------------------------


def user_by_geoopt(model: HVACF, items: Tensor, newest_first: list[int], own: Tensor | None):
    """As the module prints it, of points of the ball."""
    state, config = model.state(), model.config
    v = items[newest_first]
    weights = config.recency ** torch.arange(len(v), dtype=torch.float64)
    asking = BALL.weighted_midpoint(v, weights=weights) if own is None else own
    if config.attention:
        keys, asked = BALL.logmap0(v), BALL.logmap0(asking)
        logits = torch.stack(
            [
                state["head"]
                @ torch.tanh(state["key"] @ t + state["query"] @ asked + state["bias"])
                for t in keys
            ]
        )
        weights = weights * logits.softmax(0)
    middle = BALL.weighted_midpoint(v, weights=weights)
    return middle if own is None else BALL.mobius_add(own, middle)


def items_by_geoopt(model: HVACF) -> Tensor:
    state = model.state()
    own = poincare.from_lorentz(state["target"])
    if not model.config.features:
        return own
    return BALL.mobius_add(own, BALL.expmap0(features().double() @ state["projection"].T))


@pytest.mark.parametrize("users", ["midpoint", "table"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_items_and_users_are_the_printed_ones(ablation, users):
    model = random_model(users=users, **ABLATIONS[ablation])
    data = groups(1, last=True)
    found = model.user_vectors(data.batch(np.arange(9), lags=model.lags))
    items = items_by_geoopt(model)
    torch.testing.assert_close(
        lorentz.flip_time(model.item_vectors()), poincare.to_lorentz(items), rtol=1e-9, atol=1e-9
    )
    for user in range(9):
        newest_first = data.items[data.offsets[user] : data.ends[user]][::-1][:4].tolist()
        own = None
        if users == "table":
            own = poincare.from_lorentz(model.state()["users"][user])
        expected = user_by_geoopt(model, items, newest_first, own)
        torch.testing.assert_close(found[user], poincare.to_lorentz(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("users", ["midpoint", "table"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_loss_is_the_printed_one(ablation, users):
    model = random_model(users=users, negatives_per_label=3, **ABLATIONS[ablation])
    config, learned = model.config, groups(0)
    batch = model.prepare(first_batch(learned, model))
    assert (batch.counts == 0).any()
    items = items_by_geoopt(model)
    total = torch.zeros((), dtype=torch.float64)
    for label in range(len(batch.positives)):
        history = batch.past.owner == batch.context[label]
        lags = batch.past.lags[history]
        assert lags.tolist() == list(range(len(lags)))
        newest_first = batch.rows[batch.past.items[history]].tolist()
        user = int(batch.users[batch.context[label]])
        row = learned.items[learned.offsets[user] : learned.offsets[user + 1]].tolist()
        j = int(batch.rows[batch.positives[label]])
        assert newest_first == row[: row.index(j)][::-1][:4]
        own = None
        if users == "table":
            own = poincare.from_lorentz(model.state()["users"][user])
        u = user_by_geoopt(model, items, newest_first, own)
        for number, k in enumerate(batch.rows[batch.negatives[label]].tolist()):
            assert bool(batch.counts[label, number]) == (k not in row)
            if k not in row:
                total += printed_loss(u, items[j], items[k], config)
    found = model.loss(*leaves(model, batch))
    torch.testing.assert_close(found, total / batch.counts.sum(), rtol=1e-6, atol=1e-8)


def printed_loss(u: Tensor, j: Tensor, k: Tensor, config: HVACFConfig) -> Tensor:
    curved = [BALL.dist(u, x) for x in (j, k)]
    flat = [2 * (BALL.logmap0(u) - BALL.logmap0(x)).norm() for x in (j, k)]
    loss = (config.margin + curved[0] ** 2 - curved[1] ** 2).clamp_min(0)
    if config.euclidean:
        loss = loss + (config.margin + flat[0] ** 2 - flat[1] ** 2).clamp_min(0)
    for d, e in zip(curved, flat, strict=True):
        loss = loss + config.adjustment * (d - e).abs() / e
    return loss


def first_batch(learned: Histories, model: HVACF):
    shuffled = Shuffled(
        learned, seed=1, number=1, batch_size=8, lags=model.lags, per_history=9, negatives=20,
        items=ITEMS,
    )  # fmt: skip
    return next(iter(shuffled.batches()))


def leaves(model: HVACF, batch: Any):
    """What `loss` is given in a step."""
    given = dict(model.state())
    given["target"] = given["target"][batch.rows]
    return given, batch, batch.users


# --- Steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("users", ["midpoint", "table"])
def test_a_first_step_is_that_of_geoopts_riemannian_adam(users):
    """Points on the hyperboloid, the rest in flat space; rows that a batch does not touch stay."""
    model = random_model(users=users, learning_rate=0.01)
    state = model.state()
    before = {name: x.clone() for name, x in state.items()}
    batch = model.prepare(first_batch(groups(0), model))
    model.step(batch, rate=0.5, meanwhile=lambda: None)

    sheet = geoopt.Lorentz()
    plain = {
        name: geoopt.ManifoldParameter(before[name].clone(), manifold=sheet)
        for name in ("target", *(["users"] if users == "table" else []))
    }
    plain |= {name: torch.nn.Parameter(before[name].clone()) for name in model.parameters()}
    given = {**before, **plain, "target": plain["target"][batch.rows]}
    # By the coordinates of the ball, so that the slope across the sheet does not count.
    model.loss(given, batch, batch.users).backward()
    geoopt.optim.RiemannianAdam(plain.values(), lr=0.005).step()
    touched = {"target": batch.rows, "users": batch.users.unique()}
    for name, expected in plain.items():
        rows = touched.get(name, torch.arange(len(expected)))
        torch.testing.assert_close(state[name][rows], expected[rows].detach(), rtol=1e-6, atol=1e-6)
        still = torch.ones(len(expected), dtype=torch.bool)
        still[rows] = False
        assert torch.equal(state[name][still], before[name][still])
        assert not torch.equal(state[name], before[name])


def test_two_points_at_one_place_have_finite_gradients():
    model = random_model(features=False)
    model.state()["target"][:] = model.state()["target"][0].clone()
    batch = model.prepare(first_batch(groups(0), model))
    given, *rest = leaves(model, batch)
    given["target"].requires_grad_()
    (gradient,) = torch.autograd.grad(model.loss(given, *rest), given["target"])
    assert gradient.isfinite().all()


# --- Learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("users", ["midpoint", "table"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_it_learns_who_likes_what(ablation, users):
    config = HVACFConfig(dimensions=D, users=users, learning_rate=0.1, **ABLATIONS[ablation])
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


def test_features_tell_of_items_that_nobody_took():
    """Two items of each group have no interactions, and their features are the group's."""
    alike = torch.eye(4).repeat_interleave(10, 0)
    rare = [10 * group + place for group in range(4) for place in (8, 9)]
    rows = []
    for user in range(USERS):
        taken = (10 * (user % 4) + np.random.default_rng(user).permutation(8)[:6]).tolist()
        rows.append((f"u{user:04d}", taken, list(range(6)), [False] + [True] * 5))
    seen = Histories.from_tables([table(rows)], items=ITEMS)
    config = HVACFConfig(dimensions=D, learning_rate=0.05, attention=False)
    settings = TrainConfig(model=config, epochs=6, batch_size=64, negatives=64)
    apart = {}
    for kind, given in (("features", alike), ("none", None)):
        model, _ = fit(seen, seen, settings, items=ITEMS, seed=3, device=CPU, features=given)
        items = lorentz.flip_time(model.item_vectors())
        own = torch.stack([lorentz.distance(items[n], items[n // 10 * 10]) for n in rare])
        other = torch.stack(
            [lorentz.distance(items[n], items[(n // 10 * 10 + 10) % ITEMS]) for n in rare]
        )
        apart[kind] = float((own < other).double().mean())
    assert apart["features"] == 1.0
    assert apart["none"] < 1.0


def test_attention_finds_what_counts():
    """Histories of items of two kinds, where the first decides; others are of the second alone."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(400):
        group = user % 4
        own = (5 * group + rng.permutation(5)).tolist()
        if user % 8 < 4:
            past, label = [*own[:2], *(20 + rng.permutation(20)[:4]).tolist()], own[2]
            rng.shuffle(past)
        else:
            past, label = [20 + item for item in own[:4]], 20 + own[4]
        times = list(range(len(past) + 1))
        rows.append((f"u{user:04d}", [*past, label], times, [False] * len(past) + [True]))
    data = Histories.from_tables([table(rows)], items=ITEMS)
    config = HVACFConfig(dimensions=8, learning_rate=0.05)
    settings = TrainConfig(model=config, epochs=20, batch_size=64, negatives=64)
    model, _ = fit(data, data, settings, items=ITEMS, seed=3, device=CPU)
    points = lorentz.flip_time(model.item_vectors()).double().numpy()
    aggregator, shares = model.description()["aggregator"], []
    for items in (past[:6] for past in map(np.array, (row[1] for row in rows)) if len(past) == 7):
        weights = attention.weights(aggregator, points[items], np.ones(6))
        shares.append(weights[items < 20].sum() / weights.sum())
    assert np.mean(shares) > 0.8  # a third, if all weighed alike


def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit():
    config = HVACFConfig(dimensions=D)
    saved = []
    whole, _ = train(
        config,
        epochs=3,
        on_batch=lambda done, _, now: (
            done > 200 and not saved and saved.append(artefact.save_checkpoint(*now()))
        ),
    )
    resumed, _ = train(config, epochs=3, resume=artefact.load_checkpoint(saved[0]))
    assert all(torch.equal(x, whole.state()[name]) for name, x in resumed.state().items())


# --- Served --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ablation", ["full", "without-attention", "without-features"])
def test_the_artefact_gives_the_scores_of_the_model(ablation):
    """By a state alone, without the features that it was trained with."""
    trained = random_model(dtype=torch.float32, **ABLATIONS[ablation])
    state = {name: x.clone() for name, x in trained.state().items()}
    model = restore(trained.config, state, device=CPU)
    sink = io.BytesIO()
    ids = [f"i{n}" for n in range(ITEMS)]
    pq.write_table(artefact.items_table(model.item_vectors(), model.context_vectors(), ids), sink)
    vectors = artefact.read_items(sink.getvalue())
    assert torch.equal(model.item_vectors(), trained.item_vectors())
    description = json.loads(json.dumps(model.description()))
    assert userpoint.most_items(description) == 4
    sound = soundness.examine(vectors, description["geometry"])
    assert sound.off_sheet is not None and sound.off_sheet < 1e-5
    data = groups(1, last=True)
    expected = model_scorer(model)(data.batch(np.arange(USERS), lags=model.lags)).numpy()
    for user in range(20):
        newest_first = data.items[data.offsets[user] : data.ends[user]][::-1][:4]
        point = userpoint.user_point(description, vectors.target[newest_first])
        np.testing.assert_allclose(vectors.target @ point, expected[user], rtol=2e-5, atol=2e-5)


def test_an_item_without_features_is_its_own_point():
    given = features()
    given[3] = 0.0
    config = HVACFConfig(dimensions=D)
    model = build(config, counts=torch.ones(ITEMS), users=1, seed=1, device=CPU, features=given)
    points = lorentz.flip_time(model.item_vectors())
    torch.testing.assert_close(points[3], model.state()["target"][3])
    assert not torch.allclose(points[4], model.state()["target"][4])


def test_only_a_model_that_learns_from_features_is_given_them():
    assert uses_features(HVACFConfig())
    assert not uses_features(HVACFConfig(features=False))
    without = build(HVACFConfig(), counts=torch.ones(ITEMS), users=1, seed=1, device=CPU)
    assert "projection" not in without.state()


@pytest.mark.parametrize(
    ("setting", "value"), [("margin", 0.0), ("adjustment", -1.0), ("lags", 0), ("recency", 0.0)]
)
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting} is {value}; it must"):
        replace(HVACFConfig(), **{setting: value})
