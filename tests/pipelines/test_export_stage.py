"""The export stage: priced, then published, live items alone when the profile says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from pipelines.errors import UsageError
from pipelines.runs import Run
from pipelines.stages import export
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.inputs import Vocabulary, read_vocabulary
from serving_export import publish
from serving_export.containers import DATABASE
from serving_export.pacing import Pace
from tests.pipelines.test_evaluate_stage import ITEMS
from tests.pipelines.test_train_stage import trained
from tests.serving_export.publishing_support import Account


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = trained(tmp_path_factory.mktemp("runs"), "train.epochs=1", "export.live_only=true")
    run_evaluate(run)
    return run


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with cosmos_server(tmp_path) as endpoint:
        monkeypatch.setenv("COSMOS_ENDPOINT", endpoint)
        yield Account(endpoint, COSMOS_KEY, DATABASE)


def every_other_is_live(*given: Any, **options: Any) -> Vocabulary:
    found = read_vocabulary(*given, **options)
    return replace(found, is_live=np.arange(len(found)) % 2 == 0)


def test_priced_without_a_trace_and_then_published_live_items_alone(
    run: Run, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "read_vocabulary", every_other_is_live)
    monkeypatch.setenv("COSMOS_RU_PER_SECOND", "50")
    price = export.price_export(run)
    assert price.documents == ITEMS // 2
    assert price.seconds == pytest.approx(price.request_units / 50)
    assert run.manifest("export") is None
    assert list(account.container("control").read_all_items()) == []
    assert account.documents("a") == []

    monkeypatch.delenv("COSMOS_RU_PER_SECOND")
    metrics = export.run_export(run, why="the first one").metrics
    assert (metrics["items"], metrics["written"]) == (ITEMS // 2, ITEMS // 2)
    assert price.request_units == pytest.approx(metrics["request_units"], rel=0.35)
    assert all(document["is_live"] for document in account.documents("a"))
    (event,) = publish.history(account.endpoint, account.key)
    assert (event.version, event.why) == (run.run_id, "the first one")
    assert any("HR@10" in gate for gate in event.gates)


def test_the_pace_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSMOS_RU_PER_SECOND", "1500")
    monkeypatch.setenv("COSMOS_THROUGHPUT_BUCKET", "2")
    monkeypatch.setenv("HYPERREC_EXPORT_PROCESSES", "3")
    pace = Pace(processes=3, request_units=1500.0, throughput_bucket=2)
    assert export.PublishEnvironment().pace() == pace
    monkeypatch.setenv("COSMOS_THROUGHPUT_BUCKET", "9")
    with pytest.raises(UsageError, match="COSMOS_THROUGHPUT_BUCKET cannot be '9'"):
        export.PublishEnvironment()
