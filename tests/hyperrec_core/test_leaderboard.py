"""The leaderboard: cells that are kept and go on, one budget for all, and the tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperrec_core.analysis import contestants, contests, leaderboard, peers, standings
from hyperrec_core.analysis.contestants import CONTESTANTS, SPACES, STARTS, Effort
from hyperrec_core.analysis.contests import Budget, Contest, Trial, hold
from hyperrec_core.analysis.datasets import (
    SPLIT_SEED,
    DatasetError,
    Split,
    leave_last_out,
    load,
    split_of,
)
from hyperrec_core.analysis.report import write_between
from hyperrec_core.fit import TrainingError

SMALL = Budget(trials=4, tuning_seconds=1e6, trial_examples=1, examples=10**9, epochs=2, seeds=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the form of ml-100k: 60 users, two kinds of items."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(5)
    users, items, times = [], [], []
    for user in range(60):
        for time in range(8):
            users.append(f"{user}")
            items.append(f"{2 * int(generator.integers(0, 20)) + user % 2}")
            times.append(time)
    (folder / "ml-100k").mkdir()
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    pq.write_table(table, folder / "ml-100k" / "interactions.parquet")
    return folder


@pytest.fixture(autouse=True)
def no_split_of_another_test() -> Iterator[None]:
    split_of.cache_clear()
    yield
    split_of.cache_clear()


@pytest.fixture
def contest(data: Path, tmp_path: Path) -> Contest:
    return Contest("ml-100k", "item-knn", SMALL, data, tmp_path / "cells")


def trials(contest: Contest) -> list[Trial]:
    tuning = contest.tuning()
    assert tuning is not None
    return list(tuning.trials)


Fits = list[tuple[dict[str, Any], int]]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    """Parameters and seed of every fit from here on."""
    seen: Fits = []
    real = contestants.fit

    def fit(name: str, split: Split, parameters: Any, *, seed: int, effort: Effort) -> Any:
        seen.append((parameters, seed))
        return real(name, split, parameters, seed=seed, effort=effort)

    monkeypatch.setattr(contestants, "fit", fit)
    return seen


def test_every_contestant_has_a_space_and_starts_in_it() -> None:
    assert set(CONTESTANTS) == set(SPACES) == set(STARTS)
    for name, starts in STARTS.items():
        for start in starts:
            assert set(start) == set(SPACES[name])
            for key, value in start.items():
                distribution = SPACES[name][key]
                assert distribution._contains(distribution.to_internal_repr(value)), (name, key)


def test_a_finished_contest_is_not_held_again(contest: Contest, fits: Fits) -> None:
    hold(contest)
    assert len(fits) == SMALL.trials + 1
    assert hold(contest).endswith("(cached)")
    assert len(fits) == SMALL.trials + 1


def test_more_seeds_add_races_alone(contest: Contest, fits: Fits) -> None:
    contest = replace(contest, model="als")
    hold(contest)
    done = len(fits)
    hold(replace(contest, budget=replace(SMALL, seeds=3)))
    assert [seed for _, seed in fits[done:]] == [3]


@pytest.mark.parametrize("stops_at", [1, 3])
def test_a_stopped_run_goes_on_as_it_would_have(
    contest: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: Fits, stops_at: int
) -> None:
    undisturbed = replace(contest, cells=tmp_path / "undisturbed")
    hold(undisturbed)
    expected, done = trials(undisturbed), len(fits)

    real, calls = contests.evaluate, 0

    def evaluate(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stops_at:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr(contests, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        hold(contest)
    hold(contest)
    # One fit more than undisturbed: the one that was cut off.
    assert len(fits) - done == done + 1
    found = trials(contest)
    assert [(t.parameters, t.ndcg_at_10) for t in found] == [
        (t.parameters, t.ndcg_at_10) for t in expected
    ]
    assert contest.races()[0]["metrics"] == undisturbed.races()[0]["metrics"]


def test_what_decides_results_makes_new_cells(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {contest.folder}
    folders.add(replace(contest, budget=replace(SMALL, trials=9)).folder)
    changed = {"shrinkage": contestants.between(1, 2), "neighbours": contestants.one_of(5)}
    with monkeypatch.context() as patch:
        patch.setattr(contestants, "SPACES", {**SPACES, "item-knn": changed})
        folders.add(contest.folder)
    with monkeypatch.context() as patch:
        newer = {**CONTESTANTS, "item-knn": replace(CONTESTANTS["item-knn"], version=2)}
        patch.setattr(contestants, "CONTESTANTS", newer)
        folders.add(contest.folder)
    assert len(folders) == 4
    assert replace(contest, budget=replace(SMALL, seeds=7)).folder == contest.folder


def test_validation_chooses_and_test_is_ranked_once_a_race(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    split = leave_last_out(load("ml-100k", data), seed=SPLIT_SEED)
    judged = []
    real = contests.evaluate

    def evaluate(scorer: Any, histories: Any, **settings: Any) -> Any:
        is_test = np.array_equal(histories.label_positions, split.test.label_positions)
        judged.append("test" if is_test else "validation")
        return real(scorer, histories, **settings)

    monkeypatch.setattr(contests, "evaluate", evaluate)
    hold(contest)
    assert judged == ["validation"] * SMALL.trials + ["test"]
    best = max(trials(contest), key=lambda trial: trial.ndcg_at_10 or 0)
    assert contest.races()[0]["parameters"] == best.parameters


def clock(monkeypatch: pytest.MonkeyPatch, seconds_a_fit: float) -> None:
    """Fits take so long by the clock that budgets go by."""
    now = 0.0
    real = contestants.fit

    def fit(*args: Any, effort: Effort, **settings: Any) -> Any:
        nonlocal now
        now += seconds_a_fit
        if now > effort.deadline:
            raise contestants.OutOfTimeError("Too late.")
        return real(*args, effort=effort, **settings)

    monkeypatch.setattr(contests.time, "monotonic", lambda: now)
    monkeypatch.setattr(contestants, "fit", fit)


def test_tuning_ends_with_its_time_and_a_late_trial_is_given_up(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, seconds_a_fit=10.0)
    contest = replace(contest, budget=replace(SMALL, tuning_seconds=25.0))
    hold(contest)
    assert [trial.ndcg_at_10 is None for trial in trials(contest)] == [False, False, True]
    assert contest.races()


def test_a_slow_model_has_one_trial(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, seconds_a_fit=100.0)
    contest = replace(contest, budget=replace(SMALL, tuning_seconds=25.0))
    hold(contest)
    assert len(trials(contest)) == 1


def test_a_refusal_is_told_and_kept(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "EASE_ITEMS", 3)
    ease = replace(contest, model="ease")
    assert "EASE inverts a dense" in hold(ease)
    popularity = replace(contest, model="popularity")
    hold(popularity)
    report = standings.tabulate([ease, popularity], tmp_path)
    assert [row[1] for row in report.rows] == ["popularity"]
    assert "EASE: EASE inverts a dense" in (tmp_path / "leaderboard.md").read_text("utf-8")


def test_a_trial_that_diverges_is_not_chosen(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contestants.fit

    def fit(name: str, split: Split, parameters: Any, **settings: Any) -> Any:
        if parameters == STARTS["item-knn"][0]:
            raise TrainingError("The loss is nan.")
        return real(name, split, parameters, **settings)

    monkeypatch.setattr(contestants, "fit", fit)
    hold(contest)
    assert trials(contest)[0].problem == "The loss is nan."
    assert contest.races()[0]["parameters"] != STARTS["item-knn"][0]


def test_a_run_in_processes_writes_tables_and_the_readme(data: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        "Before.\n<!-- leaderboard: begin -->\nstale\n<!-- leaderboard: end -->\nAfter.\n", "utf-8"
    )
    budget = replace(SMALL, trials=2)
    report = leaderboard.run(
        data, tmp_path / "to", datasets=["ml-100k"], budget=budget, workers=1, readme=readme
    )
    assert [row[1] for row in report.rows] == [c.title for c in CONTESTANTS.values()]
    with (tmp_path / "to" / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for metric in standings.METRICS.values():
            low, value, high = (float(row[metric + end]) for end in (" low", "", " high"))
            assert 0 <= low <= value <= high <= 1
    with (tmp_path / "to" / "leaderboard-pairs.csv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    assert {row["metric"] for row in pairs} == set(standings.METRICS.values())
    for row in pairs:
        difference = float(row["first"]) - float(row["second"])
        assert float(row["difference"]) == pytest.approx(difference)
    text = readme.read_text("utf-8")
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "stale" not in text
    assert "hyperboloid searches" in text
    assert "torch 2" in text


def test_a_set_that_lacks_is_told_before_anything_is_held(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="ml-1m"):
        leaderboard.run(data, tmp_path, datasets=["ml-100k", "ml-1m"], budget=SMALL)
    assert not list(tmp_path.iterdir())


def test_published_figures_stand_beside_ours(contest: Contest, tmp_path: Path) -> None:
    popularity = replace(contest, model="popularity")
    hold(popularity)
    toys = replace(popularity, dataset="amazon-toys-5core")
    toys.folder.parent.mkdir(parents=True)
    popularity.folder.rename(toys.folder)
    report = standings.tabulate([toys], tmp_path)
    hyperml = next(row for row in report.rows if str(row[1]).startswith("HyperML"))
    assert hyperml[2:4] == [0.35995, 0.23164]


def test_a_document_without_the_lines_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("Nothing.\n", "utf-8")
    with pytest.raises(ValueError, match="lacks the lines"):
        write_between(document, "leaderboard", "text\n")


def test_a_file_half_written_is_no_cell(contest: Contest) -> None:
    contest.folder.mkdir(parents=True)
    (contest.folder / "seed-1.partial").write_text('{"metrics"', "utf-8")
    (contest.folder / "seed-1.parquet").write_bytes(b"PAR1")
    hold(contest)
    assert json.loads((contest.folder / "seed-1.json").read_text("utf-8"))["seed"] == 1
    assert len(contest.ranks()) == 1
