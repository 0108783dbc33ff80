"""Approval: asked of a person without holding a worker, and recorded in the run."""

from __future__ import annotations

import logging
from datetime import timedelta

from prefect.flow_runs import suspend_flow_run
from prefect.runtime import deployment

from pipelines.approvals import approval, approve
from pipelines.errors import ApprovalNeededError
from pipelines.flows.alerts import APPROVAL_WITHIN
from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.events import emit
from pipelines.flows.forms import Decision
from pipelines.flows.operate import DeclinedError
from pipelines.runs import Run

log = logging.getLogger(__name__)

# Prefect would say only that the run was never resumed, so our automation ends it before that.
_AFTER_ALL = APPROVAL_WITHIN + timedelta(hours=1)


def ask(run: Run, needed: ApprovalNeededError) -> None:
    """Suspend this flow run until a person decides, and record an approval.

    The process ends here. When the person has decided, the flow begins anew, passes over what is
    done and comes here again, where it is told the decision.

    Args:
        run: the judged run.
        needed: what the export said; raised again where nobody can resume this flow run.

    Raises:
        ApprovalNeededError: the flow run has no deployment, and so nobody to start it again.
        DeclinedError: the person declined.
        UsageError, GateRefusedError: as `approve`.
    """
    if not deployment.id:
        raise needed
    judged = run.require("evaluate").metrics
    text = markdown.question(run.run_id, judged)
    publish.as_markdown("approval", text)
    emit("hyperrec.approval.needed", str(needed), run_id=run.run_id)
    log.warning(
        "%s Resume this flow run to decide, within %g hours.",
        needed,
        APPROVAL_WITHIN / timedelta(hours=1),
    )
    answer = suspend_flow_run(
        wait_for_input=Decision.with_initial_data(description=text),
        timeout=int(_AFTER_ALL.total_seconds()),
        key=f"approval-{run.run_id}",
    )
    if answer.decision == "decline":
        raise DeclinedError(
            f"Run {run.run_id} is not published, the active version stays: {answer.who} declined "
            f"({answer.why}); the flow promote publishes it all the same."
        )
    record(run, who=answer.who, why=answer.why)


def record(run: Run, *, who: str, why: str, force: bool = False) -> None:
    """Record an approval, unless the run has one that goes as far."""
    found = approval(run)
    if found is None or (force and not found.force):
        approve(run, who=who, why=why, force=force)
    else:
        log.info("Run %s was approved already by %s: %s", run.run_id, found.who, found.why)
