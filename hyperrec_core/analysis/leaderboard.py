"""The race: every model on every data set under one tuning budget, and its table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hyperrec_core.analysis import standings
from hyperrec_core.analysis.contestants import CONTESTANTS
from hyperrec_core.analysis.contests import Budget, Contest, run_contests
from hyperrec_core.analysis.datasets import find
from hyperrec_core.analysis.report import Report, write_between

log = logging.getLogger(__name__)

FULL = (
    "ml-1m",
    "online-retail",
    "amazon-toys-5core",
    "amazon-beauty-5core",
    "amazon-tools-5core",
    "renttherunway",
    "amazon-cellphones-5core",
    "amazon-sports-5core",
    "amazon-clothing-5core",
)
QUICK = ("online-retail", "ml-100k", "amazon-musical-instruments-5core")


QUICK_BUDGET = Budget(trials=3, trial_examples=500_000, examples=1_000_000, seeds=1)


def run(
    data: Path,
    to: Path,
    *,
    datasets: Sequence[str] | None = None,
    quick: bool = False,
    workers: int = 2,
    budget: Budget | None = None,
    readme: Path | None = None,
) -> Report:
    """Hold what is not held yet, and write the tables.

    Args:
        data: folder of data sets, see `datasets`.
        to: folder of the tables; finished cells are kept in `cells` below it, so that a run that
            was stopped goes on, and another model or set does not repeat the others.
        datasets: names of sets; by default `FULL`, or `QUICK` with `quick`.
        quick: one seed, three sets and a budget of minutes.
        workers: contests at a time, each in a process of one thread.
        budget: what each contest may spend; by default about an hour in all for `FULL` on two
            cores.
        readme: a document that holds the lines `<!-- leaderboard: begin -->` and
            `<!-- leaderboard: end -->`, between which the table is written too.

    Raises:
        DatasetError: a data set is not known or not there.
    """
    budget = budget or (QUICK_BUDGET if quick else Budget())
    chosen = datasets or (QUICK if quick else FULL)
    for dataset in chosen:
        # Found missing now, not after an hour of the others.
        find(dataset, data)
    contests = [
        Contest(dataset, model, budget, data, to / "cells")
        for dataset in chosen
        for model in CONTESTANTS
    ]
    log.info(
        "%d contests, %d at a time: %d trials of up to %s examples, then %d races of up to %s",
        len(contests), workers, budget.trials, f"{budget.trial_examples:,}", budget.seeds,
        f"{budget.examples:,}",
    )  # fmt: skip
    run_contests(contests, workers=workers)
    report = standings.tabulate(contests, to)
    if readme is not None:
        write_between(readme, "leaderboard", f"\n{(to / 'leaderboard.md').read_text('utf-8')}\n")
    return report
