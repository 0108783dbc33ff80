"""Deploying to a Prefect server, looking at what it holds, and runs that no worker takes."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient

from pipelines.flows import alerts
from pipelines.flows.api import call
from pipelines.flows.apply import Change, Channel, apply
from pipelines.flows.deployments import FLOWS, FlowDeployment, Target

AUTH = "hyperrec:a-password-of-this-test"
HEALTH = next(flow for flow in FLOWS if flow.flow == "health")
# A flow of the same form that may be started again, as the nightly one.
NIGHTLY = replace(HEALTH, name="nightly", resumes=True, schedule=lambda target: target.cron)
TARGET = Target(source="az://raw", runs="az://runs")
NOBODY = Channel()


def is_here(wanted: FlowDeployment) -> bool:
    module, _, function = wanted.entrypoint.rpartition(".")
    if find_spec(module) is None:
        return False
    flow = getattr(import_module(module), function, None)
    return flow is not None and list(signature(flow.fn).parameters) == ["form"]


def settle(
    client: SyncPrefectClient,
    target: Target = TARGET,
    channel: Channel = NOBODY,
    flows: tuple[FlowDeployment, ...] = (HEALTH, NIGHTLY),
    **how: bool,
) -> list[Change]:
    return apply(client, target, channel, flows=flows, **how)


def differing(changes: list[Change]) -> list[str]:
    return [str(change) for change in changes if change.what != "unchanged"]


def deployed(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    found: dict[str, Any] = call(client, "GET", f"/deployments/name/health/{name}")
    return found


def started(client: SyncPrefectClient, name: str, **state: Any) -> str:
    """A run of a deployment that no worker takes, in a state."""
    body = {"state": {"type": "PENDING", **state}, "name": f"run {time.monotonic_ns()}"}
    run = call(client, "POST", f"/deployments/{deployed(client, name)['id']}/create_flow_run", body)
    return str(run["id"])


def end(client: SyncPrefectClient, run: str, **state: Any) -> None:
    call(client, "POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})


def state_of(client: SyncPrefectClient, run: str) -> str:
    return str(call(client, "GET", f"/flow_runs/{run}")["state"]["name"])


def send(client: SyncPrefectClient, run: str, event: str, **payload: str) -> None:
    """An event about a run, as its own process would send it."""
    tag = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{alerts.TAG}"}
    about = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [tag],
        "payload": payload,
        "id": str(uuid4()),
    }
    call(client, "POST", "/events", [about])


def automation(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    answer = call(client, "POST", "/automations/filter", {"limit": 200})
    return next(each for each in answer if each["name"] == name)
