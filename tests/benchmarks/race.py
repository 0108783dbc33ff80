"""Accuracy by training time, ours and implicit's, on the same labels and the same candidates.

The time of judging is not counted. Ours is judged after every epoch of one fit. A model of implicit
is fitted anew for each number of iterations, with the same seed, so that each of its times is that
of a whole fit; it trains on one thread, as ours does where the two are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hyperrec_core import models
from hyperrec_core.aggregate import WHOLE_HISTORY
from hyperrec_core.analysis import peers
from hyperrec_core.evaluate import Scorer, evaluate, model_scorer
from hyperrec_core.fit import KEPT, Progress, TrainConfig, fit
from tests.benchmarks.data import Data, without_labels

_PEERS: dict[str, Callable[..., Scorer]] = {"als": peers.als, "bpr": peers.bpr}
_NEGATIVES, _EVALUATION_SEED = 100, 7


def ours(found: Data, settings: TrainConfig, *, seed: int, device: torch.device) -> dict[str, Any]:
    """Fit, and judge after every epoch.

    Returns:
        `curve`: for each epoch its `passes`, the `seconds` of training so far from the call on, and
        the test's `ndcg_at_10` and `hr_at_10`.
    """
    curve: list[dict[str, float]] = []
    judging = 0.0
    started = time.perf_counter()

    def judge(progress: Progress, state: dict[str, Tensor]) -> None:
        nonlocal judging
        paused = time.perf_counter()
        current = {name: tensor for name, tensor in state.items() if not name.startswith(KEPT)}
        model = models.restore(settings.model, current, device=device)
        point = _judged(found, model_scorer(model), lags=model.lags)
        seconds = paused - started - judging
        curve.append({"passes": len(progress.epochs), "seconds": seconds} | point)
        judging += time.perf_counter() - paused

    fit(
        found.train,
        without_labels(found.items),
        settings,
        items=found.items,
        seed=seed,
        device=device,
        after_epoch=judge,
    )
    return {"curve": curve}


def peer(name: str, found: Data, options: dict[str, Any], *, seed: int) -> dict[str, Any]:
    """Fit a model of implicit with several numbers of iterations, and judge each.

    Args:
        name: `als` or `bpr`.
        found: data.
        options: `settings` of the model, and its numbers of `iterations`, rising.
        seed: of the fits.

    Returns:
        `curve`, as of `ours`.
    """
    curve = []
    started = time.perf_counter()
    taken = peers.interaction_matrix(found.train, items=found.items)
    matrix = time.perf_counter() - started
    for iterations in options["iterations"]:
        started = time.perf_counter()
        scorer = _PEERS[name](taken, **options["settings"], iterations=iterations, seed=seed)
        seconds = matrix + time.perf_counter() - started
        point = _judged(found, scorer, lags=WHOLE_HISTORY)
        curve.append({"passes": iterations, "seconds": seconds} | point)
    return {"curve": curve}


def _judged(found: Data, scorer: Scorer, *, lags: int) -> dict[str, float]:
    ranks = evaluate(
        scorer,
        found.test,
        items=found.items,
        lags=lags,
        negatives=_NEGATIVES,
        seed=_EVALUATION_SEED,
    )
    return {"ndcg_at_10": ranks.ndcg_at_10, "hr_at_10": ranks.hr_at_10}
