"""The autoencoder: layers by another library, losses by hand, that it trains and is read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import geoopt.manifolds.stereographic.math as gmath
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from hyperrec_core import artefact
from hyperrec_core.evaluate import evaluate, model_scorer, popularity_scorer
from hyperrec_core.examples import Examples, Shuffled
from hyperrec_core.fit import TrainConfig, fit
from hyperrec_core.histories import Histories
from hyperrec_core.models import build, restore
from hyperrec_core.models.autoencoder import Autoencoder, AutoencoderConfig
from hyperrec_core.threads import one_thread
from serving_export import userpoint
from tests.hyperrec_core.test_triplets import ITEMS, USERS, groups

CPU = torch.device("cpu")
D = 6
CURVATURES = (0.0, 0.1, 1.0)


@pytest.fixture(autouse=True)
def small_tensors() -> Iterator[None]:
    """Threads would cost tensors of this size more than they do."""
    with one_thread():
        yield


def random_model(**settings: Any) -> Autoencoder:
    """A model with every number of its own."""
    config = AutoencoderConfig(**{"dimensions": D, "hidden": (4,), "dropout": 0.0} | settings)
    made = build(config, counts=torch.ones(ITEMS), users=USERS, seed=1, device=CPU)
    rng = torch.Generator().manual_seed(2)
    state = {
        name: torch.randn(x.shape, generator=rng) if x.is_floating_point() else x
        for name, x in made.state().items()
    }
    found = restore(config, state, device=CPU)
    assert isinstance(found, Autoencoder)
    return found


def train(config: AutoencoderConfig, *, seed: int = 3, epochs: int = 12, **options: Any):
    settings = TrainConfig(model=config, epochs=epochs, batch_size=16, negatives=20)
    return fit(
        groups(0), groups(1, last=True), settings, items=ITEMS, seed=seed, device=CPU, **options
    )


def by_geoopt(model: Autoencoder, items: Tensor) -> Tensor:
    """The user of a history as the papers write it: points of the ball, layer after layer."""
    state = {name: x.double() for name, x in model.state().items()}
    k = torch.tensor(-model.config.curvature, dtype=torch.float64)
    bag = torch.zeros(ITEMS, dtype=torch.float64).index_add_(
        0, items, torch.ones(len(items), dtype=torch.float64)
    )
    x = gmath.expmap0(state["context"].T @ (bag / len(items) ** 0.5), k=k)
    for layer in range(3):
        if layer:
            x = gmath.mobius_matvec(state[f"product.{layer}"], x, k=k)
        x = gmath.mobius_add(x, gmath.expmap0(state[f"bias.{layer}"], k=k), k=k)
        x = gmath.mobius_fn_apply(torch.tanh, x, k=k)
    return gmath.logmap0(x, k=k)


@pytest.mark.parametrize("c", [0.02, 0.1])
def test_the_layers_are_those_of_the_papers(c):
    model = random_model(curvature=c)
    data = groups(1, last=True)
    found = model.user_vectors(data.batch(np.arange(8), lags=model.lags))
    for user in range(8):
        history = torch.from_numpy(data.items[data.offsets[user] : data.ends[user]].copy())
        expected = by_geoopt(model, history)
        torch.testing.assert_close(found[user, 1:].double(), expected, rtol=1e-4, atol=1e-5)
    assert (found[:, 0] == 1.0).all()


def test_flat_space_is_the_limit_of_a_small_curvature():
    batch = groups(1, last=True).batch(np.arange(8), lags=100)
    flat = random_model(curvature=0.0).user_vectors(batch)
    torch.testing.assert_close(random_model(curvature=1e-8).user_vectors(batch), flat)
    assert not torch.allclose(random_model(curvature=0.1).user_vectors(batch), flat, atol=1e-3)


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("loss", ["multinomial", "masked_mse"])
def test_losses_by_hand(loss, views):
    model = random_model(loss=loss, hidden=())
    data = groups(0)
    viewed = np.arange(len(data.items)) % 7 == 0  # each user's first item, which is no label
    if views:
        data = replace(data, events=viewed.astype(np.int8))
    learned = model.learn_from(data)
    assert len(learned) == USERS
    examples = first_batch(learned, model)
    batch = model.prepare(examples)
    scores = model_scorer(model)(learned.batch(np.arange(USERS), lags=model.lags)).double()
    total, count = 0.0, 0
    for row in examples.rows:
        history = slice(learned.offsets[row], learned.offsets[row + 1])
        others = [k for k in examples.negatives if k not in learned.items[history]]
        # A view is shown to the encoder alone.
        own = learned.items[history][~viewed[history]] if views else learned.items[history]
        if loss == "multinomial":
            total -= float(scores[row].log_softmax(0)[own].sum())
            count += 1
        else:
            total += float((scores[row][own] - 1).square().sum())
            total += float(scores[row][others].square().sum())
            count += len(own) + len(others)
    assert float(model.loss(model.state(), batch)) == pytest.approx(total / count, rel=1e-5)


def first_batch(learned: Histories, model: Autoencoder) -> Examples:
    shuffled = Shuffled(
        learned, seed=1, number=1, batch_size=10, lags=model.lags, per_history=9, negatives=20,
        items=ITEMS,
    )  # fmt: skip
    return next(iter(shuffled.batches()))


@pytest.mark.parametrize("c", CURVATURES)
def test_a_first_step_goes_against_the_gradient_as_long_as_adams_does(c):
    model = random_model(curvature=c, learning_rate=0.01)
    state = model.state()
    for name in [name for name in state if name.endswith((".mean", ".square"))]:
        state[name].zero_()
    before = {name: x.clone() for name, x in state.items()}
    batch = model.prepare(first_batch(groups(0).whole_rows(), model))
    model.step(batch, rate=1.0, meanwhile=lambda: None)
    for name in ("target", "own", "bias.1", "product.2"):
        plain = before[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.loss(before | {name: plain}, batch), plain)
        expected = torch.nn.Parameter(before[name].clone())
        expected.grad = gradient
        torch.optim.Adam([expected], lr=0.01).step()
        torch.testing.assert_close(state[name], expected.data, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_it_learns_who_likes_what(c, hidden):
    config = AutoencoderConfig(dimensions=8, hidden=hidden, curvature=c, learning_rate=0.03)
    model, progress = train(config)
    assert progress.epochs[-1].loss < progress.epochs[0].loss
    counts = np.bincount(groups(0).items, minlength=ITEMS)
    ours, popular = (
        evaluate(
            scorer, groups(1, last=True), items=ITEMS, lags=model.lags, negatives=20, seed=0
        ).ndcg_at_10
        for scorer in (model_scorer(model), popularity_scorer(counts))
    )
    assert ours > 1.5 * popular


@pytest.mark.parametrize("seed", range(5))
def test_the_ball_trains_with_steps_ten_times_too_long(seed):
    """From any seed, with points driven to the boundary, nothing ceases to be a number."""
    config = AutoencoderConfig(dimensions=32, hidden=(16,), curvature=8.0, learning_rate=0.3)
    model, progress = train(config, seed=seed, epochs=4)
    assert all(x.isfinite().all() for x in model.state().values())
    assert all(np.isfinite(epoch.loss) for epoch in progress.epochs)


def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit():
    config = AutoencoderConfig(dimensions=D, curvature=0.1)
    saved = []
    whole, _ = train(
        config,
        epochs=3,
        on_batch=lambda done, _, now: saved.append(artefact.save_checkpoint(*now())),
    )
    resumed, _ = train(config, epochs=3, resume=artefact.load_checkpoint(saved[11]))
    assert all(torch.equal(x, whole.state()[name]) for name, x in resumed.state().items())


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("hidden", [(), (4, 3)])
def test_the_artefact_gives_the_scores_of_the_model(c, hidden):
    model = random_model(curvature=c, hidden=hidden, lags=4)
    sink = io.BytesIO()
    ids = [f"i{n}" for n in range(ITEMS)]
    pq.write_table(artefact.items_table(model.item_vectors(), model.context_vectors(), ids), sink)
    vectors = artefact.read_items(sink.getvalue())
    description = json.loads(json.dumps(model.description()))
    assert userpoint.most_items(description) == 4
    assert vectors.context is not None
    data = groups(1, last=True)
    expected = model_scorer(model)(data.batch(np.arange(USERS), lags=model.lags)).numpy()
    for user in range(20):
        newest_first = data.items[data.offsets[user] : data.ends[user]][::-1][:4]
        point = userpoint.user_point(description, vectors.context[newest_first])
        np.testing.assert_allclose(vectors.target @ point, expected[user], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("curvature", -1.0), ("dimensions", 0), ("lags", 0), ("dropout", 1.0), ("learning_rate", 0.0)],
)
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting} is {value}; it must"):
        replace(AutoencoderConfig(), **{setting: value})
    with pytest.raises(ValueError, match=r"model\.hidden is \(0,\); every width"):
        AutoencoderConfig(hidden=(0,))
