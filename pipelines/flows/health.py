"""Health as a Prefect flow: an hourly look, which fails and alerts when something is wrong."""

# No `from __future__ import annotations` here: Prefect reads these types when it loads a flow.

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import PipelineError
from pipelines.flows.api import call, find_prefect, prefect_client
from pipelines.flows.events import STALE, UNHEALTHY, emit
from pipelines.flows.forms import Runs, Source
from pipelines.health import FRESHNESS, Finding, look
from pipelines.start import runs_url


class HealthForm(BaseModel):
    """Where to look, and what may be."""

    model_config = ConfigDict(title="Health", frozen=True, extra="forbid")

    source: Source = "az://raw"
    max_age_days: Annotated[
        int,
        Field(
            title="Oldest active version",
            description="So many days may lie between the last day that the active version knows "
            "and today. A night's run knows yesterday, and is a day older before the next one.",
            ge=0,
            le=400,
        ),
    ] = 2
    max_lag_days: Annotated[
        int,
        Field(
            title="Oldest raw data",
            description="So many days may lie between the newest raw data and today.",
            ge=0,
            le=400,
        ),
    ] = 2
    runs: Runs = None


def findings(form: HealthForm) -> list[Finding]:
    """Everything looked at, how the last nightly run ended included."""
    return look(
        source=form.source,
        runs=form.runs or runs_url(form.source),
        max_age_days=form.max_age_days,
        max_lag_days=form.max_lag_days,
        last_run=last_nightly_run,
    )


def last_nightly_run() -> Finding:
    """How the last nightly run that is over has ended, as Prefect knows it."""
    thing = "last nightly run"
    if find_prefect() is None:
        return Finding(thing, "unknown", "no Prefect server is configured")
    ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    asked = {
        "flows": {"name": {"any_": ["daily-retrain"]}},
        "flow_runs": {"state": ended},
        "sort": "END_TIME_DESC",
        "limit": 1,
    }
    try:
        with prefect_client() as client:
            found = call(client, "POST", "/flow_runs/filter", asked)
    except PipelineError as error:
        return Finding(thing, "wrong", "Prefect does not answer", str(error))
    if not found:
        return Finding(thing, "unknown", "none has ended yet")
    run: dict[str, Any] = found[0]
    state, ended_at = run["state"], datetime.fromisoformat(run["end_time"]).astimezone(UTC)
    seen = f"{run['name']}: {state['name']} at {ended_at:%Y-%m-%d %H:%M} UTC"
    if state["type"] in {"FAILED", "CRASHED"}:
        why = (state.get("message") or "it left no message").rstrip(".")
        advice = f"The last nightly run, {run['name']}, ended as {state['name']}: {why}."
        return Finding(thing, "wrong", seen, advice)
    return Finding(thing, "ok", seen)


@flow(name="health", flow_run_name="health", retries=0)
def health(form: HealthForm = HealthForm()) -> Any:  # noqa: B008  a flow's form is read once
    """See that a fresh version is active, data arrive and the stores answer.

    Ends as Failed, under a name of its own, when something is wrong; then people are alerted.
    """
    found = findings(form)
    create_table_artifact(
        key="health",
        table=[
            {"": each.thing, "state": each.state, "found": each.found, "what to do": each.advice}
            for each in found
        ],
        description="What the health check found.",
    )
    wrong = [each for each in found if each.state == "wrong"]
    if not wrong:
        return Completed(message="Everything looked at is as it should be.")
    for each in wrong:
        if each.thing == FRESHNESS:
            emit("hyperrec.version.stale", each.advice)
    # Staleness alone has an alert of its own.
    name = STALE if all(each.thing == FRESHNESS for each in wrong) else UNHEALTHY
    return Failed(message=" ".join(each.advice for each in wrong), name=name)
