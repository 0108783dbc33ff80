"""What can be measured: fits, their first call, phases, scoring, and what they are compared with.

Others' packages are imported where they are measured, so that the memory of a fit is its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.examples import Shuffled
from hyperrec_core.fit import OnBatch, Progress, TrainConfig, fit
from hyperrec_core.models import Model, PointsConfig
from hyperrec_core.similar import top_similar
from hyperrec_core.validate import Validation
from tests.benchmarks import data
from tests.benchmarks.case import Case
from tests.benchmarks.data import Data
from tests.benchmarks.floor import Beside, gemm_floor, wait

SEED = 1
SIMILAR = 20


def config(options: dict[str, Any]) -> TrainConfig:
    """The default model with 100 negatives a step of 1,024 labels, two epochs, or as optioned."""
    ours = {"batch_size": 1024, "negatives": 100, "epochs": 2} | options
    of_model = {field.name for field in fields(PointsConfig)}
    of_loop = {field.name for field in fields(TrainConfig)} - {"model"}
    return TrainConfig(
        model=PointsConfig(**{k: v for k, v in ours.items() if k in of_model}),
        **{k: v for k, v in ours.items() if k in of_loop},
    )


def train(
    found: Data, case: Case, settings: TrainConfig, on_batch: OnBatch | None = None
) -> tuple[Model, Progress]:
    """A fit of the case's data on its device."""
    return fit(
        found.train,
        found.validation,
        settings,
        items=found.items,
        seed=SEED,
        device=torch.device(case.device),
        on_batch=on_batch,
    )


def warm_up(case: Case, settings: TrainConfig) -> float:
    """Tiny histories and a fit of the same model to them: seconds, most of compiled code's."""
    started = time.perf_counter()
    train(data.tiny(), case, settings)
    return time.perf_counter() - started


