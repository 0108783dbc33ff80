"""HVACF and what each of its parts is worth: AUC on held-out items, and where popular items lie.

Shimizu et al. 2024 report AUC on three sets of fashion images, which are not at hand; here features
are made of the attributes or categories of public sets. A cell is the model with one part left out
on one set: fitted on train, the epoch chosen by validation, judged on each user's last item. Users
are made of their histories, as they are served, but in one cell, where each has a point of their
own, as in the paper.

AUC is the share of the items that a user has not taken which rank below the one held out, the mean
over users; an item that the user had taken before ranks nowhere and does not count. The rank
correlation (Spearman) is between how often an item occurs in training and its distance from the
origin: below 0, popular items are nearer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hyperrec_core.analysis.datasets import Split, find, split_of
from hyperrec_core.analysis.kept import Record, hold
from hyperrec_core.analysis.provenance import key_of, stamp
from hyperrec_core.analysis.report import Cell as Shown
from hyperrec_core.analysis.report import Report, save
from hyperrec_core.evaluate import Scorer, evaluate, model_scorer, popularity_scorer
from hyperrec_core.fit import TrainConfig, TrainingError, fit
from hyperrec_core.geometry import lorentz
from hyperrec_core.models import Model
from hyperrec_core.models.hvacf import HVACFConfig
from hyperrec_core.ranks import Ranks

FULL = ("renttherunway", "amazon-beauty-5core", "amazon-sports-5core", "amazon-toys-5core")
QUICK = ("amazon-beauty-5core",)

_MODEL = HVACFConfig()
VARIANTS: Mapping[str, HVACFConfig] = {
    "full": _MODEL,
    "without attention": replace(_MODEL, attention=False),
    "without features": replace(_MODEL, features=False),
    "without the Euclidean loss": replace(_MODEL, euclidean=False),
    "without the adjustment": replace(_MODEL, adjustment=0.0),
    "a point for each user": replace(_MODEL, users="table"),
}
"""What is left out, or other."""

_EPOCHS, _QUICK_EPOCHS = 30, 3
_BATCH, _NEGATIVES = 512, 100
_SEED, _CANDIDATES_SEED = 1, 7
_BINS = 12  # of popularity, in the picture
_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One variant on one set."""

    dataset: str
    variant: str
    epochs: int

    @property
    def config(self) -> TrainConfig:
        """How it is fitted."""
        return TrainConfig(
            model=VARIANTS[self.variant],
            epochs=self.epochs,
            batch_size=_BATCH,
            negatives=_BATCH,
        )

    @property
    def key(self) -> str:
        """Changes with all that decides the result."""
        decides = [_VERSION, asdict(self), asdict(self.config), _SEED, _CANDIDATES_SEED]
        return key_of(decides, 16)


def run(
    data: Path, to: Path, *, datasets: Sequence[str] | None = None, quick: bool = False
) -> Report:
    """Compute the cells that lack, and write `hvacf.md`, `.csv` and `.png`.

    Args:
        data: folder of data sets, see `datasets`.
        to: folder to write in, and of the cells, `hvacf-cells.jsonl`.
        datasets: names of sets; by default `FULL`, or `QUICK` with `quick`.
        quick: few epochs: to try, not to compare.

    Raises:
        DatasetError: a data set is not known or not there.
    """
    chosen = tuple(datasets or (QUICK if quick else FULL))
    for dataset in chosen:
        find(dataset, data)
    epochs = _QUICK_EPOCHS if quick else _EPOCHS
    cells = {(d, v): Cell(d, v, epochs) for d in chosen for v in VARIANTS}
    kept = to / "hvacf-cells.jsonl"
    records = hold(cells.values(), partial(compute, data=data), kept)
    found = {place: records[cell.key] for place, cell in cells.items()}
    rows = [_row(*place, record) for place, record in found.items()]
    to.mkdir(parents=True, exist_ok=True)
    first = next(iter(found.values()))
    effort = f"a quick run of {epochs} epochs, not to compare by" if quick else f"{epochs} epochs"
    report = save(
        to / "hvacf",
        title="HVACF and its parts",
        columns=["data", "model", "AUC", "AUC of popularity", "HR@10", "NDCG@10",
                 "popularity and radius", "median radius", "best epoch"],
        rows=rows,
        pictures=[_draw(to / "hvacf.png", found)],
        notes=[
            f"Measured {first['date']} on {first['hardware']}, one thread a cell, one seed; "
            f"{effort}, d = {_MODEL.dimensions}, batches of {_BATCH}.",
            "AUC: the share of a user's unseen items that rank below the held-out one. Popularity "
            "and radius: Spearman's correlation of an item's count and its distance from the "
            "origin; below 0, popular items are nearer.",
        ],
    )  # fmt: skip
    return Report(report.title, report.columns, rows, report.notes, (*report.files, kept))


