"""Stage 4: publish the judged model's items as one verified version, or refuse to."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperrec_core import artefact
from hyperrec_core.similar import top_similar
from pipelines.errors import GateRefusedError
from pipelines.profile import parse_profile
from pipelines.progress import bar
from pipelines.runs import Attempt, Manifest, Run
from pipelines.settings import CosmosAccount, cosmos_account, patience_seconds
from pipelines.stages.inputs import Vocabulary, read_vocabulary
from serving_export.containers import create_missing
from serving_export.documents import Item
from serving_export.publish import publish


def run_export(run: Run) -> Manifest:
    """Do the export stage of a run, unless it is done.

    Raises:
        UsageError: an earlier stage is not done, or no Cosmos DB endpoint is configured.
        GateRefusedError: a gate refused the model.
        ExportError: Cosmos DB was away, refused, or holds another load.
    """
    return run.finish("export", lambda attempt: _work(run, attempt))


def _work(run: Run, attempt: Attempt) -> dict[str, Any]:
    judged = run.require("evaluate").metrics
    if not judged["passed"]:
        reasons = "; ".join(v["reason"] for v in judged["verdicts"] if not v["passed"])
        raise GateRefusedError(
            f"Run {run.run_id} is not published, the active version stays: {reasons}."
        )
    profile = parse_profile(run.record.configuration, source=f"run {run.run_id}")
    vocabulary = read_vocabulary(attempt, untrained=True)
    vectors = artefact.read_items(attempt.read("train", "items.parquet"))
    model = json.loads(attempt.read("train", "model.json"))
    flat = model["geometry"] != "hyperboloid"
    near = top_similar(
        vectors.target, flat=flat, k=profile.export.similar, allowed=vocabulary.is_live
    )
    items = _items(vectors, vocabulary, near)
    account = cosmos_account()
    _prepare_local(account, dimensions=vectors.target.shape[1])
    with bar("publishing") as move:
        report = publish(
            account.endpoint,
            account.credential,
            version=run.run_id,
            run_id=run.run_id,
            model=model,
            items=items,
            metrics=judged["results"],
            who=f"{getpass.getuser()}@{socket.gethostname()}",
            progress=lambda state: move(state.done, state.total),
            patience=patience_seconds(),
        )
    return asdict(report)


def _prepare_local(account: CosmosAccount, *, dimensions: int) -> None:
    """An emulator has no Terraform: make there what it would have made."""
    if account.is_local:
        create_missing(account.endpoint, account.credential, dimensions)


def _items(
    vectors: artefact.ItemVectors,
    vocabulary: Vocabulary,
    similar: tuple[NDArray[np.int64], NDArray[np.float32]],
) -> list[Item]:
    near, scores = similar
    ids = vectors.item_ids
    return [
        Item(
            item_id=ids[row],
            vector=vectors.target[row],
            context=None if vectors.context is None else vectors.context[row],
            count=int(vocabulary.counts[row]),
            category=vocabulary.categories[row],
            is_live=bool(vocabulary.is_live[row]),
            title=vocabulary.titles[row],
            similar=tuple(
                (ids[other], float(score))
                for other, score in zip(near[row].tolist(), scores[row], strict=True)
            ),
        )
        for row in range(len(ids))
    ]
