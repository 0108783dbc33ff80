"""The closed-form step against autograd on the plain formulas, for every combination."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch

from hyperrec_core.examples import Examples, Shuffled
from hyperrec_core.geometry import lorentz
from hyperrec_core.histories import Histories
from hyperrec_core.models import PointsConfig, build, restore
from tests.hyperrec_core.test_histories import table
from tests.hyperrec_core.test_losses import PLAIN

ITEMS, USERS = 12, 5
CPU = torch.device("cpu")
FLAT = {"euclidean": ("distance", "squared_distance"), "inner_product": ("inner_product",)}
GEOMETRIES = [
    *(("hyperboloid", score) for score in ("inner_product", "distance", "squared_distance")),
    *((geometry, score) for geometry, scores in FLAT.items() for score in scores),
]


def histories(*, baskets: bool, events: bool = False) -> Histories:
    rng = np.random.default_rng(4)
    rows, types = [], []
    for user in range(USERS):
        times = np.sort(rng.integers(0, 5 if baskets else 99, 9))
        labels = (times > times[0]).tolist()
        rows.append((f"u{user}", rng.integers(0, ITEMS, 9).tolist(), times.tolist(), labels))
        types.append(rng.integers(0, 6, 9).tolist())
    made = table(rows)
    if events:
        made = made.append_column("events", pa.array(types, pa.list_(pa.int8())))
    return Histories.from_tables([made], items=ITEMS)


def batch_of(data: Histories, lags: int) -> Examples:
    shuffled = Shuffled(
        data, seed=2, number=1, batch_size=1000, lags=lags, per_history=99, negatives=7, items=ITEMS
    )
    (batch,) = shuffled.batches()
    return batch


def model_of(config: PointsConfig):
    model = build(config, counts=torch.arange(ITEMS), users=USERS, seed=3, device=CPU)
    return restore(config, {k: v.double() for k, v in model.state().items()}, device=CPU)


def plain_score(config, users, items, scale):
    """Scores of all pairs by the textbook formula. [B, D], [N, D] -> [B, N]."""
    u, v = users.unsqueeze(1), items.unsqueeze(0)
    if config.geometry == "hyperboloid":
        product = lorentz.inner(u, v)
        if config.score == "inner_product":
            return scale * product
        distance = torch.arccosh((-product).clamp_min(1 + 1e-12))
    else:
        if config.score == "inner_product":
            return scale * (u[..., 1:] * v[..., 1:]).sum(-1)
        distance = (u - v)[..., 1:].norm(dim=-1)
    return -scale * (distance if config.score == "distance" else distance**2)


def plain_users(config, state, data, example, lags):
    """The user of one label by a loop over the history."""
    end, row = data.ends[example], data.rows[example]
    start = max(data.offsets[row], end - lags)
    items = data.items[start:end][::-1].astype(np.int64)
    points = state["context" if config.tables == 2 else "target"][items]
    logits = state["lag_logits"]
    weights = torch.exp(logits[: len(items)]) if len(logits) else torch.ones(len(items)).double()
    if config.event_weights:
        types = data.events[start:end][::-1].astype(np.int64)
        weights = weights * state["event_logits"][types].exp()
    total = (weights.unsqueeze(1) * points).sum(0)
    if config.geometry == "hyperboloid":
        return total / (-lorentz.inner(total, total)).sqrt()
    return total / weights.sum()


def plain_loss(config, state, data, batch, order):
    scale = state["log_scale"].exp() if config.learn_scale else config.scale
    lags = 10**6 if config.aggregator == "uniform" else config.lags
    if config.users == "table":
        users = state["users"][torch.from_numpy(data.rows[order])]
    else:
        users = torch.stack([plain_users(config, state, data, e, lags) for e in order])
    labels = torch.from_numpy(data.labels[order].astype(np.int64))
    negative = plain_score(config, users, state["target"][torch.from_numpy(batch.negatives)], scale)
    positive = plain_score(config, users, state["target"][labels], scale).diagonal()
    seen = torch.stack(
        [
            torch.isin(torch.from_numpy(batch.negatives), torch.from_numpy(row_items(data, row)))
            for row in data.rows[order]
        ]
    )
    return PLAIN[config.loss](positive, negative, seen, config.list_size)


def row_items(data, row):
    return data.items[data.offsets[row] : data.offsets[row + 1]].astype(np.int64)


def expected_step(config, before, data, batch, order):
    """State after one plain Riemannian SGD step by autograd."""
    learned = ["target", "context", "users"]
    state = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in before.items()}
    loss = plain_loss(config, state, data, batch, order)
    names = [name for name in learned if name in state]
    gradients = torch.autograd.grad(loss, [state[n] for n in names], allow_unused=True)
    after = {}
    for name, found in zip(names, gradients, strict=True):
        points = before[name]
        gradient = torch.zeros_like(points) if found is None else found
        if config.geometry == "hyperboloid":
            tangent = lorentz.riemannian_gradient(points, gradient)
            norm = lorentz.tangent_norm(points, tangent).unsqueeze(1)
            step = config.learning_rate * torch.clamp(
                config.maximum_step / (config.learning_rate * norm).clamp_min(1e-30), max=1.0
            )
            after[name] = lorentz.exp_map(points, -step * tangent)
        else:
            gradient[:, 0] = 0.0
            norm = gradient.norm(dim=1, keepdim=True)
            step = config.learning_rate * torch.clamp(
                config.maximum_step / (config.learning_rate * norm).clamp_min(1e-30), max=1.0
            )
            after[name] = points - step * gradient
    return loss.detach(), after


def check(config, *, baskets=True, events=False):
    torch.set_default_dtype(torch.float64)
    try:
        data = histories(baskets=baskets, events=events)
        model = model_of(config)
        before = {k: v.clone() for k, v in model.state().items()}
        batch = batch_of(data, model.lags)
        # The loss is a mean over all labels, so their order does not matter.
        loss, after = expected_step(config, before, data, batch, np.arange(len(data)))
        prepared = model.prepare(batch)
        found = model.step(prepared, rate=1.0, meanwhile=lambda: None)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, loss)
    for name, points in after.items():
        assert not torch.equal(points, before[name]), name
        torch.testing.assert_close(model.state()[name], points, rtol=1e-7, atol=1e-9)
    return model, before


def config(**settings):
    wanted = {
        "dimensions": 4,
        "lags": 3,
        "tables": 1,
        "scale": 3.0,
        "optimiser": "rsgd",
        "learning_rate": 0.5,
        "initial_width": 1.0,
        "recency": 0.7,
    }
    return PointsConfig(**(wanted | settings))


@pytest.mark.parametrize("loss", PLAIN)
@pytest.mark.parametrize(("geometry", "score"), GEOMETRIES)
def test_a_step_equals_autograd_for_every_geometry_score_and_loss(geometry, score, loss):
    check(config(geometry=geometry, score=score, loss=loss))


@pytest.mark.parametrize(
    ("tables", "aggregator", "baskets"),
    itertools.product([1, 2], ["uniform", "window", "exponential", "learned"], [True, False]),
)
@pytest.mark.parametrize("geometry", ["hyperboloid", "inner_product"])
def test_a_step_equals_autograd_for_every_table_and_aggregator(
    geometry, tables, aggregator, baskets
):
    check(config(geometry=geometry, tables=tables, aggregator=aggregator), baskets=baskets)


@pytest.mark.parametrize("baskets", [True, False])
@pytest.mark.parametrize(("geometry", "score"), GEOMETRIES)
def test_a_step_equals_autograd_for_users_with_points_of_their_own(geometry, score, baskets):
    check(config(geometry=geometry, score=score, users="table"), baskets=baskets)


def test_steps_are_clipped_where_the_paper_clips_them():
    model, before = check(config(learning_rate=50.0, maximum_step=0.25))
    moved = lorentz.distance(model.state()["target"], before["target"])
    assert moved.max() <= 0.25 + 1e-6
    assert moved.max() > 0.24


@pytest.mark.parametrize("what", ["lag_logits", "event_logits", "log_scale"])
@pytest.mark.parametrize(("geometry", "score"), GEOMETRIES)
def test_weights_and_scale_follow_their_gradient(geometry, score, what):
    """Adagrad's first step goes by the sign; the sums remember the squared gradient."""
    settings = config(geometry=geometry, score=score, event_weights=True, learn_scale=True)
    model, before = check(settings, events=True)
    data = histories(baskets=True, events=True)
    state = {k: v.clone().requires_grad_() for k, v in before.items()}
    loss = plain_loss(settings, state, data, batch_of(data, settings.lags), np.arange(len(data)))
    (gradient,) = torch.autograd.grad(loss, state[what])
    sums = model.state()[what.removeprefix("log_").removesuffix("_logits") + "_sums"]
    torch.testing.assert_close(sums, gradient**2 + 1e-12, rtol=1e-6, atol=1e-11)
    step = before[what] - model.state()[what]
    moved = gradient.abs() > 1e-4
    torch.testing.assert_close(step[moved], 0.05 * gradient[moved].sign(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("events", [True, False])
@pytest.mark.parametrize("aggregator", ["uniform", "window", "exponential", "learned"])
@pytest.mark.parametrize("geometry", ["hyperboloid", "inner_product"])
def test_serving_and_training_make_the_same_user(geometry, aggregator, events):
    settings = config(geometry=geometry, aggregator=aggregator, event_weights=events, tables=2)
    model = build(settings, counts=torch.arange(ITEMS), users=USERS, seed=3, device=CPU)
    if events:
        model.state()["event_logits"].copy_(torch.linspace(-1, 1, 6))
    data = histories(baskets=True, events=events)
    lags = 99 if aggregator == "uniform" else settings.lags
    plain = torch.stack(
        [plain_users(settings, model.state(), data, e, lags) for e in range(len(data))]
    )
    batch = data.batch(np.arange(len(data)), lags=model.lags)
    torch.testing.assert_close(model.user_vectors(batch)[batch.context], plain.float())


@pytest.mark.parametrize(("geometry", "score"), GEOMETRIES)
def test_published_vectors_rank_as_the_score_does(geometry, score):
    settings = config(geometry=geometry, score=score, initial_width=2.0)
    model = build(settings, counts=torch.arange(ITEMS), users=USERS, seed=3, device=CPU)
    batch = histories(baskets=False).batch(np.arange(10), lags=model.lags)
    users = model.user_vectors(batch)
    published = (users @ model.item_vectors().T).argsort(1)
    plain = plain_score(settings, users.double(), model.state()["target"].double(), 3.0).argsort(1)
    assert torch.equal(published, plain)


def test_a_user_whom_training_has_not_seen_stands_at_the_origin():
    settings = config(users="table")
    model = build(settings, counts=torch.arange(ITEMS), users=USERS, seed=3, device=CPU)
    data = histories(baskets=False)
    batch = data.batch(np.arange(2), lags=model.lags)
    known = model.user_vectors(batch)
    stranger = model.user_vectors(data.aligned_to(empty()).batch(np.arange(2), lags=model.lags))
    assert torch.equal(known, model.state()["users"][batch.users])
    assert torch.equal(stranger, torch.eye(5)[:1].expand(len(stranger), -1))


def empty() -> Histories:
    return Histories.from_tables([table([])], items=ITEMS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"geometry": "euclidean"}, "judged by distance"),
        ({"geometry": "inner_product", "score": "distance"}, "has no distance"),
        ({"users": "table", "tables": 2}, "model.tables to 1"),
        ({"users": "table", "event_weights": True}, "event_weights"),
        ({"initial": "ball", "initial_width": 2.5}, "less than 2 wide"),
        ({"pull": 1.0}, "model.pull"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(wrong, message):
    with pytest.raises(ValueError, match=message):
        config(**wrong)
