"""What Prefect does by itself: runs that are lost are found and resumed, and people are told.

Each alert says what happened, what to do, where it stands in the runbook, and links the run. The
text is a template that Prefect's server fills in when the alert goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from infra.local.prefect_services import CPU_POOL
from pipelines.flows.events import REFUSED, STALE, UNHEALTHY

# Tags of deployments, which their runs inherit.
TAG = "hyperrec"
# Of flows that a second start takes on where the first one ended. A rollback is none of them: a
# second one undoes the first.
RESUMES = "hyperrec-resumes"

_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", REFUSED, STALE, UNHEALTHY)
_BEGUN = ("Pending", "Running")
_WAITING = ("Suspended", "Paused", "Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot")

_HEARTBEAT = "prefect.flow-run.heartbeat"
# Three heartbeats, which come every half a minute.
_SILENCE = timedelta(seconds=90)
_LATE = timedelta(minutes=10)
# A run is resumed once; one that is lost again so soon would be lost for ever.
_RESUME_ONCE_IN = timedelta(hours=6)
APPROVAL_WITHIN = timedelta(hours=20)
"""So long may an approval take: the next night's result is due soon after."""
# The health flow looks often; people are told twice a day.
_TELL_ONCE_IN = timedelta(hours=12)


@dataclass(frozen=True)
class Alert:
    """A message to people: what it is about, when it goes out, what it says.

    Attributes:
        key: what it is called in messages.
        section: heading of the runbook, as its anchor.
        what: what happened, as a template.
        do: what to do.
        trigger: when.
    """

    key: str
    section: str
    what: str
    do: str
    trigger: EventTrigger

    @property
    def name(self) -> str:
        """Of its automation."""
        return f"hyperrec-{self.key}"


Sender = Callable[[Alert, str], ActionTypes]

_NAME = "{{ flow_run.name | default(event.resource.name) }} ({{ flow.name | default('a flow') }})"
_STATE = "{{ flow_run.state.message | default('no message') }}"
_SAID = "{{ event.payload.message }}"


def _tag(name: str) -> dict[str, str]:
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{name}"}


def _on(*events: str, within: timedelta = timedelta(0), tag: str = TAG) -> EventTrigger:
    return EventTrigger(match=_RUNS, match_related=_tag(tag), expect=set(events), within=within)


