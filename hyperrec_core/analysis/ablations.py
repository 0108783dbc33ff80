"""What each choice of the model is worth: one change at a time, on a dense and on a sparse set.

Every variant is the base with one setting changed, fitted with the same seed and epochs, and judged
on validation, paired label by label with the base. The test labels are not looked at, so the table
may be used to choose settings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import torch

from hyperrec_core.analysis import datasets, report, workers
from hyperrec_core.analysis.provenance import hardware, versions
from hyperrec_core.compare import compare
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.fit import TrainConfig, TrainingError, fit
from hyperrec_core.models import PointsConfig
from hyperrec_core.ranks import Ranks

log = logging.getLogger(__name__)

_SEED = 1
_CANDIDATES_SEED = 7
_METRICS = ("ndcg_at_10", "hr_at_10", "ndcg_at_10_full")

_BASES: Mapping[str, TrainConfig] = {
    "ml-100k": TrainConfig(
        epochs=12, negatives=300, model=PointsConfig(tables=2, list_size=10.0, scale=100.0)
    ),
    "amazon-toys-5core": TrainConfig(
        epochs=10,
        negatives=300,
        model=PointsConfig(tables=1, score="distance", scale=20.0, learning_rate=0.1),
    ),
}

_TWIN: Mapping[str, Any] = {"geometry": "euclidean", "score": "distance"}

# Settings of TrainConfig or of its model that replace the base's; the scale of a score that is
# measured in other units is changed with it, to the best of a few values.
_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "Euclidean twin, distance": {**_TWIN, "scale": 20.0, "learning_rate": 0.1},
    "Euclidean twin, squared distance": {
        **_TWIN, "score": "squared_distance", "scale": 50.0, "learning_rate": 0.2,
    },
    "inner-product twin": {
        "geometry": "inner_product", "score": "inner_product", "scale": 50.0, "learning_rate": 0.2,
    },
    "score: inner product": {"score": "inner_product", "scale": 100.0, "learning_rate": 0.2},
    "score: distance": {"score": "distance", "scale": 20.0, "learning_rate": 0.1},
    "score: squared distance": {"score": "squared_distance", "scale": 50.0, "learning_rate": 0.2},
    "curvature: scale a quarter, step double": {"scale": 1 / 4, "learning_rate": 2.0},
    "curvature: scale double, step half": {"scale": 2.0, "learning_rate": 1 / 2},
    "curvature learned": {"learn_scale": True},
    "loss: BPR, the mean over the negatives": {"loss": "bpr"},
    "loss: sampled softmax": {"loss": "softmax"},
    "loss: rank in a list of 10": {"list_size": 10.0},
    "loss: rank in a list of 100": {"list_size": 100.0},
    "loss: rank in a list of 1,000": {"list_size": 1000.0},
    "history: uniform, the paper's": {"aggregator": "uniform"},
    "history: window of 20": {"aggregator": "window", "lags": 20},
    "history: exponential": {"aggregator": "exponential", "recency": 0.9},
    "history: 20 learned weights": {"lags": 20},
    "history: 500 learned weights": {"lags": 500},
    "users: a point each (symmetric)": {"users": "table", "tables": 1},
    "one table": {"tables": 1},
    "two tables": {"tables": 2},
    "steps: plain RSGD, the paper's": {"optimiser": "rsgd", "learning_rate": 1.0},
    "steps: Riemannian Adam": {"optimiser": "adam", "learning_rate": 0.01},
    "start: Poincaré ball": {"initial": "ball"},
    "start: radius by popularity": {"initial": "radius", "initial_width": 0.1},
    "start: ten times as wide": {"initial_width": 0.1},
    "pull to the origin 0.001": {"pull": 0.001},
    "100 negatives": {"negatives": 100},
    "1,000 negatives": {"negatives": 1000},
    **{f"d = {d}": {"dimensions": d} for d in (4, 8, 16, 200)},
    **{
        f"d = {d}, Euclidean twin": {
            **_TWIN, "scale": 20.0, "learning_rate": 0.1, "dimensions": d,
        }
        for d in (4, 8, 16, 200)
    },
}  # fmt: skip

# The values of these multiply the base's instead of replacing it.
_FACTORS = "curvature: scale"


def reproduce(data: Path, to: Path) -> report.Report:
    """Fit every variant on both sets and write `ablations.md` and `.csv`: about a quarter hour.

    Args:
        data: folder of data sets.
        to: folder to write in.

    Raises:
        DatasetError: a set is not in the folder.
    """
    cases = [(dataset, name) for dataset in _BASES for name in ("", *_VARIANTS)]
    for dataset in _BASES:
        datasets.find(dataset, data)
    with workers.pool(2) as pool:
        found = dict(zip(cases, pool.map(partial(_judge, data), cases), strict=True))
    rows: list[list[report.Cell]] = []
    for dataset, base in _BASES.items():
        reference = _ranks(found[dataset, ""])
        rows.append(
            [dataset, f"base: {_words(base)}", *map(reference.mean, _METRICS), None, None, None]
        )
        for name in _VARIANTS:
            ranks = found[dataset, name]
            if isinstance(ranks, str):
                rows.append([dataset, f"{name}: {ranks}", *[None] * 6])
                continue
            difference = compare([ranks], [reference], ["ndcg_at_10"], seed=_SEED)["ndcg_at_10"]
            gain = [difference.difference, difference.low, difference.high]
            rows.append([dataset, name, *map(ranks.mean, _METRICS), *gain])
    return report.save(
        to / "ablations",
        title="What each choice is worth",
        columns=[
            "data set", "variant", "NDCG@10", "HR@10", "NDCG@10, all items", "gain of NDCG@10",
            "low", "high",
        ],
        rows=rows,
        notes=[
            "Validation labels, 100 uniform negatives, one seed; the gain is the variant's "
            "minus the base's, with the 95 % interval of a paired bootstrap over users.",
            f"{hardware()}; {', '.join(f'{k} {v}' for k, v in versions().items())}.",
        ],
    )  # fmt: skip


def _config(dataset: str, name: str) -> TrainConfig:
    """The base of a set with a variant's settings; raises ValueError where they make no sense."""
    base = _BASES[dataset]
    changed = dict(_VARIANTS.get(name, {}))
    if name.startswith(_FACTORS):
        changed = {key: factor * getattr(base.model, key) for key, factor in changed.items()}
    of_loop = {key: changed.pop(key) for key in ("negatives",) if key in changed}
    return replace(base, model=replace(base.model, **changed), **of_loop)


