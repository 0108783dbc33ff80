"""Whether recommendations are fresh and everything they rest on answers, found by looking.

Each look is one thing that can be wrong by itself, so that a person is told all of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np

from pipelines.errors import NotFoundError, PipelineError, UsageError
from pipelines.runs import day_of_run
from pipelines.settings import CosmosAccount, cosmos_account, patience_seconds
from pipelines.storage import is_visible, open_storage
from serving_export.errors import ExportError, MissingContainerError
from serving_export.publish import status
from serving_export.reader import Reader
from serving_export.slots import Published

State = Literal["ok", "wrong", "unknown"]

# How far back the newest day of the raw layout is looked for one day at a time; after that all
# names are listed.
_DAYS_BACK = 40


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        thing: what, in two or three words.
        state: `unknown` is neither good nor bad, such as a server that is not configured.
        found: what was seen.
        advice: where it is wrong, one sentence with what to do.
    """

    thing: str
    state: State
    found: str
    advice: str = ""


FRESHNESS = "active version"


def look(
    *,
    source: str,
    runs: str,
    max_age_days: int,
    max_lag_days: int,
    today: date | None = None,
    last_run: Callable[[], Finding] | None = None,
) -> list[Finding]:
    """Looks at everything; nothing is raised for what is wrong, only said.

    Args:
        source: URL of the raw layout.
        runs: URL under which runs are kept.
        max_age_days: so many days may lie between the last day whose interactions the active
            version knows and today.
        max_lag_days: so many days may lie between the newest raw data and today.
        today: UTC; by default today.
        last_run: looks at how the last nightly run ended.
    """
    day = today or datetime.now(UTC).date()
    findings = [_runs(runs), _raw(source, day, max_lag_days)]
    try:
        account = cosmos_account()
        active = _active(account)
    except (UsageError, ExportError) as error:
        findings.append(Finding("Cosmos DB", "wrong", "cannot be used", str(error)))
    else:
        findings.append(_freshness(active, day, max_age_days))
        if active is not None:
            findings.append(_sample(account, active))
    if last_run is not None:
        findings.append(last_run())
    return findings


def _active(account: CosmosAccount) -> Published | None:
    try:
        return status(account.endpoint, account.credential, patience=patience_seconds()).active
    except MissingContainerError:
        if not account.is_local:
            raise
        # An emulator has them from the first publish on.
        return None


def _runs(url: str) -> Finding:
    """Whether the storage of runs answers: asked for a blob that is not there."""
    with _told("storage of runs") as told:
        with suppress(NotFoundError):
            open_storage(url).read("health")
        return Finding(told.thing, "ok", f"{url} answers")
    return told.finding


def _raw(url: str, today: date, limit: int) -> Finding:
    with _told("raw data") as told:
        newest = _newest_day(url, today)
        if newest is None:
            return Finding(
                told.thing,
                "wrong",
                f"none in {url}",
                f"There are no days of interactions in {url}: see that the address is right and "
                "that the shop delivers.",
            )
        lag = (today - newest).days
        found = f"newest day {newest}, {lag} days ago, limit {limit}"
        if lag > limit:
            advice = (
                f"The newest interactions in {url} are of {newest}, {lag} days ago, where {limit} "
                "are allowed: see why the shop delivers nothing."
            )
            return Finding(told.thing, "wrong", found, advice)
        return Finding(told.thing, "ok", found)
    return told.finding


def _newest_day(url: str, today: date) -> date | None:
    storage = open_storage(url)
    for back in range(-1, _DAYS_BACK):
        day = today - timedelta(days=back)
        if any(is_visible(blob.name) for blob in storage.list(f"interactions/dt={day}/")):
            return day
    names = filter(is_visible, (blob.name for blob in storage.list("interactions/dt=")))
    days = {name.removeprefix("interactions/dt=").partition("/")[0] for name in names}
    dated = [day for day in map(_as_date, days) if day is not None]
    return max(dated, default=None)


def _freshness(active: Published | None, today: date, limit: int) -> Finding:
    if active is None:
        return Finding(
            FRESHNESS,
            "wrong",
            "none",
            "No version is active: run a night (`hyperrec run`), or publish a judged run "
            "(`hyperrec export RUN`).",
        )
    as_of = day_of_run(active.run_id) or active.promoted_at.date()
    age = (today - as_of).days
    found = f"{active.version}, {age} days old, limit {limit}; {active.items:,} items"
    if age > limit:
        return Finding(
            FRESHNESS,
            "wrong",
            found,
            f"The active version {active.version} knows interactions up to {as_of}, {age} days "
            f"ago, where {limit} are allowed: see why the last nights published nothing.",
        )
    return Finding(FRESHNESS, "ok", found)


def _sample(account: CosmosAccount, active: Published) -> Finding:
    """Reads back the most popular item and asks for recommendations, as a service would."""
    with (
        _told("answers") as told,
        Reader(account.endpoint, account.credential, patience=patience_seconds()) as reader,
    ):
        popular = reader.recommend([], 1, live_only=False)
        if not popular:
            advice = f"Version {active.version} holds no item: `hyperrec rollback`, then look why."
            return Finding(told.thing, "wrong", "no items", advice)
        item_id = popular[0].item_id
        vector = reader.get([item_id])[item_id].vector
        near = reader.recommend([item_id], 3)
        scores = [each.score for each in near]
        if not (np.isfinite(vector).all() and vector.any() and np.isfinite(scores).all()):
            advice = (
                f"The vector of item {item_id} or its scores are not finite numbers: "
                "`hyperrec rollback`, then look at the run."
            )
            return Finding(told.thing, "wrong", "no usable vectors", advice)
        found = f"{vector.size} numbers of item {item_id}, {len(near)} recommendations"
        return Finding(told.thing, "ok", found)
    return told.finding


@dataclass
class _Told:
    thing: str
    finding: Finding


@contextmanager
def _told(thing: str) -> Iterator[_Told]:
    """What goes wrong inside becomes a finding."""
    told = _Told(thing, Finding(thing, "unknown", ""))
    try:
        yield told
    except (PipelineError, ExportError) as error:
        told.finding = Finding(thing, "wrong", "cannot be used", str(error))


def _as_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
