"""Stage 4: publish the judged model's items as one verified version, or refuse to."""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hyperrec_core import artefact
from hyperrec_core.similar import top_similar
from pipelines.errors import GateRefusedError
from pipelines.profile import parse_profile
from pipelines.progress import bar
from pipelines.runs import Attempt, Manifest, Run
from pipelines.settings import CosmosAccount, Environment, cosmos_account, patience_seconds
from pipelines.stages.inputs import Vocabulary, read_vocabulary
from serving_export.containers import create_missing
from serving_export.documents import Item
from serving_export.meter import Progress, ProgressCallback
from serving_export.pacing import Pace
from serving_export.price import Price, price
from serving_export.publish import publish

log = logging.getLogger(__name__)

_TELL_SECONDS = 10.0


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
        ExportError: Cosmos DB was away, refused, or holds another load.
    """
    return run.finish("export", lambda attempt: _publish(_prepare(run, attempt), why))


def price_export(run: Run) -> Price:
    """What the export stage of a run would cost, without publishing anything.

    Raises:
        UsageError, GateRefusedError, ExportError: as `run_export`.
    """
    ready = _prepare(run, Attempt(run, "export"))
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
    judged: dict[str, Any]
    model: dict[str, Any]
    items: list[Item]
    account: CosmosAccount


def _prepare(run: Run, attempt: Attempt) -> _Ready:
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
    rows = (
        np.flatnonzero(vocabulary.is_live) if profile.export.live_only else range(len(vocabulary))
    )
    items = _items(vectors, vocabulary, near, rows)
    account = cosmos_account()
    if account.is_local:
        # An emulator has no Terraform: make there what it would have made.
        create_missing(
            account.endpoint, account.credential, vectors.target.shape[1], items=len(items)
        )
    return _Ready(run.run_id, judged, model, items, account)


def _publish(ready: _Ready, why: str | None) -> dict[str, Any]:
    pace = PublishEnvironment().pace()
    with bar("publishing") as move:
        report = publish(
            ready.account.endpoint,
            ready.account.credential,
            version=ready.run_id,
            run_id=ready.run_id,
            model=ready.model,
            items=ready.items,
            metrics=ready.judged["results"],
            who=f"{getpass.getuser()}@{socket.gethostname()}",
            why=why,
            gates=[verdict["reason"] for verdict in ready.judged["verdicts"]],
            pace=pace,
            progress=_teller(move),
            patience=patience_seconds(),
        )
    return asdict(report)


def _teller(move: Callable[[int, int], None]) -> ProgressCallback:
    """Moves the bar, and every ten seconds says in the log how it goes."""
    said = time.monotonic()

    def tell(state: Progress) -> None:
        nonlocal said
        move(state.done, state.total)
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
