import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from hyperrec_core import artefact
from hyperrec_core.evaluate import evaluate, model_scorer, popularity_scorer
from hyperrec_core.fit import TrainConfig, TrainingError, fit
from hyperrec_core.geometry import lorentz
from hyperrec_core.histories import Histories
from hyperrec_core.models import PointsConfig
from hyperrec_core.models.mf_bpr import MFBPRConfig
from hyperrec_core.similar import top_similar
from hyperrec_core.validate import Validation
from tests.hyperrec_core.test_histories import table

ITEMS = 60
CPU = torch.device("cpu")


def chains(users: int, seed: int, *, last: bool = False) -> Histories:
    """Users walk along one of six chains of ten items: the next item is nearly certain."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start = rng.integers(0, 5)
        items = (10 * rng.integers(0, 6) + start + np.arange(6)).tolist()
        labels = [False] * 5 + [True] if last else [False] + [True] * 5
        rows.append((f"u{user:05d}", items, [1, 2, 3, 4, 5, 6], labels))
    return Histories.from_tables([table(rows)], items=ITEMS)


def config(**model) -> TrainConfig:
    settings = {"dimensions": 8, "lags": 4, "learning_rate": 0.2} | model
    return TrainConfig(epochs=4, batch_size=64, negatives=30, model=PointsConfig(**settings))


def train(
    settings: TrainConfig,
    *,
    users=300,
    seed=1,
    resume=None,
    after_epoch=None,
    on_batch=None,
):
    return fit(
        chains(users, 0),
        chains(50, 1, last=True),
        settings,
        items=ITEMS,
        seed=seed,
        device=CPU,
        resume=resume,
        after_epoch=after_epoch,
        on_batch=on_batch,
    )


@pytest.mark.parametrize("tables", [1, 2])
def test_it_learns_the_order_that_popularity_cannot_know(tables):
    model, progress = train(config(tables=tables))
    test, counts = chains(200, 2, last=True), np.bincount(chains(300, 0).items, minlength=ITEMS)
    judged = [
        evaluate(scorer, test, items=ITEMS, lags=4, negatives=40, seed=0)
        for scorer in (model_scorer(model), popularity_scorer(counts))
    ]
    assert judged[0].hr_at_10 > 0.95
    assert judged[0].ndcg_at_10 > 2 * judged[1].ndcg_at_10
    assert progress.epochs[-1].loss < progress.epochs[0].loss


@pytest.mark.parametrize("tables", [1, 2])
def test_points_stay_on_the_sheet_and_finite(tables):
    model, _ = train(config(tables=tables, learning_rate=5.0))
    for vectors in filter(lambda v: v is not None, (model.item_vectors(), model.context_vectors())):
        assert torch.isfinite(vectors).all()
        assert lorentz.residual(vectors.double()).max() < 1e-5


def test_a_resumed_training_equals_an_undisturbed_one_bit_for_bit():
    checkpoints = []
    whole, _ = train(
        config(),
        after_epoch=lambda p, t: checkpoints.append(artefact.save_checkpoint(p, t)),
    )
    for data in checkpoints:
        resumed, progress = train(config(), resume=artefact.load_checkpoint(data))
        assert torch.equal(resumed.item_vectors(), whole.item_vectors())
        assert torch.equal(resumed.context_vectors(), whole.context_vectors())
        assert resumed.description() == whole.description()
        assert len(progress.epochs) == 4


# A step by the kernels with one table, one by tensors with two.
@pytest.mark.parametrize("model", [{"tables": 1}, {"loss": "softmax", "learn_scale": True}])
def test_a_training_resumed_inside_an_epoch_equals_an_undisturbed_one_bit_for_bit(
    model, monkeypatch
):
    settings = replace(config(**model), epochs=3, batch_size=7)
    judge = Validation.judge
    # Of equal epochs the first is the best: later checkpoints must hold that one, too.
    monkeypatch.setattr(Validation, "judge", lambda self, model: (judge(self, model)[0], 0.5))
    saved, ends = {}, []

    def on_batch(done, examples, checkpoint):
        progress, tensors = checkpoint()
        assert (progress.part.examples, examples) == (done, 200)
        key = len(progress.epochs) + 1, progress.part.batches
        saved[key] = artefact.save_checkpoint(progress, tensors)

    def after_epoch(progress, tensors):
        ends.append({name: tensor.clone() for name, tensor in tensors.items()})

    undisturbed, progress = train(settings, on_batch=on_batch, after_epoch=after_epoch, users=40)
    assert progress.best_epoch == 1
    whole = ends[-1]
    for epoch in (1, 2, 3):
        last = max(batch for number, batch in saved if number == epoch)
        assert last > 10
        for batch in (1, last // 2, last):
            resume = artefact.load_checkpoint(saved[epoch, batch])
            other, again = train(settings, resume=resume, after_epoch=after_epoch, users=40)
            assert_equal_tensors(ends[-1], whole)
            assert_equal_tensors(other.state(), undisturbed.state())
            assert without_times(again) == without_times(progress)
            assert again.epochs[epoch - 1].seconds > resume[0].part.seconds


def assert_equal_tensors(some, others):
    assert some.keys() == others.keys()
    for name in some:
        assert torch.equal(some[name], others[name]), name


def without_times(progress):
    """All of a progress but the seconds."""
    epochs = [replace(epoch, seconds=0.0, examples_per_second=0.0) for epoch in progress.epochs]
    return replace(progress, epochs=epochs)


def test_there_is_no_checkpoint_of_a_loss_that_is_not_finite():
    made = []

    def on_batch(done, examples, checkpoint):
        checkpoint()
        made.append((done, examples))

    with pytest.raises(TrainingError, match=r"^The loss of epoch 1 is (nan|inf): lower train"):
        train(config(learning_rate=1e30, maximum_step=1e30), on_batch=on_batch)
    assert made[-1][0] < made[-1][1]


@pytest.mark.parametrize("size", [1e20, 1e4, 30.0])
@pytest.mark.parametrize(
    ("geometry", "score"),
    [
        ("hyperboloid", "inner_product"),
        ("hyperboloid", "distance"),
        ("hyperboloid", "squared_distance"),
        ("euclidean", "distance"),
    ],
)
def test_a_diverged_training_is_told_or_finite_whatever_the_score(geometry, score, size):
    wild = config(geometry=geometry, score=score, learning_rate=size, maximum_step=size, scale=30.0)
    try:
        model, progress = train(wild)
    except TrainingError as error:
        assert "lower train.model.learning_rate or train.model.maximum_step" in str(error)
    else:
        assert torch.isfinite(model.item_vectors()).all()
        assert all(epoch.loss > 0 for epoch in progress.epochs)


def test_a_diverged_rival_is_told_its_own_settings_alone():
    settings = replace(config(), model=MFBPRConfig(dimensions=4, learning_rate=1e30))
    with pytest.raises(TrainingError, match=r": lower train\.model\.learning_rate\.$"):
        train(settings)


def test_the_kept_model_is_that_of_the_best_epoch():
    states = {}

    def remember(progress, tensors):
        states[len(progress.epochs)] = tensors["target"].clone()

    model, progress = train(config(learning_rate=2.0), after_epoch=remember)
    best = max(progress.epochs, key=lambda epoch: epoch.ndcg_at_10)
    assert progress.best_epoch == best.number
    assert torch.equal(lorentz.flip_time(model.item_vectors()), states[best.number])


def test_another_seed_gives_another_model():
    assert not torch.equal(
        train(config())[0].item_vectors(), train(config(), seed=2)[0].item_vectors()
    )


def test_nothing_to_train_on_is_said():
    empty = Histories.from_tables([table([])], items=ITEMS)
    with pytest.raises(TrainingError, match="no label to train on"):
        fit(empty, empty, config(), items=ITEMS, seed=1, device=CPU)


def test_without_validation_labels_the_last_epoch_is_kept():
    empty = Histories.from_tables([table([])], items=ITEMS)
    _, progress = fit(chains(50, 0), empty, config(), items=ITEMS, seed=1, device=CPU)
    assert progress.best_epoch == 4


@pytest.mark.parametrize(
    "wrong", [{"dimensions": 1}, {"learning_rate": 0}, {"lags": -1}, {"scale": float("nan")}]
)
def test_a_wrong_setting_is_refused_at_construction(wrong):
    with pytest.raises(ValueError, match=f"model.{next(iter(wrong))}"):
        PointsConfig(**wrong)


def test_a_damaged_checkpoint_is_refused():
    data = artefact.save_checkpoint(*_some_checkpoint())
    for wrong in (data[: len(data) // 2], b"", b"\x00" * 64):
        with pytest.raises(artefact.ArtefactError):
            artefact.load_checkpoint(wrong)


def test_a_checkpoint_of_the_format_before_is_read_and_of_one_to_come_refused():
    progress, tensors = _some_checkpoint()

    def written(**more):
        text = json.dumps(progress.to_json() | more)
        return safetensors.torch.save(dict(tensors), {"progress": text})

    found, state = artefact.load_checkpoint(written())
    assert found == progress
    assert_equal_tensors(state, tensors)
    with pytest.raises(artefact.ArtefactError, match=r"is of format 3 and .* up to 2: use the ver"):
        artefact.load_checkpoint(written(format=3))


def _some_checkpoint():
    kept = []
    train(config(), after_epoch=lambda p, t: kept.append((p, t)))
    return kept[-1]


def test_the_artefact_holds_the_vectors_bit_for_bit():
    model, _ = train(config())
    ids = [f"item {n}" for n in range(ITEMS)]
    sink = io.BytesIO()
    pq.write_table(artefact.items_table(model.item_vectors(), model.context_vectors(), ids), sink)
    back = artefact.read_items(sink.getvalue())
    assert back.item_ids == ids
    assert np.array_equal(back.target, model.item_vectors().numpy())
    assert np.array_equal(back.context, model.context_vectors().numpy())


def test_similar_items_are_the_nearest_by_distance_and_only_allowed_ones():
    model, _ = train(config())
    vectors = model.item_vectors()
    allowed = np.arange(ITEMS) % 3 != 0
    near, scores = top_similar(vectors.numpy(), flat=False, k=5, allowed=allowed)
    points = lorentz.flip_time(vectors).double()
    for item in (0, 7, 59):
        distances = lorentz.distance(points[item], points).numpy()
        candidates = [i for i in np.argsort(distances) if allowed[i] and i != item]
        assert near[item].tolist() == candidates[:5]
        expected = -np.cosh(distances[near[item]])
        np.testing.assert_allclose(scores[item], expected, rtol=1e-5)