def _states(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


def _without(expected: set[str], *, after: set[str], within: timedelta) -> EventTrigger:
    """When nothing of what is expected of a run has come for so long after something."""
    return EventTrigger(
        match=_RUNS,
        match_related=_tag(TAG),
        after=after,
        expect=expected,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        within=within,
    )


def alerts() -> list[Alert]:
    """Every alert there is."""
    return [
        Alert(
            "run-failed",
            "a-run-failed",
            f"{_NAME} failed: {_STATE}",
            "Mend what the sentence names and give Retry on the run's page: it goes on where it "
            "stopped. The version that was active still is.",
            _on(*_states("Failed")),
        ),
        Alert(
            "gate-refused",
            "a-gate-refused",
            f"{_NAME} was refused by a gate: {_SAID}",
            "Look at the verdicts on the run's page. Nothing was published, the version that was "
            "active still is; the next night tries again, or force it with a reason.",
            _on("hyperrec.gate.refused"),
        ),
        Alert(
            "approval-needed",
            "approval-needed",
            f"{_NAME} waits for approval: {_SAID}",
            "Look at the verdicts on the run's page and give Resume there, approving or declining "
            "with a reason.",
            _on("hyperrec.approval.needed"),
        ),
        Alert(
            "run-late",
            "a-run-is-late",
            f"{_NAME} should have begun {_LATE // timedelta(minutes=1)} minutes ago, and no "
            "worker has taken it.",
            "See that a worker of its pool runs and that neither pool nor deployment is paused. It "
            "will do the night it was made for, however late.",
            _without(_states(*_BEGUN, *_ENDED), after=_states("Late"), within=_LATE),
        ),
        Alert(
            "run-crashed",
            "a-run-crashed",
            f"{_NAME} was lost: {_STATE}",
            "Its process or machine is gone. Retraining and back-fills are started again once by "
            "themselves and go on where they stopped; if it is lost again, look at the worker's "
            "memory and log before giving Retry.",
            _on(*_states("Crashed")),
        ),
        Alert(
            "version-stale",
            "the-active-version-is-stale",
            _SAID,
            "See why the last nights published nothing, on the runs of daily-retrain; services go "
            "on with the version they have.",
            _on("hyperrec.version.stale", within=_TELL_ONCE_IN),
        ),
        Alert(
            "unhealthy",
            "the-health-check-found-something",
            f"{_NAME}: {_STATE}",
            "Give `hyperrec health` for the whole table, and mend what it names.",
            _on(*_states(UNHEALTHY), within=_TELL_ONCE_IN),
        ),
        Alert(
            "no-worker",
            "no-worker",
            f"No worker polls the work pool {CPU_POOL}.",
            "Start it again (`hyperrec up`, or its deployment on the cluster); runs wait for it "
            "and lose nothing.",
            EventTrigger(
                match={
                    "prefect.resource.id": "prefect.work-pool.*",
                    "prefect.resource.name": CPU_POOL,
                },
                after={"prefect.work-pool.not-ready"},
                expect={"prefect.work-pool.ready"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                within=_LATE,
            ),
        ),
    ]


def automations(send: Sender | None, *, runbook: str) -> list[AutomationCore]:
    """All automations: those that keep runs going, and an alert each where there is a channel.

    Args:
        send: makes the action that tells people; None where nobody is told.
        runbook: address of the runbook, without a section.
    """
    lost = AutomationCore(
        name="hyperrec-mark-lost-runs",
        description="A run whose heartbeat has stopped has lost its process: mark it crashed.",
        trigger=_without(
            {_HEARTBEAT} | _states(*_ENDED, *_WAITING), after={_HEARTBEAT}, within=_SILENCE
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="Its heartbeat stopped: the process or machine that ran it is gone.",
            )
        ],
    )
    resume = AutomationCore(
        name="hyperrec-resume-crashed-runs",
        description="A crashed run that can go on where it stopped is started again, once.",
        trigger=EventTrigger(
            match=_RUNS,
            match_related=_tag(RESUMES),
            expect=_states("Crashed"),
            for_each={"prefect.resource.id"},
            within=_RESUME_ONCE_IN,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="It crashed and is started again, to go on where it stopped.",
            )
        ],
    )
    unanswered = AutomationCore(
        name="hyperrec-end-unanswered-runs",
        description="A run that nobody approved or declined in time is ended, unpublished.",
        trigger=_without(
            # Whatever a decision, a cancellation or a change by hand leads to.
            _states(*_BEGUN, *_ENDED, "Resuming", "Scheduled", "AwaitingRetry"),
            after=_states("Suspended"),
            within=APPROVAL_WITHIN,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.FAILED,
                name="Failed",
                message="Nobody approved or declined in time, so nothing is published and the "
                "active version stays; Retry asks again, and the flow promote publishes the run.",
            )
        ],
    )
    keeping = [lost, resume, unanswered]
    if send is None:
        return keeping
    return keeping + [
        AutomationCore(
            name=alert.name,
            description=f"Tells people. {alert.do}",
            trigger=alert.trigger,
            actions=[send(alert, runbook)],
        )
        for alert in alerts()
    ]


def by_webhook(block_id: Any) -> Sender:
    """Alerts as JSON to a webhook block; `text` alone is what Slack, Teams and others show."""

    def send(alert: Alert, runbook: str) -> ActionTypes:
        payload = (
            f"{{% set what %}}{alert.what}{{% endset %}}"
            f"{{% set text %}}{{{{ what }}}}\n{_todo(alert, runbook)}{{% endset %}}"
            f'{{"alert": "{alert.key}", "text": {{{{ text | tojson }}}}, '
            '"what": {{ what | tojson }}, '
            '"flow_run": {{ flow_run.name | default("") | string | tojson }}, '
            '"url": {{ (flow_run | ui_url or "" if flow_run else "") | tojson }}, '
            f'"runbook": "{runbook}#{alert.section}"}}'
        )
        return CallWebhook(block_document_id=block_id, payload=payload)

    return send


def by_notification(block_id: Any) -> Sender:
    """Alerts as subject and text to a notification block, such as mail."""

    def send(alert: Alert, runbook: str) -> ActionTypes:
        return SendNotification(
            block_document_id=block_id,
            subject=f"hyperrec: {alert.key.replace('-', ' ')}",
            body=f"{alert.what}\n\n{_todo(alert, runbook)}",
        )

    return send


def _todo(alert: Alert, runbook: str) -> str:
    link = "{% if flow_run and flow_run | ui_url %}\nRun: {{ flow_run | ui_url }}{% endif %}"
    return f"What to do: {alert.do}\nRunbook: {runbook}#{alert.section}{link}"
