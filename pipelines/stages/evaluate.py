"""Stage 3: judge the model on the test labels beside popularity, and say whether it may go out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from hyperrec_core import artefact
from hyperrec_core.evaluate import Metrics, evaluate, model_scorer, popularity_scorer
from hyperrec_core.fit import best_device
from hyperrec_core.models import build
from pipelines.errors import PipelineError
from pipelines.profile import Profile, parse_profile
from pipelines.runs import Attempt, Manifest, Run
from pipelines.stages.inputs import read_histories, read_vocabulary


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
    model = build(
        profile.train.model, items=len(vocabulary), seed=profile.seed, device=best_device()
    )
    _, tensors = artefact.load_checkpoint(attempt.read("train", "checkpoint.safetensors"))
    model.load_state(artefact.best_state(tensors))

    def judge(scorer: Any) -> Metrics:
        return evaluate(
            scorer,
            test,
            items=len(vocabulary),
            lags=model.lags,
            negatives=profile.evaluate.negatives,
            seed=profile.seed,
        )

    results = {
        "model": judge(model_scorer(model)),
        "popularity": judge(popularity_scorer(vocabulary.counts)),
    }
    finite = bool(torch.isfinite(model.item_vectors()).all())
    verdicts = _verdicts(results, finite=finite, profile=profile)
    metrics = {
        "results": {name: result.to_json() for name, result in results.items()},
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "passed": all(verdict.passed for verdict in verdicts),
    }
    attempt.write("metrics.json", json.dumps(metrics, indent=2).encode())
    return metrics


def _verdicts(results: dict[str, Metrics], *, finite: bool, profile: Profile) -> list[Verdict]:
    model, popularity = results["model"], results["popularity"]
    ratio = profile.evaluate.minimum_ratio
    are = "are" if finite else "are not"
    verdicts = [Verdict("finite", finite, f"all published numbers {are} finite")]
    for name, gate in (("HR@10", "hr_at_10"), ("NDCG@10", "ndcg_at_10")):
        own, needed = getattr(model, gate), ratio * getattr(popularity, gate)
        passed = bool(np.isfinite(own)) and own > needed
        reason = f"{name} {own:.4f} must be above {needed:.4f}, {ratio:g} times popularity's"
        verdicts.append(Verdict(gate, passed, reason))
    return verdicts
