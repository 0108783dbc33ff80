"""Stage 4: publish the judged model's items as one verified version, or refuse to."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hyperrec_core import artefact
from hyperrec_core.similar import top_similar
from pipelines.profile import profile_of
from pipelines.progress import Move, bar
from pipelines.runs import Attempt, Manifest, Run
from pipelines.settings import (
    CosmosAccount,
    Environment,
    cosmos_account,
    operator,
    patience_seconds,
)
from pipelines.stages.clearance import (
    ActiveChangedError,
    Clearance,
    clear,
    require_own_gates,
)
from pipelines.stages.inputs import Vocabulary, publishable, read_vocabulary
from serving_export.containers import create_missing
from serving_export.documents import Item
from serving_export.meter import Progress, ProgressCallback
from serving_export.pacing import Pace
from serving_export.price import Price, price
from serving_export.publish import publish

log = logging.getLogger(__name__)

_TELL_SECONDS = 10.0

_TRIES = 3
"""So often a publish begins, when each time another version becomes active meanwhile."""


class PublishEnvironment(Environment):
    """How fast a publish may go: a matter of the account and the machine, not of the run."""

    cosmos_ru_per_second: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="request units a second to use at most"
    )
    cosmos_throughput_bucket: int | None = Field(
        default=None, ge=1, le=5, description="the account's bucket that requests are counted in"
    )
    hyperrec_export_processes: int | None = Field(
        default=None, ge=1, le=64, description="writing processes; by default one a core"
    )

    def pace(self) -> Pace:
        """The pace that these variables set."""
        return Pace(
            processes=self.hyperrec_export_processes or len(os.sched_getaffinity(0)),
            request_units=self.cosmos_ru_per_second,
            throughput_bucket=self.cosmos_throughput_bucket,
        )


def run_export(run: Run, *, why: str | None = None) -> Manifest:
    """Do the export stage of a run, unless it is done.

    Args:
        run: a run that was judged.
        why: the reason of whoever publishes it by hand, for the history.

    Raises:
        UsageError: an earlier stage is not done, or no Cosmos DB endpoint is configured.
        GateRefusedError: a gate refused the model.
        ApprovalNeededError: a gate warns, or the version was rolled back; see `approvals`.
        OvertakenError: the version that serves now is of a later day, or better.
        ExportError: Cosmos DB was away, refused, or holds another load.
    """
    return run.finish("export", lambda attempt: _work(run, attempt, why))


def price_export(run: Run) -> Price:
    """What the export stage of a run would cost, without publishing anything.

    A run that needs an approval is priced without one.

    Raises:
        UsageError, GateRefusedError, ExportError: as `run_export`.
    """
    require_own_gates(run)
    ready = _prepare(run, Attempt(run, "export"), cosmos_account())
    return price(
        ready.account.endpoint,
        ready.account.credential,
        version=run.run_id,
        items=ready.items,
        pace=PublishEnvironment().pace(),
        patience=patience_seconds(),
    )


@dataclass(frozen=True)
class _Ready:
    """A judged model as items, and where they go."""

    run_id: str
    results: dict[str, Any]
    model: dict[str, Any]
    items: list[Item]
    account: CosmosAccount


def _work(run: Run, attempt: Attempt, why: str | None) -> dict[str, Any]:
    require_own_gates(run)
    account = cosmos_account()
    clearance = clear(run, attempt, account)
    ready = _prepare(run, attempt, account)
    for _ in range(_TRIES - 1):
        try:
            return _publish(ready, clearance, why)
        except ActiveChangedError as changed:
            log.info("%s", changed)
            clearance = clear(run, attempt, account)
    return _publish(ready, clearance, why)


def _prepare(run: Run, attempt: Attempt, account: CosmosAccount) -> _Ready:
    results = run.require("evaluate").metrics["results"]
    profile = profile_of(run.record)
    vocabulary = read_vocabulary(attempt, untrained=True)
    vectors = artefact.read_items(attempt.read("train", "items.parquet"))
    model = json.loads(attempt.read("train", "model.json"))
    flat = model["geometry"] != "hyperboloid"
    near = top_similar(
        vectors.target, flat=flat, k=profile.export.similar, allowed=vocabulary.is_live
    )
    items = _items(vectors, vocabulary, near, publishable(vocabulary, profile).tolist())
    if account.is_local:
        # An emulator has no Terraform: make there what it would have made.
        create_missing(
            account.endpoint, account.credential, vectors.target.shape[1], items=len(items)
        )
    return _Ready(run.run_id, results, model, items, account)


def _publish(ready: _Ready, clearance: Clearance, why: str | None) -> dict[str, Any]:
    pace = PublishEnvironment().pace()
    approved = clearance.approval and clearance.approval.model_dump(mode="json")
    judged = {
        "verdicts": [asdict(verdict) for verdict in clearance.verdicts],
        "approval": approved,
        "replaced": clearance.active and clearance.active.version,
    }
    with bar("publishing") as move:
        report = publish(
            ready.account.endpoint,
            ready.account.credential,
            version=ready.run_id,
            run_id=ready.run_id,
            model=ready.model,
            items=ready.items,
            metrics=ready.results | judged,
            who=operator(),
            why=clearance.why(why),
            gates=clearance.sentences(),
            guard=clearance.guard,
            pace=pace,
            progress=_teller(move),
            patience=patience_seconds(),
        )
    return asdict(report) | judged


def _teller(move: Move) -> ProgressCallback:
    """Moves the bar, and every ten seconds says in the log how it goes."""
    said = time.monotonic()

    def tell(state: Progress) -> None:
        nonlocal said
        move(state.done, state.total, str(state))
        if time.monotonic() - said >= _TELL_SECONDS:
            said = time.monotonic()
            log.info("Publishing, %s.", state)

    return tell


def _items(
    vectors: artefact.ItemVectors,
    vocabulary: Vocabulary,
    similar: tuple[NDArray[np.int64], NDArray[np.float32]],
    rows: Iterable[int],
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
        for row in rows
    ]
