"""Contests: a model on a data set, tuned and raced under one budget for all.

A contest tunes on the validation labels, for at most so many trials
and so much time as any other model, and then races: it is fitted anew for each seed with the best
trial's parameters and judged once on the test labels. Every finished trial and race is kept in a
folder of its own, so a run that was stopped goes on where it was, and a change of a model's search
space, of its version or of the budget starts its contest afresh.

Layout: `<cells>/<data set>/<model>-<key>/` with `tuning.json`, `seed-<n>.parquet` (the ranks of the
test labels) and, written after it, `seed-<n>.json`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from hyperrec_core.analysis import contestants
from hyperrec_core.analysis.contestants import CONTESTANTS, Effort, OutOfTimeError, Parameters
from hyperrec_core.analysis.datasets import SPLIT_SEED, Split, split_of
from hyperrec_core.analysis.peers import PeerError
from hyperrec_core.analysis.provenance import key_of, stamp
from hyperrec_core.analysis.workers import pool as pool_of
from hyperrec_core.evaluate import evaluate
from hyperrec_core.fit import TrainingError
from hyperrec_core.metrics import HEADLINES
from hyperrec_core.ranks import to_parquet

log = logging.getLogger(__name__)

REPEATS = frozenset({"online-retail"})
"""Sets where people take an item again. Elsewhere the full ranking leaves out the history."""

NEGATIVES = 100
_VERSION = 1  # of the protocol: a change of results that no other part of the key tells
_CANDIDATES_SEED = 7
TUNING_LABELS = 5000
"""Validation labels that judge a trial, at most."""


@dataclass(frozen=True)
class Budget:
    """What each contest may spend, the same for every model.

    Attributes:
        trials: settings tried, at most.
        tuning_seconds: after which no trial begins and, once one has succeeded, none goes on; a
            bound for slow models, far above what the others need.
        trial_examples: of a trial, for models that have epochs: as many whole epochs as these
            allow, one at least.
        examples: of a race, likewise.
        epochs: no more than these, however small the set.
        seeds: races of a model whose result depends on a seed; the others have one.
    """

    trials: int = 4
    tuning_seconds: float = 400.0
    trial_examples: int = 3_000_000
    examples: int = 8_000_000
    epochs: int = 12
    seeds: int = 3

    def epochs_of(self, examples: int, labels: int) -> int:
        """How many epochs of so many labels the examples allow."""
        return min(self.epochs, max(1, examples // labels))


@dataclass(frozen=True)
class Trial:
    """One setting tried: its NDCG@10 on validation, or why there is none.

    `fit_seconds` is the fit alone, `seconds` everything.
    """

    parameters: Parameters
    ndcg_at_10: float | None
    seconds: float
    fit_seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class Tuning:
    """The trials so far."""

    trials: Sequence[Trial] = ()

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial that ranked validation best; None where none succeeded."""
        done = [trial for trial in self.trials if trial.ndcg_at_10 is not None]
        return max(done, key=lambda trial: trial.ndcg_at_10 or 0.0, default=None)


@dataclass(frozen=True)
class Contest:
    """A model on a data set under a budget, and where its results lie."""

    dataset: str
    model: str
    budget: Budget
    data: Path
    cells: Path

    @property
    def folder(self) -> Path:
        """Of this contest's files; its name changes with all that decides the results."""
        settings = asdict(replace(self.budget, seeds=0))
        decides = [
            contestants.identity(self.model),
            settings,
            [_VERSION, SPLIT_SEED, _CANDIDATES_SEED, NEGATIVES, TUNING_LABELS],
        ]
        return self.cells / self.dataset / f"{self.model}-{key_of(decides, 8)}"

    @property
    def seeds(self) -> range:
        """Of the races."""
        return range(1, 1 + (self.budget.seeds if CONTESTANTS[self.model].has_seed else 1))

    def tuning(self) -> Tuning | None:
        """What tuning did so far; None before it began."""
        path = self.folder / "tuning.json"
        if not path.is_file():
            return None
        record = json.loads(path.read_text("utf-8"))
        trials = [Trial(**trial) for trial in record.pop("trials")]
        return Tuning(**record, trials=trials)

    def races(self) -> list[dict[str, Any]]:
        """The record of each finished race, by seed."""
        paths = [self.folder / f"seed-{seed}.json" for seed in self.seeds]
        return [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]

    def ranks(self) -> list[bytes]:
        """The file of ranks of each finished race, by seed."""
        paths = [self.folder / f"seed-{race['seed']}.parquet" for race in self.races()]
        return [path.read_bytes() for path in paths]


