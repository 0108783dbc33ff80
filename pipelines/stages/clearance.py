"""Whether a judged run may replace the version that serves now.

The gates were asked by the evaluate stage, perhaps hours ago and beside another version. Here their
verdicts meet what is active now and what people have said: approvals, and rollbacks. The decision
holds for one state of what is active; `Clearance.guard` is asked under the loading lease whether it
still is that one, so that of two runs neither passes the other unseen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipelines import gates
from pipelines.approvals import Approval, approval
from pipelines.errors import ApprovalNeededError, OvertakenError, UsageError
from pipelines.gates import Verdict
from pipelines.profile import profile_of
from pipelines.runs import Attempt, Run
from pipelines.settings import CosmosAccount, patience_seconds
from pipelines.stages.active import compared, control_of, is_later
from pipelines.stages.inputs import read_histories, read_vocabulary
from serving_export import publish
from serving_export.errors import MissingContainerError
from serving_export.events import Event
from serving_export.slots import Control, Published

log = logging.getLogger(__name__)

_RECENT_EVENTS = 50
"""A rollback longer ago leaves a run that newer ones have overtaken."""


class ActiveChangedError(OvertakenError):
    """Another version is active than the one that a clearance is for."""


@dataclass(frozen=True)
class Clearance:
    """A run may be published while one version, or none, is active.

    Attributes:
        verdicts: of all gates; those against the active version are of the one that is active.
        approval: who let it out, where somebody had to or did.
        active: what it may replace.
    """

    verdicts: list[Verdict]
    approval: Approval | None
    active: Published | None

    def guard(self, control: Control) -> None:
        """Raise `ActiveChangedError` unless the active version is still the same."""
        load = None if self.active is None else self.active.load
        now = control.active
        if (None if now is None else now.load) == load:
            return
        raise ActiveChangedError(
            f"Meanwhile {f'version {now.version}' if now else 'no version'} has become active"
            f"{f', by {now.promoted_by}' if now else ''}; the run is held against that when the "
            "export stage is given again."
        )

    def sentences(self) -> list[str]:
        """What each gate said, for the history; those that did not pass say so first."""
        return [
            each.reason if each.outcome == "pass" else f"{each.outcome}: {each.reason}"
            for each in self.verdicts
        ]

    def why(self, given: str | None) -> str | None:
        """The reason for the history: that of whoever publishes, and that of who approved."""
        approved = None
        if self.approval is not None:
            how = "forced" if self.approval.force else "approved"
            approved = f"{how} by {self.approval.who}: {self.approval.why}"
        return "; ".join(filter(None, (given, approved))) or None


def clear(run: Run, attempt: Attempt, account: CosmosAccount) -> Clearance:
    """Decide whether a run may be published now.

    Args:
        run: a run that was judged.
        attempt: of the export stage.
        account: where it would be published.

    Raises:
        UsageError: it is not judged.
        GateRefusedError: a gate refused it.
        ApprovalNeededError: a gate warns, or it was rolled back, and nobody has approved it since.
        OvertakenError: what is active is of a later day, or better.
        ExportError: Cosmos DB was away, or refused.
    """
    judged = run.require("evaluate").metrics
    given = approval(run)
    forced = given is not None and given.force
    active = control_of(account).active
    verdicts = gates.verdicts_of(judged)
    if active is not None and active.version == run.run_id:
        # An earlier attempt made it so, and was cleared for it.
        return Clearance(verdicts, given, active)
    if active is not None and _has_overtaken(active, run) and not forced:
        raise OvertakenError(
            f"Run {run.run_id} is not published: version {active.version}, which is active, is of "
            f"a later day; `hyperrec approve {run.run_id} --force --why REASON` lets the older one "
            "replace it."
        )
    if active is not None and active.version != judged.get("compared_with"):
        verdicts = _renewed(attempt, active, verdicts)
        _require_as_good(run, verdicts, active, forced=forced)
    gates.require_not_refused(run.run_id, verdicts, forced=forced)
    objections = [each.reason for each in verdicts if each.outcome != "pass"]
    since = _rolled_back(account, run)
    if since is not None and (given is None or given.at < since.at):
        objections.append(
            f"it was rolled back by {since.who} at {since.at:%Y-%m-%d %H:%M:%S} UTC"
            + (f" ({since.why})" if since.why else "")
        )
        given = None
    if objections and given is None:
        raise ApprovalNeededError(
            f"Run {run.run_id} needs a person's approval, the active version stays: "
            f"{'; '.join(objections)}; `hyperrec approve {run.run_id} --why REASON`, and then "
            f"`hyperrec export {run.run_id}`, lets it out."
        )
    return Clearance(verdicts, given, active)


def _has_overtaken(active: Published, run: Run) -> bool:
    """Whether what is active is of a later day, which another shop's days say nothing of."""
    if not is_later(active, run):
        return False
    if profile_of(run.record).evaluate.gates.against_active:
        return True
    try:
        return Run.open(run.storage, active.run_id).record.input == run.record.input
    except UsageError:
        return True


def require_own_gates(run: Run) -> None:
    """Raise where a gate refused that knows of no other version; those may decide anew later.

    Raises:
        UsageError: the run is not judged.
        GateRefusedError: a gate refused it, and nobody forced it.
    """
    given = approval(run)
    verdicts = gates.verdicts_of(run.require("evaluate").metrics)
    own = [each for each in verdicts if each.gate not in gates.AGAINST_ACTIVE]
    gates.require_not_refused(run.run_id, own, forced=given is not None and given.force)


def _renewed(attempt: Attempt, active: Published, verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts with those against the active version made anew, since it is another one."""
    run = attempt.run
    log.info("Version %s has become active since run %s was judged.", active.version, run.run_id)
    vocabulary = read_vocabulary(attempt)
    fresh = compared(
        attempt,
        profile_of(run.record),
        active,
        ranks=attempt.read("evaluate", "ranks.parquet"),
        test=read_histories(attempt, "test", items=len(vocabulary)),
        vocabulary=vocabulary,
    )
    anew = {each.gate: each for each in fresh.verdicts}
    kept = [anew.pop(each.gate, each) for each in verdicts]
    return [*kept, *anew.values()]


def _require_as_good(run: Run, verdicts: list[Verdict], active: Published, *, forced: bool) -> None:
    refused = [v.reason for v in verdicts if v.gate == "active" and v.outcome == "refuse"]
    if refused and not forced:
        raise OvertakenError(
            f"Run {run.run_id} is not published: version {active.version} has become active since "
            f"it was judged, and is better: {refused[0]}; `hyperrec approve {run.run_id} --force "
            "--why REASON` lets it out all the same."
        )


def _rolled_back(account: CosmosAccount, run: Run) -> Event | None:
    """The rollback that took a run's version away, unless it was made active again since."""
    try:
        events = publish.history(
            account.endpoint, account.credential, limit=_RECENT_EVENTS, patience=patience_seconds()
        )
    except MissingContainerError:
        return None
    for event in events:
        if event.version == run.run_id:
            return None
        if event.replaced == run.run_id:
            return event if event.action == "rollback" else None
    return None
