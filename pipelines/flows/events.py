"""Events that alerts listen for, sent by a flow run about itself.

Prefect sends an event at every change of a run's state. These say what a state does not: a refused
gate and a broken disk both end in Failed, and mean other work for other people.
"""

from __future__ import annotations

from typing import Literal, get_args

Event = Literal["hyperrec.gate.refused", "hyperrec.approval.needed", "hyperrec.version.stale"]
EVENTS: tuple[Event, ...] = get_args(Event)

# A run that ends in one of these states has been told of by an event of its own. They are of the
# type Failed; only their names keep the alert on failed runs from telling the same again.
REFUSED, STALE, UNHEALTHY = "Refused", "Stale", "Unhealthy"


def emit(event: Event, message: str, **facts: str) -> None:
    """Send an event about the present flow run; outside of one nothing happens.

    Args:
        event: what happened.
        message: the same as a sentence, for whoever is alerted.
        facts: what else a machine may want to know, such as the run id.
    """
    from prefect.events import emit_event  # noqa: PLC0415  seconds to import
    from prefect.runtime import flow_run  # noqa: PLC0415

    if flow_run.id is None:
        return
    about = {
        "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
        "prefect.resource.name": str(flow_run.name),
    }
    emit_event(event, resource=about, payload={"message": message, **facts})
