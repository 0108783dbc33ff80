"""Figure 8 of Chamberlain et al. 2019: explicit user points against midpoints of histories.

The symmetric model learns a point for every user; the asymmetric one computes a user from the items
of the history. All else is the same. Shown: accuracy by epoch and by time, and the size.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hyperrec_core.analysis import datasets, report
from hyperrec_core.compare import estimates
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.fit import Progress, TrainConfig, fit
from hyperrec_core.models import Model, PointsConfig
from hyperrec_core.ranks import Ranks

log = logging.getLogger(__name__)

_SET = "ml-100k"
_SEEDS = (1, 2, 3)
_EPOCHS = 12
_NEGATIVES = 100
_EVALUATION_SEED = 7
_VARIANTS = {
    "symmetric: a point a user": PointsConfig(users="table", tables=1),
    "asymmetric: midpoint of the whole history": PointsConfig(tables=1, aggregator="uniform"),
    "asymmetric: midpoint with a learned weight a lag": PointsConfig(tables=1),
}
_COLOURS = ("#d62728", "#1f77b4", "#2ca02c")


@dataclass(frozen=True)
class _Run:
    """One variant fitted with one seed."""

    parameters: int
    progress: Progress
    test: Ranks

    @property
    def ndcg(self) -> list[float]:
        """In validation, by epoch."""
        return [epoch.ndcg_at_10 or 0.0 for epoch in self.progress.epochs]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Of training, up to the end of each epoch."""
        return np.cumsum([epoch.seconds for epoch in self.progress.epochs])


def parameters(model: Model, config: PointsConfig) -> int:
    """Numbers that training learns: d a point, since x0 follows from them, and lag weights."""
    state = model.state()
    points = [state[name] for name in ("target", "context", "users") if name in state]
    weighs = config.users == "midpoint" and config.aggregator == "learned"
    return sum(len(p) for p in points) * config.dimensions + weighs * config.lags


def reproduce(data: Path, to: Path) -> report.Report:
    """Fit the variants on ml-100k with three seeds each and draw `figure8.png`.

    `figure8.md` and `.csv` hold the test metrics, times and sizes, `figure8-epochs.csv` the curves.

    Args:
        data: folder of data sets.
        to: folder to write in.

    Raises:
        DatasetError: ml-100k is not in the folder.
    """
    split = datasets.leave_last_out(datasets.load(_SET, data), seed=_SEEDS[0])
    runs = {title: [_run(split, config, s) for s in _SEEDS] for title, config in _VARIANTS.items()}
    to.mkdir(parents=True, exist_ok=True)
    picture = to / "figure8.png"
    _draw(runs, picture)
    report.write_csv(
        to / "figure8-epochs.csv",
        ["variant", "seed", "epoch", "training seconds", "NDCG@10 in validation"],
        [
            (title, seed, epoch, float(seconds), ndcg)
            for title, of_variant in runs.items()
            for seed, run in zip(_SEEDS, of_variant, strict=True)
            for epoch, (seconds, ndcg) in enumerate(zip(run.seconds, run.ndcg, strict=True), 1)
        ],
    )
    return report.save(
        to / "figure8",
        title="Explicit user points against midpoints",
        columns=["variant", "parameters", "s an epoch", "HR@10", "NDCG@10", "95 % interval"],
        rows=[_row(title, of_variant) for title, of_variant in runs.items()],
        notes=[
            f"{_SET}, leave-last-out, {_NEGATIVES} uniform negatives; means over the seeds "
            f"{', '.join(map(str, _SEEDS))}; the interval is that of NDCG@10 over resampled users. "
            "One table of item points, d = 50; the settings that are not named are the defaults. "
            f"{_EPOCHS} epochs, of which the best in validation is tested.",
            "Parameters are the coordinates that are free, d a point, and the lag weights. The "
            "paper's symmetric model took four times as long as the asymmetric one on its "
            "production data. How long a midpoint takes depends on how histories are batched: here "
            f"an epoch of the symmetric model takes {_relative_time(runs):.1f} times as long as "
            "one with learned weights.",
            f"Threads: {torch.get_num_threads()}. Curves are in figure8-epochs.csv.",
        ],
        pictures=[picture],
    )


def _run(split: datasets.Split, config: PointsConfig, seed: int) -> _Run:
    model, progress = fit(
        split.train, split.validation, TrainConfig(model=config, epochs=_EPOCHS),
        items=split.items, seed=seed, device=torch.device("cpu"),
    )  # fmt: skip
    test = evaluate(
        model_scorer(model), split.test.aligned_to(split.train),
        items=split.items, lags=model.lags, negatives=_NEGATIVES, seed=_EVALUATION_SEED,
    )  # fmt: skip
    run = _Run(parameters(model, config), progress, test)
    log.info("%s users, seed %d: NDCG@10 %.4f", config.users, seed, test.ndcg_at_10)
    return run


def _row(title: str, runs: Sequence[_Run]) -> list[report.Cell]:
    found = estimates([run.test for run in runs], ("hr_at_10", "ndcg_at_10"), seed=_SEEDS[0])
    ndcg = found["ndcg_at_10"]
    seconds = _seconds_an_epoch(runs)
    interval = f"{ndcg.low:.4f} to {ndcg.high:.4f}"
    return [title, runs[0].parameters, seconds, found["hr_at_10"].value, ndcg.value, interval]


def _seconds_an_epoch(runs: Sequence[_Run]) -> float:
    """The median: a machine that is busy with other things slows some epochs."""
    return float(np.median([epoch.seconds for run in runs for epoch in run.progress.epochs]))


def _relative_time(runs: dict[str, list[_Run]]) -> float:
    """Of the first variant, the symmetric, in terms of the last."""
    times = [_seconds_an_epoch(of_variant) for of_variant in runs.values()]
    return times[0] / times[-1]


def _draw(runs: dict[str, list[_Run]], path: Path) -> None:
    figure = Figure(figsize=(10.5, 4.3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    by_epoch, by_time, size = figure.subplots(1, 3, width_ratios=(3, 3, 1.5))
    for (title, of_variant), colour in zip(runs.items(), _COLOURS, strict=True):
        curves = np.array([run.ndcg for run in of_variant])
        seconds = np.mean([run.seconds for run in of_variant], axis=0)
        epochs = np.arange(1, curves.shape[1] + 1)
        for axes, places in ((by_epoch, epochs), (by_time, seconds)):
            axes.fill_between(places, curves.min(0), curves.max(0), color=colour, alpha=0.2, lw=0)
            axes.plot(places, curves.mean(0), "o-", ms=3.5, lw=1.4, color=colour, label=title)
        bar = size.bar(len(size.patches), of_variant[0].parameters / 1000, color=colour, width=0.7)
        size.bar_label(bar, fmt="%.0f", fontsize=8)
    by_epoch.set(xlabel="epoch", ylabel="NDCG@10 in validation")
    by_time.set(xlabel="seconds of training")
    by_time.sharey(by_epoch)
    size.set(ylabel="parameters, thousands", xticks=[])
    for axes in (by_epoch, by_time, size):
        _plain(axes)
    figure.legend(
        *by_epoch.get_legend_handles_labels(),
        loc="outside upper center", ncols=3, frameon=False, fontsize=9,
    )  # fmt: skip
    figure.savefig(path)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
