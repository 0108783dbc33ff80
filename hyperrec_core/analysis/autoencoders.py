"""The autoencoder in flat space and on the ball: whether it trains, and what it reaches.

Demidova et al. 2023, a course project after Kuchaiev & Ginsburg 2017 and Mirvakhabova et al. 2020,
could not train its layers on the Poincaré ball. Here every curvature is fitted from five seeds. Of
every epoch the loss, the norm of the gradient on the first batch and NDCG@10 on validation are
kept; anything that is no number ends a fit with a `problem`.

The split is `leave_last_out`, as for the other models, not the project's by time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from hyperrec_core.analysis.datasets import Split, find, split_of
from hyperrec_core.analysis.kept import Record, hold
from hyperrec_core.analysis.provenance import key_of, stamp
from hyperrec_core.analysis.report import Cell as Shown
from hyperrec_core.analysis.report import Report, save
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.examples import Examples, Shuffled
from hyperrec_core.fit import KEPT, Progress, TrainConfig, TrainingError, fit
from hyperrec_core.models import restore
from hyperrec_core.models.autoencoder import Autoencoder, AutoencoderConfig

FULL, QUICK = ("ml-1m",), ("amazon-musical-instruments-5core",)
CURVATURES = (0.0, 0.1, 1.0, 8.0)
SEEDS = (1, 2, 3, 4, 5)
_EPOCHS, _QUICK_EPOCHS = 40, 4
_BATCH, _NEGATIVES, _CANDIDATES_SEED = 64, 100, 7
_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One curvature from one seed on one set; two layers on either side of the code."""

    dataset: str
    curvature: float
    seed: int
    epochs: int

    @property
    def config(self) -> TrainConfig:
        """How it is fitted."""
        model = AutoencoderConfig(curvature=self.curvature, hidden=(32,))
        return TrainConfig(model=model, epochs=self.epochs, batch_size=_BATCH, negatives=_NEGATIVES)

    @property
    def key(self) -> str:
        """Changes with all that decides the result."""
        decides = [_VERSION, asdict(self), asdict(self.config), _CANDIDATES_SEED]
        return key_of(decides, 16)


def run(
    data: Path, to: Path, *, datasets: Sequence[str] | None = None, quick: bool = False
) -> Report:
    """Compute the cells that lack, and write `autoencoder.md`, `.csv` and `.png`.

    Args:
        data: folder of data sets, see `datasets`.
        to: folder to write in, and of the cells, `autoencoder-cells.jsonl`.
        datasets: names of sets; by default `FULL`, or `QUICK` with `quick`.
        quick: two seeds and few epochs.

    Raises:
        DatasetError: a data set is not known or not there.
    """
    chosen = tuple(datasets or (QUICK if quick else FULL))
    for dataset in chosen:
        find(dataset, data)
    epochs, seeds = (_QUICK_EPOCHS, SEEDS[:2]) if quick else (_EPOCHS, SEEDS)
    cells = {
        (dataset, c): [Cell(dataset, c, seed, epochs) for seed in seeds]
        for dataset in chosen
        for c in CURVATURES
    }
    kept = to / "autoencoder-cells.jsonl"
    records = hold([c for of in cells.values() for c in of], partial(compute, data=data), kept)
    found = {place: [records[cell.key] for cell in of] for place, of in cells.items()}
    rows: list[list[Shown]] = [
        [dataset, curvature, *_summary(of)] for (dataset, curvature), of in found.items()
    ]
    to.mkdir(parents=True, exist_ok=True)
    first = next(iter(found.values()))[0]
    report = save(
        to / "autoencoder",
        title="The autoencoder by curvature",
        columns=["data", "c", "seeds", "not fitted", "HR@10", "±", "NDCG@10", "±",
                 "largest gradient", "seconds"],
        rows=rows,
        pictures=[_draw(to / "autoencoder.png", found)],
        notes=[
            f"Measured {first['date']} on {first['hardware']}, one thread a cell; {epochs} epochs, "
            "± the standard deviation between seeds. A curvature of 0 is flat space."
        ],
    )  # fmt: skip
    return Report(report.title, report.columns, rows, report.notes, (*report.files, kept))