def _judge(data: Path, case: tuple[str, str]) -> Ranks | str:
    """A variant's ranks of the validation labels, or why there are none."""
    dataset, name = case
    split = _split(dataset, data)
    try:
        model, _ = fit(
            split.train,
            split.validation,
            _config(dataset, name),
            items=split.items,
            seed=_SEED,
            device=torch.device("cpu"),
        )
    except (TrainingError, ValueError) as error:
        return str(error)
    ranks = evaluate(
        model_scorer(model),
        split.validation.aligned_to(split.train),
        items=split.items,
        lags=model.lags,
        negatives=100,
        seed=_CANDIDATES_SEED,
        exclude_seen=True,
    )
    log.info("%s, %s: NDCG@10 %.4f", dataset, name or "base", ranks.ndcg_at_10)
    return ranks


def _ranks(found: Ranks | str) -> Ranks:
    if isinstance(found, str):
        raise TrainingError(f"The base of the comparison cannot be fitted: {found}")
    return found


def _words(config: TrainConfig) -> str:
    model = cast(PointsConfig, config.model)
    return (
        f"d = {model.dimensions}, {model.tables} tables, {model.score}, scale {model.scale:g}, "
        f"rate {model.learning_rate:g}, {config.epochs} epochs, {config.negatives} negatives"
    )


@lru_cache(maxsize=1)
def _split(dataset: str, data: Path) -> datasets.Split:
    return datasets.leave_last_out(datasets.load(dataset, data), seed=_SEED)