def compute(cell: Cell, data: Path) -> Record:
    """Fit and judge one cell."""
    split, config = split_of(cell.dataset, data), cell.config
    features = split.features
    record: Record = {
        "key": cell.key,
        "dataset": cell.dataset,
        "settings": asdict(config.model) | {"variant": cell.variant},
        "features": 0 if features is None else features.shape[1],
        **stamp(),
    }
    started = time.monotonic()
    try:
        model, progress = fit(
            split.train,
            split.validation,
            config,
            items=split.items,
            seed=_SEED,
            device=torch.device("cpu"),
            features=None if features is None else torch.from_numpy(features),
        )
    except TrainingError as error:
        return record | {"problem": str(error)}
    seconds = time.monotonic() - started
    ranks = _judge(split, model_scorer(model), model.lags)
    popular = _judge(split, popularity_scorer(split.counts), 1)
    return record | {
        "seconds": seconds,
        "best_epoch": progress.best_epoch,
        "auc": auc(ranks, split),
        "popularity_auc": auc(popular, split),
        "repeats": int(ranks.repeat.sum()),
        "labels": len(ranks),
        "hr_at_10": ranks.hr_at_10,
        "ndcg_at_10": ranks.ndcg_at_10,
        **_radii(model, split.counts),
    }


def auc(ranks: Ranks, split: Split) -> float:
    """The mean share of a user's unseen items that rank below the held-out one.

    Args:
        ranks: of all test labels, one a user, of a ranking without the items of the history.
        split: of these labels.
    """
    test = split.test
    positions = np.repeat(np.arange(len(test.offsets) - 1), np.diff(test.offsets))
    ends = np.zeros(len(test.offsets) - 1, np.int64)
    ends[test.rows] = test.ends
    past = np.arange(len(test.items)) < ends[positions]
    taken = np.unique(positions[past] * np.int64(split.items) + test.items[past])
    seen = np.bincount(taken // split.items, minlength=len(ends))[test.rows]
    others = split.items - seen - 1
    shares = 1.0 - (ranks.full - 1) / np.maximum(others, 1)
    return float(shares[~ranks.repeat].mean())


def _judge(split: Split, scorer: Scorer, lags: int) -> Ranks:
    return evaluate(
        scorer,
        split.test.aligned_to(split.train),
        items=split.items,
        lags=lags,
        negatives=_NEGATIVES,
        seed=_CANDIDATES_SEED,
        exclude_seen=True,
    )


def _radii(model: Model, counts: NDArray[np.int64]) -> Record:
    """The rank correlation of the trained items' counts and radii, and medians by count."""
    radius = lorentz.radius(lorentz.flip_time(model.item_vectors())).numpy()[counts > 0]
    counts = counts[counts > 0]
    edges = np.unique(np.round(np.geomspace(1, counts.max() + 1, _BINS + 1)))
    bins = np.digitize(counts, edges)
    by_count = [
        [float(np.median(values[bins == b])) for values in (counts, radius)]
        for b in np.unique(bins)
    ]
    return {
        "spearman": float(spearmanr(counts, radius).statistic),
        "median_radius": float(np.median(radius)),
        "radius_by_count": by_count,
    }


def _row(dataset: str, variant: str, record: Record) -> list[Shown]:
    names = ("auc", "popularity_auc", "hr_at_10", "ndcg_at_10", "spearman", "median_radius",
             "best_epoch")  # fmt: skip
    return [dataset, variant, *(record.get(name) for name in names)]


def _draw(picture: Path, found: Mapping[tuple[str, str], Record]) -> Path:
    """AUC by what is left out, and the full model's radii by popularity."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    sets = list(dict.fromkeys(dataset for dataset, _ in found))
    heights = np.arange(len(VARIANTS))
    for number, dataset in enumerate(sets):
        values = [found[dataset, variant].get("auc", np.nan) for variant in VARIANTS]
        offset = (number - (len(sets) - 1) / 2) * 0.8 / len(sets)
        left.plot(values, heights + offset, "o", label=dataset)
        for x, y in zip(values, heights + offset, strict=True):
            if np.isfinite(x):
                left.annotate(f"{x:.3f}", (x, y), (6, -3), textcoords="offset points", fontsize=7)
        full = found[dataset, "full"]
        if "radius_by_count" in full:
            right.plot(*zip(*full["radius_by_count"], strict=True), "o-", label=dataset)
    left.set_yticks(heights, VARIANTS)
    left.invert_yaxis()
    left.margins(x=0.15)
    left.set(xlabel="AUC")
    right.set(
        xscale="log", xlabel="interactions of an item", ylabel="median distance to the origin"
    )
    right.legend(fontsize=8)
    figure.savefig(picture, dpi=150)
    return picture
