"""A Prefect server is made to hold what is wanted, twice with the same end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prefect.client.orchestration import SyncPrefectClient

from infra.local.prefect_services import CPU_POOL, GPU_POOL
from pipelines.errors import PipelineError
from pipelines.flows.api import call, prefect_client
from pipelines.flows.apply import Channel
from pipelines.flows.deployments import FLOWS
from tests.pipelines.flows.deploying import (
    HEALTH,
    NIGHTLY,
    TARGET,
    automation,
    deployed,
    differing,
    is_here,
    settle,
)
from tests.receiver import Receiver

pytestmark = pytest.mark.slow


def test_the_second_time_nothing_changes(client: SyncPrefectClient) -> None:
    first = settle(client)
    assert {(c.kind, c.name) for c in first if c.what == "created"} == {
        ("work pool", CPU_POOL),
        ("work pool", GPU_POOL),
        ("deployment", "health/hyperrec"),
        ("deployment", "health/nightly"),
        ("automation", "hyperrec-mark-lost-runs"),
        ("automation", "hyperrec-resume-crashed-runs"),
        ("automation", "hyperrec-end-unanswered-runs"),
    }
    assert differing(settle(client)) == []
    found = deployed(client, "nightly")
    assert found["parameters"] == {"form": {"source": "az://raw", "runs": "az://runs"}}
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["schedules"][0]["active"] is True
    assert found["entrypoint"] == "pipelines.flows.health.health"


def test_every_flow_that_is_here_can_be_deployed(client: SyncPrefectClient) -> None:
    present = tuple(flow for flow in FLOWS if is_here(flow))
    assert HEALTH in present
    settle(client, flows=(*present, NIGHTLY))
    assert differing(settle(client, flows=(*present, NIGHTLY))) == []


def test_a_difference_is_told_field_by_field_and_mended(client: SyncPrefectClient) -> None:
    settle(client)
    identity = deployed(client, "nightly")["id"]
    call(client, "PATCH", f"/deployments/{identity}", {"description": "touched"})
    other = replace(TARGET, cron="30 3 * * *", timezone="Europe/London", source="az://other")
    planned = settle(client, other, dry_run=True)
    assert deployed(client, "nightly")["description"] == "touched"
    done = settle(client, other)
    assert differing(done) == differing(planned)
    line = next(line for line in differing(done) if "health/nightly" in line)
    assert 'description "touched" -> "See that' in line
    assert '"source": "az://raw"' in line and '"source": "az://other"' in line
    assert "0 2 * * *" in line and "30 3 * * *" in line and "Europe/London" in line
    schedule = deployed(client, "nightly")["schedules"]
    assert [(s["schedule"]["cron"], s["schedule"]["timezone"]) for s in schedule] == [
        ("30 3 * * *", "Europe/London")
    ]
    assert differing(settle(client, other)) == []
    settle(client)


def test_what_operators_switched_off_stays_off(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    channel = Channel(receiver.url)
    settle(client, channel=channel)
    found = deployed(client, "nightly")
    schedule = f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
    call(client, "PATCH", schedule, {"active": False})
    muted = automation(client, "hyperrec-no-worker")
    call(client, "PATCH", f"/automations/{muted['id']}", {"enabled": False})
    settle(client, replace(TARGET, cron="5 4 * * *"), replace(channel, runbook="https://runbook"))
    assert deployed(client, "nightly")["schedules"][0]["active"] is False
    after = automation(client, "hyperrec-no-worker")
    assert after["enabled"] is False
    assert "https://runbook" in after["actions"][0]["payload"]
    call(client, "PATCH", f"/automations/{muted['id']}", {"enabled": True})


def test_only_prune_removes_and_only_what_is_hyperrecs(client: SyncPrefectClient) -> None:
    settle(client)
    foreign = call(client, "POST", "/flows/", {"name": "foreign"})
    call(client, "POST", "/deployments/", {"name": "theirs", "flow_id": foreign["id"]})
    assert differing(settle(client, flows=(HEALTH,))) == []
    gone = settle(client, flows=(HEALTH,), prune=True)
    removed = {c.name for c in gone if c.what == "removed" and c.kind == "deployment"}
    assert removed == {"health/nightly"} | {f.full_name for f in FLOWS if is_here(f)} - {
        "health/hyperrec"
    }
    assert call(client, "GET", "/deployments/name/foreign/theirs")["name"] == "theirs"
    settle(client)


def test_a_form_that_does_not_fit_is_refused_before_anything_runs(
    client: SyncPrefectClient,
) -> None:
    settle(client)
    path = f"/deployments/{deployed(client, 'hyperrec')['id']}/create_flow_run"
    with pytest.raises(PipelineError, match=r"(?s)max_age_days|-3"), prefect_client() as other:
        call(other, "POST", path, {"parameters": {"form": {"max_age_days": -3}}})


def test_whoever_deploys_without_the_address_leaves_the_alerts(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    settle(client, channel=Channel(receiver.url))
    assert differing(settle(client, prune=True)) == []
    assert automation(client, "hyperrec-run-failed")["enabled"]


def test_pools_of_another_type_are_not_touched(client: SyncPrefectClient) -> None:
    settle(client)
    template = {"job_configuration": {}, "variables": {"properties": {}}}
    cluster = replace(
        TARGET, pool_type="kubernetes", job_templates={CPU_POOL: template, GPU_POOL: template}
    )
    with pytest.raises(PipelineError, match=r"hyperrec-cpu is of the type process"):
        settle(client, cluster)