def fit_and_floor(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Examples a second of a fit and of its matrix products, which take turns all the time."""
    settings = config(case.options)
    first = warm_up(case, settings)
    found = data.load(case.data, folder, made)

    def floor() -> float:
        with threadpool_limits(case.threads, user_api="blas"):
            return gemm_floor(
                batch=settings.batch_size,
                width=settings.model.dimensions + 1,
                negatives=settings.negatives,
                device=torch.device(case.device),
            )

    beside = Beside(floor, torch.device(case.device))
    started = time.perf_counter()
    _, progress = train(found, case, settings, on_batch=beside)
    whole = time.perf_counter() - started
    paused = [sum(seconds for _, seconds in epoch) for epoch in beside.epochs]
    seconds = [epoch.seconds - lost for epoch, lost in zip(progress.epochs, paused, strict=True)]
    last = progress.epochs[-1]
    examples = round(last.seconds * last.examples_per_second)
    floors = [rate for rate, _ in beside.epochs[-1]]
    # As of the fit: all that was done by all the time that it took.
    at_all = harmonic_mean(floors)
    return {
        "load_seconds": found.seconds,
        "first_call_seconds": first,
        "fit_seconds": whole - sum(paused),
        "epoch_seconds": seconds,
        "examples": examples,
        "examples_per_second": examples / seconds[-1],
        "loss": [epoch.loss for epoch in progress.epochs],
        "floor_examples_per_second": at_all,
        "floors": floors,
        "floor_to_fit": at_all * seconds[-1] / examples,
        "device_bytes": _device_peak(case),
    }


def first_call(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Seconds of the first tiny fit of a process and of its second."""
    settings = config(case.options)
    return {"first_seconds": warm_up(case, settings), "second_seconds": warm_up(case, settings)}


def twin(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """The model with geoopt."""
    from tests.benchmarks import geoopt_twin  # noqa: PLC0415

    found, settings = data.load(case.data, folder, made), config(case.options)
    return geoopt_twin.measure(
        found.train,
        settings.model,
        items=found.items,
        optimiser=case.options["geoopt"],
        batch_size=settings.batch_size,
        negatives=settings.negatives,
        seconds=case.options["seconds"],
        device=torch.device(case.device),
    )


def profile(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Seconds of loading, of packing alone, of an epoch, of validation and of evaluation."""
    settings = config(case.options)
    warm_up(case, settings)
    found = data.load(case.data, folder, made)
    model, progress = train(found, case, settings)
    result: dict[str, Any] = {
        "loading": found.seconds,
        "packing": _packing(found, settings, model.lags, settings.epochs),
        "epoch": progress.epochs[-1].seconds,
    }
    if len(found.validation):
        started = time.perf_counter()
        judged = Validation(
            found.validation.aligned_to(found.train),
            items=found.items,
            lags=model.lags,
            most=settings.validation_labels,
            negatives=settings.validation_negatives,
            seed=SEED,
        )
        ready = time.perf_counter()
        judged.judge(model)
        result |= {"candidates": ready - started, "validation": time.perf_counter() - ready}
    if len(found.test):
        result["evaluation"] = _evaluation(found, model)
    return result


def scoring(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Seconds of the full ranking of all test labels, and of one epoch of the model's training."""
    settings = config(case.options)
    warm_up(case, settings)
    found = data.load(case.data, folder, made)
    model, progress = train(found, case, settings)
    _evaluation(found, model)
    return {
        "labels": len(found.test),
        "items": found.items,
        "seconds": _evaluation(found, model),
        "epoch_seconds": progress.epochs[-1].seconds,
    }


def similar(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Seconds of the most similar items of every item of a random catalogue."""
    items, dimensions = case.options["items"], case.options["dimensions"]
    generator = np.random.default_rng(SEED)
    spatial = generator.normal(0.0, 0.1, (items, dimensions)).astype(np.float32)
    # Published vectors have the time coordinate with its sign flipped.
    time_coordinate = -np.sqrt(1.0 + (spatial**2).sum(1, keepdims=True))
    vectors = np.concatenate((time_coordinate, spatial), axis=1)
    allowed = np.ones(items, bool)
    few = slice(0, 200)
    top_similar(vectors[few], flat=False, k=SIMILAR, allowed=allowed[few])
    started = time.perf_counter()
    top_similar(vectors, flat=False, k=SIMILAR, allowed=allowed)
    return {"items": items, "k": SIMILAR, "seconds": time.perf_counter() - started}


def race_ours(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Accuracy by time of ours."""
    from tests.benchmarks import race  # noqa: PLC0415

    settings = config(case.options)
    warm_up(case, settings)
    found = data.load(case.data, folder, made)
    return race.ours(found, settings, seed=SEED, device=torch.device(case.device))


def race_peer(case: Case, folder: Path, made: Path) -> dict[str, Any]:
    """Accuracy by time of a model of implicit."""
    from tests.benchmarks import race  # noqa: PLC0415

    found = data.load(case.data, folder, made)
    return race.peer(case.options["model"], found, case.options, seed=SEED)


KINDS: dict[str, Callable[[Case, Path, Path], dict[str, Any]]] = {
    "fit": fit_and_floor,
    "first call": first_call,
    "geoopt": twin,
    "race": race_ours,
    "implicit": race_peer,
    "profile": profile,
    "scoring": scoring,
    "similar": similar,
}


def _packing(found: Data, settings: TrainConfig, lags: int, number: int) -> float:
    """Seconds of an epoch's batches that nobody steps with."""
    started = time.perf_counter()
    shuffled = Shuffled(
        found.train,
        seed=SEED,
        number=number,
        batch_size=settings.batch_size,
        lags=lags,
        per_history=settings.labels_per_history,
        negatives=settings.negatives,
        items=found.items,
    )
    for _ in shuffled.batches():
        pass
    return time.perf_counter() - started


def _evaluation(found: Data, model: Model) -> float:
    """Seconds of judging all of the test split, in full and among sampled negatives."""
    started = time.perf_counter()
    evaluate(
        model_scorer(model),
        found.test,
        items=found.items,
        lags=model.lags,
        negatives=100,
        seed=SEED,
    )
    wait(model.item_vectors().device)
    return time.perf_counter() - started


def _device_peak(case: Case) -> int:
    return torch.cuda.max_memory_allocated() if case.device == "cuda" else 0
