"""Approvals: a person's word that a judged run may be published all the same, kept in the run.

Layout below the storage of runs::

    <run_id>/approval.json          the run may go out although a gate warns
    <run_id>/approval-forced.json   it may although a gate refused it, or a newer one overtook it

Each is put once, by conditional put: of two people who approve at a time one is told who the other
is, and what was approved, by whom and why, cannot be changed afterwards. The export stage keeps to
them, and copies who and why to the history of versions.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import gates
from pipelines.errors import (
    AlreadyExistsError,
    CorruptOutputError,
    NotFoundError,
    UsageError,
)
from pipelines.runs import Run

log = logging.getLogger(__name__)


class Approval(BaseModel):
    """Who lets a run be published, when and why.

    Attributes:
        force: whether it also goes for a gate that refused, or a run that was overtaken.
        objections: what the gates that did not pass had said when it was given.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    run_id: str
    who: str
    why: str
    at: datetime
    force: bool
    objections: tuple[str, ...]


def approve(run: Run, *, who: str, why: str, force: bool = False) -> Approval:
    """Record that a person lets a judged run be published.

    Args:
        run: a run that was judged.
        who: the person.
        why: their reason.
        force: also against gates that refused, and although a newer version serves.

    Raises:
        UsageError: the run is not judged, there is no reason, or somebody has approved it already.
        GateRefusedError: a gate refused, and `force` is not given or does not go for that gate.
    """
    verdicts = gates.verdicts_of(run.require("evaluate").metrics)
    if not why.strip():
        raise UsageError(
            f"An approval of run {run.run_id} needs a reason, which the history keeps: say why."
        )
    gates.require_not_refused(run.run_id, verdicts, forced=force)
    given = Approval(
        run_id=run.run_id,
        who=who,
        why=why.strip(),
        at=datetime.now(UTC),
        force=force,
        objections=tuple(v.reason for v in verdicts if v.outcome != "pass"),
    )
    try:
        run.storage.create(
            _name(run, force=force), (given.model_dump_json(indent=2) + "\n").encode()
        )
    except AlreadyExistsError as error:
        found = _read(run, force=force)
        if found == given:
            return given  # our own put succeeded and its answer was lost
        by = "somebody" if found is None else f"{found.who} at {found.at:%Y-%m-%d %H:%M:%S} UTC"
        raise UsageError(
            f"Run {run.run_id} was approved already, by {by}: `hyperrec export {run.run_id}` "
            "publishes it."
        ) from error
    log.info("Run %s was approved by %s: %s", run.run_id, who, given.why)
    return given


def approval(run: Run) -> Approval | None:
    """The approval of a run, the forced one where there are both; None where nobody gave one.

    Raises:
        CorruptOutputError: it is damaged.
    """
    return _read(run, force=True) or _read(run, force=False)


def _name(run: Run, *, force: bool) -> str:
    return f"{run.run_id}/approval{'-forced' if force else ''}.json"


def _read(run: Run, *, force: bool) -> Approval | None:
    name = _name(run, force=force)
    try:
        return Approval.model_validate_json(run.storage.read(name))
    except NotFoundError:
        return None
    except ValidationError as error:
        raise CorruptOutputError(
            f"{name} in {run.storage.url} cannot be read: it is of another version or damaged; "
            "delete it and approve the run again."
        ) from error
