"""Nights of a back-fill: in order, up to a stage, each warm from the one before, and resumed."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import date
from types import SimpleNamespace

import pytest

from pipelines.errors import PipelineError, UsageError
from pipelines.flows import backfill as flows

FIRST, LAST = date(2024, 2, 28), date(2024, 3, 1)


@pytest.fixture
def done(monkeypatch):
    """Stages as they are asked for; the second night fails once the list says so."""
    asked, failing = [], []

    def start_run(**words):
        run_id = f"{words['as_of']}-{len(words['overrides'])}"
        asked.append(("start", words["as_of"], *words["overrides"]))
        return SimpleNamespace(run_id=run_id, storage=SimpleNamespace(url="file:///runs"))

    def stage_task(stage, runs, run_id):
        if (stage, run_id[:10]) in failing:
            raise PipelineError("The shop is closed.")
        asked.append((stage, run_id))

    monkeypatch.setattr(flows, "start_run", start_run)
    monkeypatch.setattr(flows, "stage_task", stage_task)
    monkeypatch.setattr(flows, "_spark", lambda until: nullcontext())
    return asked, failing


def test_nights_go_in_order_up_to_the_stage(done):
    asked, _ = done
    run_ids = flows.backfill.fn("az://raw", FIRST, LAST, until="train")
    assert run_ids == ["2024-02-28-0", "2024-02-29-0", "2024-03-01-0"]
    assert asked[:4] == [
        ("start", FIRST),
        ("preprocess", "2024-02-28-0"),
        ("train", "2024-02-28-0"),
        ("start", date(2024, 2, 29)),
    ]
    assert {stage for stage, *_ in asked} == {"start", "preprocess", "train"}


def test_a_warm_night_starts_from_the_one_before(done):
    asked, _ = done
    flows.backfill.fn("az://raw", FIRST, LAST, warm=True, overrides=["train.epochs=1"])
    assert [words for what, *words in asked if what == "start"] == [
        [FIRST, "train.epochs=1"],
        [date(2024, 2, 29), "train.epochs=1", 'warm_start="2024-02-28-1"'],
        [LAST, "train.epochs=1", 'warm_start="2024-02-29-2"'],
    ]


def test_a_night_that_fails_is_named_and_ends_the_back_fill(done):
    asked, failing = done
    failing.append(("train", "2024-02-29"))
    with pytest.raises(PipelineError, match=r"Night 2024-02-29: The shop is closed\."):
        flows.backfill.fn("az://raw", FIRST, LAST)
    assert asked[-1] == ("preprocess", "2024-02-29-0")


def test_a_range_without_nights_is_refused(done):
    with pytest.raises(UsageError, match="the first comes after it"):
        flows.backfill.fn("az://raw", LAST, FIRST)
