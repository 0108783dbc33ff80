"""Stage 3: judge the model on the test labels beside popularity and the version that serves now.

What the gates say of it are the stage's verdicts; the export stage keeps to them.

Outputs: `metrics.json`, every metric of every scorer with its interval, and by slices; and
`ranks.parquet`, the model's rank of every label, from which `hyperrec compare` sets two runs side
by side.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
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
from hyperrec_core.histories import Histories
from hyperrec_core.metrics import HEADLINES, METRICS
from hyperrec_core.models import restore
from hyperrec_core.ranks import Ranks, to_parquet
from hyperrec_core.soundness import examine
from pipelines import gates
from pipelines.errors import PipelineError
from pipelines.gates import Verdict
from pipelines.profile import Profile, profile_of
from pipelines.runs import Attempt, Manifest, Run
from pipelines.settings import cosmos_account_if_any
from pipelines.stages.active import Comparison, compared, control_of
from pipelines.stages.inputs import (
    Vocabulary,
    read_histories,
    read_input_verdicts,
    read_interactions,
    read_vocabulary,
)

log = logging.getLogger(__name__)


def run_evaluate(run: Run) -> Manifest:
    """Do the evaluate stage of a run, unless it is done.

    A gate that refuses does not fail this stage: the verdicts are its result, and the export
    stage keeps to them.

    Raises:
        UsageError: an earlier stage is not done.
        PipelineError: the test split has no labels.
        ExportError: the Cosmos DB that is configured was away, or refused.
    """
    return run.finish("evaluate", lambda attempt: _work(run, attempt))


def _work(run: Run, attempt: Attempt) -> dict[str, Any]:
    profile = profile_of(run.record)
    vocabulary = read_vocabulary(attempt)
    test = read_histories(attempt, "test", items=len(vocabulary))
    if not len(test):
        raise PipelineError(
            f"Run {run.run_id} has no test label to judge the model by: choose a later as_of, a "
            "longer preprocess.test_days, or the split leave_last_out."
        )
    _, tensors = artefact.load_checkpoint(attempt.read("train", "checkpoint.safetensors"))
    model = restore(profile.train.model, artefact.best_state(tensors), device=best_device())
    if model.knows_users:
        # They are rows of a table, in the order of training.
        test = test.aligned_to(read_histories(attempt, "train", items=len(vocabulary)))

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
    stored = to_parquet(ranks["model"], user_ids=test.user_ids, item_ids=vocabulary.item_ids)
    comparison = _compare(attempt, profile, ranks=stored, test=test, vocabulary=vocabulary)
    if comparison.ranks is not None:
        ranks["active"] = comparison.ranks
    verdicts = _verdicts(attempt, profile, ranks, comparison)
    results = {name: _result(found, profile.seed) for name, found in ranks.items()}
    for name, result in results.items():
        _log_result(name, result)
    outcome = gates.worst(verdict.outcome for verdict in verdicts)
    for verdict in verdicts:
        if verdict.outcome != "pass":
            log.warning("Gate %s, %s: %s.", verdict.gate, verdict.outcome, verdict.reason)
    metrics = {
        "results": results,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "outcome": outcome,
        "passed": outcome != "refuse",
        "compared_with": comparison.version,
    }
    by_slice = {
        name: _sliced(found, vocabulary.counts, profile.seed) for name, found in ranks.items()
    }
    attempt.write("metrics.json", json.dumps(metrics | {"slices": by_slice}, indent=2).encode())
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
            name: {"labels": int(mask.sum())} | _estimated(ranks.take(mask), HEADLINES, seed)
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
    for metric in HEADLINES:
        low, high = result["intervals"][metric]
        among = " of all" if METRICS[metric].ranking == "full" else ""
        told.append(f"{METRICS[metric].title}{among} {result[metric]:.4f} ({low:.4f}-{high:.4f})")
    log.info("Test, %s: %s.", name.replace("_", " "), ", ".join(told))


def _compare(
    attempt: Attempt, profile: Profile, *, ranks: bytes, test: Histories, vocabulary: Vocabulary
) -> Comparison:
    """Hold the model against the version that serves now, where one is known."""
    account = cosmos_account_if_any()
    return compared(
        attempt,
        profile,
        control_of(account).active if account else None,
        otherwise="nothing is active yet"
        if account
        else "no Cosmos DB is configured here, so the export stage will compare",
        ranks=ranks,
        test=test,
        vocabulary=vocabulary,
    )


def _verdicts(
    attempt: Attempt, profile: Profile, ranks: dict[str, Ranks], comparison: Comparison
) -> list[Verdict]:
    limits, ratio = profile.evaluate.gates, profile.evaluate.minimum_ratio
    recent_ratio = ratio if limits.recent_ratio is None else limits.recent_ratio
    means = {
        scorer: {name: found.mean(name) for name in gates.METRICS}
        for scorer, found in ranks.items()
    }
    described = json.loads(attempt.read("train", "model.json"))
    sound = examine(
        artefact.read_items(attempt.read("train", "items.parquet")), described["geometry"]
    )
    return [
        gates.finite(sound),
        gates.servable(users=described["users"]),
        gates.on_sheet(sound, limits),
        gates.radius(sound, limits),
        gates.at_origin(sound, limits),
        gates.labels(len(ranks["model"]), len(np.unique(ranks["model"].user)), limits),
        *gates.floors(means["model"], limits),
        gates.popularity(means["model"], means["popularity"], ratio),
        gates.popularity(means["model"], means["recent_popularity"], recent_ratio, recent=True),
        *comparison.verdicts,
        gates.data(read_input_verdicts(attempt), limits),
    ]
