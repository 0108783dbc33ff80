"""Every other model by its profile: trained, judged, published, and read as it was judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from hyperrec_core import artefact
from hyperrec_core.evaluate import model_scorer
from hyperrec_core.models import Model, restore
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from pipelines.errors import GateRefusedError, UsageError
from pipelines.preprocess.features import write_features
from pipelines.profile import load_profile, profile_of
from pipelines.runs import Attempt, Run
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.export import run_export
from pipelines.stages.inputs import read_histories, read_vocabulary
from pipelines.start import warm_start_run
from pipelines.storage import Folder
from serving_export.containers import DATABASE
from tests.pipelines.test_evaluate_stage import ITEMS, USERS, preprocessed, trained_by
from tests.serving_export.publishing_support import Account

SMALL = ("train.epochs=12", "train.batch_size=64", "train.negatives=64", "evaluate.negatives=20")
PROFILES = {
    "hyperml": ("train.model.dimensions=8",),
    "cml": ("train.model.dimensions=8",),
    "hvacf": ("train.model.dimensions=8", "train.model.learning_rate=0.05"),
    "autoencoder": ("train.model.dimensions=8", "train.model.learning_rate=0.03"),
}


def judged(folder: Path, profile: str, *overrides: str) -> Run:
    settings = load_profile(profile, [*SMALL, *PROFILES[profile], *overrides])
    run = trained_by(settings, folder, preprocess=_preprocessed)
    run_evaluate(run)
    return run


def _preprocessed(attempt: Attempt) -> dict[str, Any]:
    """With features of most items, which the models that have no use for them pass over."""
    metrics = preprocessed(attempt, labels=True, strangers=0)
    ids = [f"i{item:03d}" for item in range(ITEMS)]
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 6)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 6)
    found = pa.table({"item_id": ids, "features": lists}).slice(3)
    named = pa.table({"item": pa.array(range(ITEMS), pa.int32()), "item_id": ids})
    return metrics | write_features(found, named, attempt)


def model_of(run: Run) -> Model:
    attempt = Attempt(run, "look")
    _, tensors = artefact.load_checkpoint(attempt.read("train", "checkpoint.safetensors"))
    config = profile_of(run.record).train.model
    return restore(config, artefact.best_state(tensors), device=torch.device("cpu"))


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with cosmos_server(tmp_path) as endpoint:
        monkeypatch.setenv("COSMOS_ENDPOINT", endpoint)
        yield Account(endpoint, COSMOS_KEY, DATABASE)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_reader_answers_as_the_model_was_judged(
    profile: str, tmp_path: Path, account: Account
) -> None:
    run = judged(tmp_path / "runs", profile)
    run_export(run)
    model, look = model_of(run), Attempt(run, "look")
    assert json.loads(look.read("train", "model.json")) == model.description()
    ids = read_vocabulary(look).item_ids
    test = read_histories(look, "test", items=ITEMS)
    numbers = np.flatnonzero(np.diff(test.rows, prepend=-1))
    assert len(numbers) == USERS
    batch = test.batch(numbers, lags=model.lags)
    scores = model_scorer(model)(batch).numpy()
    with account.reader() as reader:
        for user in (0, 7, USERS - 1):
            history = test.items[test.offsets[user] : test.ends[numbers[user]]]
            found = reader.recommend(
                [ids[item] for item in history], ITEMS, exclude_seen=False, live_only=False
            )
            np.testing.assert_allclose(
                [each.score for each in found], np.sort(scores[user])[::-1], rtol=2e-5, atol=2e-5
            )
            by_id = {each.item_id: each.score for each in found}
            np.testing.assert_allclose(
                [by_id[name] for name in ids], scores[user], rtol=2e-5, atol=2e-5
            )
        assert len(reader.similar(ids[0], 5)) == 5


def test_items_that_have_features_learn_from_them(tmp_path: Path) -> None:
    run = judged(tmp_path, "hvacf", "train.epochs=1")
    assert run.require("preprocess").metrics["items_without_features"] == 3
    side = model_of(run).state()["side"]
    assert (side[:3] == 0.0).all()
    assert (side[3:] != 0.0).any(dim=1).all()
    plain = judged(tmp_path, "hvacf", "train.epochs=1", "train.model.features=false")
    assert "side" not in model_of(plain).state()


def test_a_model_with_rows_for_users_is_judged_by_them_and_refused(tmp_path: Path) -> None:
    run = judged(tmp_path, "hyperml", "train.model.users=table")
    with pytest.raises(GateRefusedError, match="judged but not served"):
        run_export(run)
    popular = run.require("evaluate").metrics["results"]["popularity"]
    assert run.require("evaluate").metrics["results"]["model"]["hr_at_10"] > popular["hr_at_10"]


def test_it_starts_untrained_every_night(tmp_path: Path) -> None:
    run = judged(tmp_path, "hyperml", "train.epochs=1")
    profile = load_profile("hyperml", [f"warm_start={run.run_id}"])
    with pytest.raises(UsageError, match=r"a model of model\.name hyperml starts untrained"):
        warm_start_run(Folder(tmp_path), profile)
