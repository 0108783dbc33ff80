"""Nights of a back-fill: in order, up to a stage, each warm from the one before, and resumed."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import date
from types import SimpleNamespace

import pytest

from pipelines.errors import PipelineError
from pipelines.flows import backfill as flows
from pipelines.flows import night
from pipelines.flows.forms import BackfillForm

FIRST, LAST = date(2024, 2, 28), date(2024, 3, 1)


@pytest.fixture
def done(monkeypatch, tmp_path):
    """Stages as they are asked for; a night fails once the list says so."""
    asked, failing = [], []

    def start_run(**words):
        run_id = f"{words['as_of']}-{len(words['overrides'])}"
        asked.append(("start", words["as_of"], *words["overrides"]))
        return SimpleNamespace(run_id=run_id)

    def do_stage(stage, run, *, why):
        if (stage, run.run_id[:10]) in failing:
            raise PipelineError("The shop is closed.")
        asked.append((stage, run.run_id))

    monkeypatch.setattr(night, "start_run", start_run)
    monkeypatch.setattr(flows, "do_stage", do_stage)
    monkeypatch.setattr(flows, "_spark", lambda until: nullcontext())
    monkeypatch.setattr(flows, "_told", lambda form, runs: "")
    monkeypatch.setattr(flows.publish, "as_markdown", lambda key, text: None)
    return asked, failing, (tmp_path / "runs").as_uri()


def backfill(done, **fields):
    form = BackfillForm(source="az://raw", first=FIRST, last=LAST, runs=done[2], **fields)
    return flows._backfill(form)


def test_nights_go_in_order_up_to_the_stage(done):
    asked = done[0]
    run_ids = backfill(done, until="train")
    assert run_ids == ["2024-02-28-0", "2024-02-29-0", "2024-03-01-0"]
    assert asked[:4] == [
        ("start", FIRST),
        ("preprocess", "2024-02-28-0"),
        ("train", "2024-02-28-0"),
        ("start", date(2024, 2, 29)),
    ]
    assert {stage for stage, *_ in asked} == {"start", "preprocess", "train"}


def test_a_warm_night_starts_from_the_one_before(done):
    backfill(done, warm=True, settings=["train.epochs=1"])
    assert [words for what, *words in done[0] if what == "start"] == [
        [FIRST, "train.epochs=1"],
        [date(2024, 2, 29), "train.epochs=1", 'warm_start="2024-02-28-1"'],
        [LAST, "train.epochs=1", 'warm_start="2024-02-29-2"'],
    ]


def test_a_night_that_fails_is_named_and_ends_the_back_fill(done):
    asked, failing, _ = done
    failing.append(("train", "2024-02-29"))
    with pytest.raises(PipelineError, match=r"Night 2024-02-29: The shop is closed\."):
        backfill(done)
    assert asked[-1] == ("preprocess", "2024-02-29-0")
