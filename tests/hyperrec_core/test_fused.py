"""The compiled step against the step in PyTorch's operations, which test_points.py verifies."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from hyperrec_core.examples import Shuffled
from hyperrec_core.histories import Histories
from hyperrec_core.kernels import batch as layout
from hyperrec_core.kernels import judge, loss
from hyperrec_core.models import PointsConfig, build, restore
from hyperrec_core.models.fused import can_fuse
from tests.hyperrec_core.test_histories import table

ITEMS = 150
CPU = torch.device("cpu")
SCORES = [
    ("hyperboloid", "inner_product"),
    ("hyperboloid", "distance"),
    ("hyperboloid", "squared_distance"),
    ("euclidean", "distance"),
    ("euclidean", "squared_distance"),
    ("inner_product", "inner_product"),
]
AGGREGATORS = ["uniform", "window", "exponential", "learned"]


@pytest.fixture(scope="module")
def histories() -> Histories:
    """Single events and baskets, short rows and long ones, with event types."""
    rng = np.random.default_rng(7)
    rows, types = [], []
    for user in range(60):
        size = int(rng.choice([2, 5, 9, 80, 200]))
        times = np.sort(rng.integers(0, size if user % 2 else size // 3 + 2, size))
        rows.append(
            (
                f"u{user:02d}",
                rng.zipf(1.3, size).clip(max=ITEMS).astype(int) - 1,
                times.tolist(),
                (times > times[0]).tolist(),
            )
        )
        types.append(rng.integers(0, 6, size).tolist())
    made = table([(u, i.tolist(), t, b) for u, i, t, b in rows])
    made = made.append_column("events", pa.array(types, pa.list_(pa.int8())))
    return Histories.from_tables([made], items=ITEMS)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def batches(histories, config, model, size=400):
    shuffled = Shuffled(
        histories, seed=3, number=1, batch_size=size, lags=model.lags, per_history=5, negatives=33,
        items=ITEMS,
    )  # fmt: skip
    return list(shuffled.batches())


def configured(**settings):
    wanted = {
        "dimensions": 9,
        "lags": 12,
        "tables": 1,
        "scale": 3.0,
        "learning_rate": 0.1,
        "initial_width": 0.5,
        "recency": 0.8,
    }
    return PointsConfig(**(wanted | settings))


def check(histories, config):
    """One step of both from one state, on float32; so they part by rounding alone."""
    fused = build(config, counts=torch.arange(ITEMS), users=60, seed=3, device=CPU)
    start = {k: v.clone() for k, v in fused.state().items()}
    plain = restore(config, {k: v.clone() for k, v in start.items()}, device=CPU)
    assert can_fuse(config, fused.state()["target"])
    first, second, *_ = batches(histories, config, fused)
    called = []
    for number, batch in enumerate((first, second)):
        loss = fused.step(fused.prepare(batch), rate=0.7, meanwhile=lambda: called.append(1))
        with torch.no_grad():
            wanted = plain.step_by_tensors(plain.lay_out(batch), rate=0.7)
        assert loss == pytest.approx(float(wanted), rel=1e-5, abs=1e-6)
        if number == 0:
            # Where a history is one item, the user lies on it, and the slope of the distance there
            # is rounding; both are as far from the step in float64.
            singular = config.geometry == "hyperboloid" and config.score == "distance"
            compare(fused.state(), plain.state(), start, bound=2e-2 if singular else 1e-4)
    assert called == [1, 1]
    return fused.state(), start


def compare(found, wanted, start, *, bound):
    for name, tensor in wanted.items():
        if not tensor.numel():
            continue
        moved = (tensor - start[name]).abs()
        apart = (found[name] - tensor).abs().max()
        assert apart <= bound * moved.max(), (name, float(apart), float(moved.max()))


@pytest.mark.parametrize(("geometry", "score"), SCORES)
@pytest.mark.parametrize("tables", [1, 2])
def test_every_geometry_and_score(histories, threads, geometry, score, tables):
    check(histories, configured(geometry=geometry, score=score, tables=tables))


@pytest.mark.parametrize(
    ("aggregator", "events", "geometry"),
    itertools.product(AGGREGATORS, [True, False], ["hyperboloid", "inner_product"]),
)
def test_every_aggregator(histories, aggregator, events, geometry):
    config = configured(aggregator=aggregator, event_weights=events, geometry=geometry)
    state, start = check(histories, config)
    if events:
        assert not torch.equal(state["event_logits"], start["event_logits"])


@pytest.mark.parametrize(("geometry", "score"), SCORES)
@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "rsgd", "learning_rate": 2.0, "maximum_step": 0.2},
        {"optimiser": "rsgd", "learning_rate": 0.5, "maximum_step": 1.0, "initial_width": 3.0},
        {"pull": 0.1},
        {"learn_scale": True},
        {"list_size": 7.0, "scale": 30.0},
    ],
)
def test_every_optimiser_and_setting(histories, geometry, score, settings):
    check(histories, configured(geometry=geometry, score=score, **settings))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("score", [loss.INNER_PRODUCT, loss.DISTANCE])
def test_a_few_negatives_pull_as_the_products_say(flat, score):
    """Of histories without any, with some, and with all of the negatives above the margin."""
    rng = np.random.default_rng(5)
    sizes = layout.Sizes(items=0, cells=0, histories=12, floats=0)
    width, negatives = 7, 20
    floats = 12 * (3 * width + 2 + 2 * negatives) + negatives * (4 * width + 2)
    memory = rng.normal(size=floats + layout.BLOCK * width).astype(np.float32)
    scoring = loss.Scoring(flat, score, np.float32(3), np.float32(100))
    results = []
    for few in (True, False):
        room = layout.furnish(
            memory.copy(), np.empty(negatives + 1, np.int32), sizes, negatives, width
        )
        by_z = room.z[1]
        by_z[by_z < np.linspace(-5, 5, len(by_z))[:, None]] = 0
        judge._pull_negatives(len(by_z) - 1, few, scoring, room)
        results.append((room.users[2], room.negatives[1], room.offset[1]))
    assert 0 < np.count_nonzero(by_z) < by_z.size and by_z[0].all() and not by_z[-1].any()
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"loss": "softmax"}, "loss"),
        ({"loss": "bpr"}, "loss"),
        ({"optimiser": "adam"}, "momentum"),
        ({"users": "table"}, "no histories"),
    ],
)
def test_what_the_kernels_do_not_know_goes_the_other_way(histories, settings, reason):
    config = configured(**settings)
    model = build(config, counts=torch.arange(ITEMS), users=60, seed=3, device=CPU)
    assert not can_fuse(config, model.state()["target"]), reason
    batch = batches(histories, config, model)[0]
    called = []
    loss = model.step(model.prepare(batch), rate=1.0, meanwhile=lambda: called.append(1))
    assert torch.isfinite(loss)
    assert called == [1]


def test_equal_threads_give_equal_bits(histories, threads):
    config = configured(lags=40, tables=2)
    ends = []
    for _ in range(2):
        model = build(config, counts=torch.arange(ITEMS), users=60, seed=3, device=CPU)
        for batch in batches(histories, config, model, size=100):
            model.step(model.prepare(batch), rate=1.0, meanwhile=lambda: None)
        ends.append(model.state())
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1)])
@pytest.mark.parametrize(("geometry", "score"), SCORES)
def test_a_loss_that_is_no_number_is_seen(histories, geometry, score, rows):
    config = configured(geometry=geometry, score=score)
    model = build(config, counts=torch.arange(ITEMS), users=60, seed=3, device=CPU)
    model.state()["target"][rows] = torch.nan
    batch = batches(histories, config, model)[0]
    loss = model.step(model.prepare(batch), rate=1.0, meanwhile=lambda: None)
    assert math.isnan(loss)