def run_contests(contests: Sequence[Contest], *, workers: int) -> None:
    """Hold all contests that are not finished, `workers` at a time in processes of one thread.

    Raises:
        DatasetError: a data set is not there.
    """
    started = time.monotonic()
    with pool_of(workers) as pool:
        running = {pool.submit(hold, contest): contest for contest in contests}
        try:
            for done, future in enumerate(as_completed(running), start=1):
                log.info(
                    "%d of %d after %.0f s: %s",
                    done, len(contests), time.monotonic() - started, future.result(),
                )  # fmt: skip
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def hold(contest: Contest) -> str:
    """Tune and race, as far as that is not done yet.

    Returns:
        What came of it, in a line.
    """
    missing = len(contest.seeds) - len(contest.races())
    words = f"{contest.dataset}, {CONTESTANTS[contest.model].title}"
    if missing:
        split = split_of(contest.dataset, contest.data)
        contest.folder.mkdir(parents=True, exist_ok=True)
        tuning = _tune(contest, split)
        if tuning.best is None:
            return f"{words}: {tuning.trials[0].problem}"
        for seed in contest.seeds:
            if not (contest.folder / f"seed-{seed}.json").is_file():
                _race(contest, split, tuning.best, seed)
    races = contest.races()
    ndcg = np.mean([race["metrics"]["ndcg_at_10"] for race in races])
    seconds = np.mean([race["fit_seconds"] for race in races])
    return f"{words}: NDCG@10 {ndcg:.4f}, {len(races)} x {seconds:.1f} s" + (
        "" if missing else " (cached)"
    )


def _tune(contest: Contest, split: Split) -> Tuning:
    """Try settings until the budget is spent, keeping each trial as it ends."""
    budget = contest.budget
    tuning = contest.tuning() or Tuning()
    # A model without parameters is judged once, so that its trial is there like any other's.
    wanted = budget.trials if contestants.SPACES[contest.model] else 1
    while len(tuning.trials) < wanted:
        left = budget.tuning_seconds - tuning.seconds
        if left <= 0 and tuning.trials:
            break
        # Something must succeed, however long it takes.
        seconds = math.inf if tuning.best is None else left
        trial = _try(contest, split, _propose(contest.model, tuning.trials), seconds)
        tuning = replace(tuning, trials=[*tuning.trials, trial])
        _write(contest.folder / "tuning.json", asdict(tuning))
    return tuning


def _try(contest: Contest, split: Split, parameters: Parameters, seconds: float) -> Trial:
    """Fit a setting, for so many seconds at most, and judge it on validation."""
    labels = len(split.validation)
    chosen = np.random.default_rng(_CANDIDATES_SEED).permutation(labels)[:TUNING_LABELS]
    value = problem = None
    started = fitted_at = time.monotonic()
    try:
        budget = contest.budget
        epochs = budget.epochs_of(budget.trial_examples, len(split.train))
        effort = Effort(epochs, started + seconds)
        fitted = contestants.fit(contest.model, split, parameters, seed=0, effort=effort)
        fitted_at = time.monotonic()
        value = evaluate(
            fitted.scorer,
            split.validation,
            items=split.items,
            lags=fitted.lags,
            negatives=NEGATIVES,
            seed=_CANDIDATES_SEED,
            examples=np.sort(chosen),
        ).ndcg_at_10
    except (OutOfTimeError, PeerError, TrainingError) as error:
        problem = str(error)
    return Trial(parameters, value, time.monotonic() - started, fitted_at - started, problem)


def _propose(model: str, done: Sequence[Trial]) -> Parameters:
    """The next setting: the model's own first ones, then optuna's choice after those done.

    The choice is a function of the trials alone: tuning that was stopped goes on as it would have.
    """
    starts, space = contestants.STARTS[model], dict(contestants.SPACES[model])
    if len(done) < len(starts) or not space:
        return dict(starts[len(done)]) if starts else {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=len(done), n_startup_trials=len(starts) + 2)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in done:
        # What failed or took too long ranks last, or it would be tried again.
        value = 0.0 if trial.ndcg_at_10 is None else trial.ndcg_at_10
        study.add_trial(
            optuna.trial.create_trial(params=trial.parameters, distributions=space, value=value)
        )
    return dict(study.ask(space).params)


def _race(contest: Contest, split: Split, best: Trial, seed: int) -> None:
    """Fit with the best trial's parameters and judge on test."""
    budget = contest.budget
    effort = Effort(budget.epochs_of(budget.examples, len(split.train)), math.inf)
    started = time.monotonic()
    fitted = contestants.fit(contest.model, split, best.parameters, seed=seed, effort=effort)
    fitted_at = time.monotonic()
    ranks = evaluate(
        fitted.scorer,
        split.test,
        items=split.items,
        lags=fitted.lags,
        negatives=NEGATIVES,
        seed=_CANDIDATES_SEED,
        exclude_seen=contest.dataset not in REPEATS,
    )
    record = {
        "dataset": contest.dataset,
        "model": contest.model,
        "seed": seed,
        "parameters": best.parameters,
        "epochs": effort.epochs if CONTESTANTS[contest.model].has_epochs else None,
        "fit_seconds": fitted_at - started,
        "evaluate_seconds": time.monotonic() - fitted_at,
        "coverage_at_10": ranks.coverage_at_10,
        "metrics": {name: ranks.mean(name) for name in HEADLINES},
        **stamp(),
    }
    stem = contest.folder / f"seed-{seed}"
    stem.with_suffix(".parquet").write_bytes(
        to_parquet(ranks, user_ids=split.test.user_ids, item_ids=split.item_ids.to_pylist())
    )
    _write(stem.with_suffix(".json"), record)


def _write(path: Path, value: Any) -> None:
    """Write JSON in one step, so that a file that is there is whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1), "utf-8")
    partial.replace(path)
