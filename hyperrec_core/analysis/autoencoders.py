"""The autoencoder in flat space and on the ball: whether it trains, and what it reaches.

Demidova et al. 2023, a course project after Kuchaiev & Ginsburg 2017 and Mirvakhabova et al. 2020,
could not train its layers on the Poincaré ball. Here every curvature is fitted from five seeds. Of
every epoch the loss, the norm of the gradient on the first batch and NDCG@10 on validation are
kept; anything that is no number ends a fit with a `problem`. Then each choice of `ball_layers` is
taken back, flat and on the ball, to see which of them matters.

The split is by time, as the project's, at the 0.98 quantile without cold users and items.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from hyperrec_core.analysis.ball_layers import CHOICES, train
from hyperrec_core.analysis.by_time import split_by_time
from hyperrec_core.analysis.datasets import Split, find
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
PART_SEEDS, PART_CURVATURES = (1, 2, 3), (0.0, 1.0)
_EPOCHS, _PART_EPOCHS, _QUICK_EPOCHS = 40, 10, 4
_BATCH, _NEGATIVES, _CANDIDATES_SEED = 64, 100, 7
_VERSION = 2
_METRICS = ("hr_at_10", "ndcg_at_10", "recall_at_10_full")


@dataclass(frozen=True)
class Cell:
    """One curvature from one seed on one set; two layers on either side of the code."""

    dataset: str
    curvature: float
    seed: int
    epochs: int
    choice: str = ""  # of `ball_layers.CHOICES`, or the model of `models.autoencoder`

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
    """Compute the cells that lack, and write `autoencoder` and `autoencoder-choices` files.

    Args:
        data: folder of data sets, see `datasets`.
        to: folder to write in, and of the cells, `autoencoder-cells.jsonl`.
        datasets: names of sets; by default `FULL`, or `QUICK` with `quick`.
        quick: fewer seeds and few epochs.

    Raises:
        DatasetError: a data set is not known or not there.
    """
    chosen = tuple(datasets or (QUICK if quick else FULL))
    for dataset in chosen:
        find(dataset, data)
    epochs, part_epochs = [_QUICK_EPOCHS] * 2 if quick else (_EPOCHS, _PART_EPOCHS)
    seeds, part_seeds = (SEEDS[:2], SEEDS[:1]) if quick else (SEEDS, PART_SEEDS)
    cells = {
        (dataset, c): [Cell(dataset, c, seed, epochs) for seed in seeds]
        for dataset in chosen
        for c in CURVATURES
    }
    parts = {
        (dataset, choice, c): [Cell(dataset, c, seed, part_epochs, choice) for seed in part_seeds]
        for dataset in chosen
        for choice in CHOICES
        for c in PART_CURVATURES
    }
    kept = to / "autoencoder-cells.jsonl"
    wanted = [cell for of in (*cells.values(), *parts.values()) for cell in of]
    records = hold(wanted, partial(compute, data=data), kept)
    found = {place: [records[cell.key] for cell in of] for place, of in cells.items()}
    of_parts = {place: [records[cell.key] for cell in of] for place, of in parts.items()}
    to.mkdir(parents=True, exist_ok=True)
    first = next(iter(found.values()))[0]
    measured = f"Measured {first['date']} on {first['hardware']}, one thread a cell; "
    rest = "± the standard deviation between seeds; a curvature of 0 is flat space."
    columns = ["seeds", "not fitted", "HR@10", "±", "NDCG@10", "±", "Recall@10, full", "±",
               "largest gradient", "seconds"]  # fmt: skip
    report = save(
        to / "autoencoder",
        title="The autoencoder by curvature",
        columns=["data", "c", *columns],
        rows=[[*place, *_summary(of)] for place, of in found.items()],
        pictures=[_draw(to / "autoencoder.png", found)],
        notes=[f"{measured}{epochs} epochs, the best by validation; {rest}"],
    )
    choices = save(
        to / "autoencoder-choices",
        title="The autoencoder with one of its choices taken back",
        columns=["data", "choice", "c", *columns],
        rows=[[*place, *_summary(of)] for place, of in of_parts.items()],
        notes=[f"{measured}{part_epochs} epochs, the last one counts; {rest}"],
    )
    return replace(report, files=(*report.files, *choices.files, kept))


def compute(cell: Cell, data: Path) -> Record:
    """Fit and judge one cell."""
    split = split_by_time(cell.dataset, data)
    record: Record = {
        "key": cell.key,
        "dataset": cell.dataset,
        "settings": asdict(cell.config.model) | {"seed": cell.seed, "choice": cell.choice},
        **stamp(),
    }
    started = time.monotonic()
    try:
        model, told = (_fit_choice if cell.choice else _fit)(cell, split)
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
    metrics = {name: ranks.mean(name) for name in _METRICS}
    return record | told | metrics | {"seconds": seconds}


def _fit(cell: Cell, split: Split) -> tuple[Autoencoder, Record]:
    """As any model is fitted, and what was seen after each epoch."""
    config, norms = cell.config, list[float]()
    batch = _first_batch(split, config)

    def after_epoch(_: Progress, tensors: dict[str, Tensor]) -> None:
        state = {name: x for name, x in tensors.items() if not name.startswith(KEPT)}
        model = cast(Autoencoder, restore(config.model, state, device=torch.device("cpu")))
        norms.append(_gradient_norm(model, model.prepare(batch)))

    model, progress = fit(
        split.train, split.validation, config, items=split.items, seed=cell.seed,
        device=torch.device("cpu"), after_epoch=after_epoch,
    )  # fmt: skip
    return cast(Autoencoder, model), {
        "losses": [epoch.loss for epoch in progress.epochs],
        "validation": [epoch.ndcg_at_10 for epoch in progress.epochs],
        "gradients": norms,
    }


def _fit_choice(cell: Cell, split: Split) -> tuple[Autoencoder, Record]:
    config, norms = cell.config, list[float]()
    batch = _first_batch(split, config)
    model, losses = train(
        split,
        config,
        CHOICES[cell.choice],
        seed=cell.seed,
        after_epoch=lambda model: norms.append(_gradient_norm(model, model.prepare(batch))),
    )
    return model, {"losses": losses, "gradients": norms}


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
        return [*counts, *[None] * 8]
    metrics: list[Shown] = []
    for metric in _METRICS:
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