def compute(cell: Cell, data: Path) -> Record:
    """Fit and judge one cell."""
    split, config = split_of(cell.dataset, data), cell.config
    norms: list[float] = []
    batch = _first_batch(split, config)

    def after_epoch(_: Progress, tensors: dict[str, Tensor]) -> None:
        state = {name: x for name, x in tensors.items() if not name.startswith(KEPT)}
        model = cast(Autoencoder, restore(config.model, state, device=torch.device("cpu")))
        norms.append(_gradient_norm(model, model.prepare(batch)))

    record: Record = {
        "key": cell.key,
        "dataset": cell.dataset,
        "settings": asdict(config.model) | {"seed": cell.seed},
        **stamp(),
    }
    started = time.monotonic()
    try:
        model, progress = fit(
            split.train, split.validation, config, items=split.items, seed=cell.seed,
            device=torch.device("cpu"), after_epoch=after_epoch,
        )  # fmt: skip
    except TrainingError as error:
        return record | {"problem": str(error)}
    seconds = time.monotonic() - started
    ranks = evaluate(
        model_scorer(model),
        split.test,
        items=split.items,
        lags=model.lags,
        negatives=_NEGATIVES,
        seed=_CANDIDATES_SEED,
    )
    return record | {
        "seconds": seconds,
        "hr_at_10": ranks.hr_at_10,
        "ndcg_at_10": ranks.ndcg_at_10,
        "losses": [epoch.loss for epoch in progress.epochs],
        "validation": [epoch.ndcg_at_10 for epoch in progress.epochs],
        "gradients": norms,
    }


def _first_batch(split: Split, config: TrainConfig) -> Examples:
    shuffled = Shuffled(
        split.train.whole_rows(),
        seed=0,
        number=1,
        batch_size=config.batch_size,
        lags=cast(AutoencoderConfig, config.model).lags,
        per_history=1,
        negatives=config.negatives,
        items=split.items,
    )
    return next(iter(shuffled.batches()))


def _gradient_norm(model: Autoencoder, batch: Any) -> float:
    """Of the loss of a batch by all parameters."""
    leaves = {
        name: x.detach().requires_grad_() if x.is_floating_point() else x
        for name, x in model.state().items()
    }
    with torch.enable_grad():
        wanted = [leaves[name] for name in model.parameters()]
        gradients = torch.autograd.grad(model.loss(leaves, batch), wanted)
    return float(torch.stack([g.norm() for g in gradients]).norm())


def _summary(records: Sequence[Record]) -> list[Shown]:
    """Of the seeds of one curvature."""
    done = [record for record in records if "problem" not in record]
    counts: list[Shown] = [len(records), len(records) - len(done)]
    if not done:
        return [*counts, *[None] * 6]
    metrics: list[Shown] = []
    for metric in ("hr_at_10", "ndcg_at_10"):
        values = [record[metric] for record in done]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        metrics += [float(np.mean(values)), spread]
    largest = max(max(record["gradients"]) for record in done)
    return [*counts, *metrics, largest, float(np.mean([record["seconds"] for record in done]))]


def _draw(picture: Path, found: Mapping[tuple[str, float], Sequence[Record]]) -> Path:
    """Loss, gradient and validation by epoch, a line a seed."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (("losses", "loss"), ("gradients", "gradient's norm"), ("validation", "NDCG@10"))
    for axes, (name, words) in zip(figure.subplots(1, 3), panels, strict=True):
        for number, ((dataset, c), records) in enumerate(found.items()):
            label = f"{dataset}, c = {c:g}"
            for record in records:
                if name in record:
                    numbers = range(1, len(record[name]) + 1)
                    axes.plot(numbers, record[name], color=f"C{number}", lw=1, label=label)
                    label = ""
        axes.set(xlabel="epoch", ylabel=words)
    axes.legend(fontsize=8)
    figure.savefig(picture, dpi=150)
    return picture
