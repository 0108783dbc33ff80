"""Stage 3: judge the model on the test labels beside popularity, and say whether it may go out.

Outputs: `metrics.json`, every metric of every scorer with its interval, and by slices; and
`ranks.parquet`, the model's rank of every label, from which `hyperrec compare` sets two runs side
by side.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperrec_core import artefact
from hyperrec_core.compare import estimates, slices
from hyperrec_core.evaluate import (
    Scorer,
    evaluate,
    model_scorer,
    popularity_scorer,
    recent_counts,
)
from hyperrec_core.fit import best_device
from hyperrec_core.metrics import METRICS
from hyperrec_core.models import restore
from hyperrec_core.ranks import Ranks, to_parquet
from pipelines.errors import PipelineError
from pipelines.profile import Profile, parse_profile
from pipelines.runs import Attempt, Manifest, Run
from pipelines.stages.inputs import read_histories, read_interactions, read_vocabulary

log = logging.getLogger(__name__)

_HEADLINES = ("hr_at_10", "ndcg_at_10", "recall_at_10_full", "ndcg_at_10_full")


@dataclass(frozen=True)
class Verdict:
    """Whether a gate lets the model pass, and why in one sentence."""

    gate: str
    passed: bool
    reason: str


def run_evaluate(run: Run) -> Manifest:
    """Do the evaluate stage of a run, unless it is done.

    A gate that refuses does not fail this stage: the verdicts are its result, and the export
    stage keeps to them.

    Raises:
        UsageError: an earlier stage is not done.
        PipelineError: the test split has no labels.
    """
    return run.finish("evaluate", lambda attempt: _work(run, attempt))


def _work(run: Run, attempt: Attempt) -> dict[str, Any]:
    profile = parse_profile(run.record.configuration, source=f"run {run.run_id}")
    vocabulary = read_vocabulary(attempt)
    test = read_histories(attempt, "test", items=len(vocabulary))
    if not len(test):
        raise PipelineError(
            f"Run {run.run_id} has no test label to judge the model by: choose a later as_of, a "
            "longer preprocess.test_days, or the split leave_last_out."
        )
    symmetric = profile.train.model.users == "table"
    if symmetric:
        # Its users are rows of a table, in the order of training.
        test = test.aligned_to(read_histories(attempt, "train", items=len(vocabulary)))
    _, tensors = artefact.load_checkpoint(attempt.read("train", "checkpoint.safetensors"))
    model = restore(profile.train.model, artefact.best_state(tensors), device=best_device())

    recent = recent_counts(
        *read_interactions(attempt),
        catalogue=len(vocabulary),
        share=profile.evaluate.recent_share,
    )

    def judge(scorer: Scorer) -> Ranks:
        return evaluate(
            scorer,
            test,
            items=len(vocabulary),
            lags=model.lags,
            negatives=profile.evaluate.negatives,
            seed=profile.seed,
            exclude_seen=profile.evaluate.exclude_seen,
        )

    ranks = {
        "model": judge(model_scorer(model)),
        "popularity": judge(popularity_scorer(vocabulary.counts)),
        "recent_popularity": judge(popularity_scorer(recent)),
    }
    published = [model.item_vectors(), model.context_vectors()]
    finite = all(bool(table.isfinite().all()) for table in published if table is not None)
    verdicts = _verdicts(ranks, finite=finite, servable=not symmetric, profile=profile)
    results = {name: _result(found, profile.seed) for name, found in ranks.items()}
    for name, result in results.items():
        _log_result(name, result)
    metrics = {
        "results": results,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "passed": all(verdict.passed for verdict in verdicts),
    }
    by_slice = {
        name: _sliced(found, vocabulary.counts, profile.seed) for name, found in ranks.items()
    }
    attempt.write("metrics.json", json.dumps(metrics | {"slices": by_slice}, indent=2).encode())
    stored = to_parquet(ranks["model"], user_ids=test.user_ids, item_ids=vocabulary.item_ids)
    attempt.write("ranks.parquet", stored, rows=len(test))
    return metrics


def _result(ranks: Ranks, seed: int) -> dict[str, Any]:
    """Everything about one scorer but its slices, as plain values."""
    facts = {
        "labels": len(ranks),
        "users": len(np.unique(ranks.user)),
        "negatives": ranks.negatives,
        "coverage_at_10": ranks.coverage_at_10,
    }
    return facts | _estimated(ranks, tuple(METRICS), seed)


def _sliced(ranks: Ranks, counts: NDArray[np.int64], seed: int) -> dict[str, Any]:
    return {
        way: {
            name: {"labels": int(mask.sum())} | _estimated(ranks.take(mask), _HEADLINES, seed)
            for name, mask in masks.items()
        }
        for way, masks in slices(ranks, counts).items()
    }


def _estimated(ranks: Ranks, metrics: Sequence[str], seed: int) -> dict[str, Any]:
    """Means by metric, and beside them `intervals`, which holds 95 % over users by metric."""
    found = estimates([ranks], metrics, seed=seed)
    values: dict[str, Any] = {name: estimate.value for name, estimate in found.items()}
    return values | {"intervals": {name: [e.low, e.high] for name, e in found.items()}}


def _log_result(name: str, result: dict[str, Any]) -> None:
    told = []
    for metric in _HEADLINES:
        low, high = result["intervals"][metric]
        among = " of all" if METRICS[metric].ranking == "full" else ""
        told.append(f"{METRICS[metric].title}{among} {result[metric]:.4f} ({low:.4f}-{high:.4f})")
    log.info("Test, %s: %s.", name.replace("_", " "), ", ".join(told))


def _verdicts(
    ranks: dict[str, Ranks], *, finite: bool, servable: bool, profile: Profile
) -> list[Verdict]:
    model, popularity = ranks["model"], ranks["popularity"]
    ratio = profile.evaluate.minimum_ratio
    are = "are" if finite else "are not"
    users = (
        "a user can be made of any history"
        if servable
        else "the model knows the users of its training alone, so it is judged but not served "
        "(set train.model.users to midpoint)"
    )
    verdicts = [
        Verdict("finite", finite, f"all published numbers {are} finite"),
        Verdict("servable", servable, users),
    ]
    for name, gate in (("HR@10", "hr_at_10"), ("NDCG@10", "ndcg_at_10")):
        own, needed = model.mean(gate), ratio * popularity.mean(gate)
        passed = bool(np.isfinite(own)) and own > needed
        reason = f"{name} {own:.4f} must be above {needed:.4f}, {ratio:g} times popularity's"
        verdicts.append(Verdict(gate, passed, reason))
    return verdicts
