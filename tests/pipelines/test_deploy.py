"""A Prefect server is made to hold what is wanted, twice with the same end, and tells people."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from infra.local.prefect_services import CPU_POOL, GPU_POOL
from pipelines.cli.deploy import Pool, deploy
from pipelines.errors import PipelineError, UsageError
from pipelines.flows import alerts
from pipelines.flows.api import call, prefect_client
from pipelines.flows.apply import Change, Channel, apply
from pipelines.flows.deployments import FLOWS, FlowDeployment, Target
from tests.receiver import Receiver, receiving
from tests.support import Place, prefect_server, wait_until

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place.make(tmp_path_factory.mktemp("deploy"))
    # A server that does not know its own address links nothing.
    return place.with_settings(
        PREFECT_SERVER_API_AUTH_STRING=AUTH, PREFECT_UI_URL="http://prefect.test"
    )


@pytest.fixture(scope="module")
def api(place: Place) -> Iterator[str]:
    with prefect_server(place) as url:
        yield url


@pytest.fixture(scope="module")
def client(api: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: AUTH}),
        prefect_client() as client,
    ):
        yield client


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


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


def automation(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    answer = call(client, "POST", "/automations/filter", {"limit": 200})
    return next(each for each in answer if each["name"] == name)


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


def test_people_are_told_of_a_failed_run(client: SyncPrefectClient, receiver: Receiver) -> None:
    changes = settle(client, channel=Channel(receiver.url, runbook="https://docs/RUNBOOK.md"))
    assert not any("secret-part" in str(change) for change in changes)
    run = started(client, "nightly")
    end(client, run, type="FAILED", message='The disk is "full"; empty it.')
    told = receiver.wait("run-failed")
    assert 'The disk is "full"; empty it.' in told["text"]
    assert "What to do: " in told["text"]
    assert told["url"].endswith(f"/flow-run/{run}")
    assert told["runbook"] == "https://docs/RUNBOOK.md#a-run-failed"
    # What has a name of its own has an alert of its own.
    refused = started(client, "nightly")
    end(client, refused, type="FAILED", name="Refused", message="HR@10 is too low.")
    last = started(client, "nightly")
    end(client, last, type="FAILED", message="the last")
    wait_until(lambda: len(receiver.about("run-failed")) == 2, "no second alert", seconds=60)
    assert not any("too low" in each["text"] for each in receiver.told)


def test_an_event_of_a_flow_is_told(client: SyncPrefectClient, receiver: Receiver) -> None:
    settle(client, channel=Channel(receiver.url))
    run = started(client, "nightly")
    send(client, run, "hyperrec.gate.refused", message="Not published: HR@10 0.1 is below 0.2.")
    told = receiver.wait("gate-refused")
    assert "HR@10 0.1 is below 0.2." in told["text"]
    assert told["url"].endswith(f"/flow-run/{run}")


def test_a_crashed_run_is_resumed_once_where_that_is_safe(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    settle(client, channel=Channel(receiver.url))
    safe, unsafe = started(client, "nightly"), started(client, "hyperrec")
    for run in (safe, unsafe):
        end(client, run, type="CRASHED", message="Its process is gone.")
    wait_until(lambda: state_of(client, safe) == "AwaitingRetry", "it is not resumed", seconds=60)
    wait_until(lambda: len(receiver.about("run-crashed")) == 2, "too few alerts", seconds=60)
    end(client, safe, type="CRASHED", message="Again.")
    wait_until(lambda: len(receiver.about("run-crashed")) == 3, "too few alerts", seconds=60)
    assert state_of(client, safe) == state_of(client, unsafe) == "Crashed"


def test_a_run_that_no_worker_takes_is_told_of(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    # The alert as it is deployed, with less patience.
    settle(client, channel=Channel(receiver.url))
    late = automation(client, "hyperrec-run-late")
    trigger = late["trigger"] | {"within": 10}
    quick = {f: late[f] for f in ("description", "actions")} | {"name": "q", "trigger": trigger}
    call(client, "POST", "/automations/", quick)
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    run = started(client, "nightly", type="SCHEDULED", state_details={"scheduled_time": past})
    told = receiver.wait("run-late")
    assert told["url"].endswith(f"/flow-run/{run}")
    assert "no worker has taken it" in told["text"]


def test_whoever_deploys_without_the_address_leaves_the_alerts(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    settle(client, channel=Channel(receiver.url))
    assert differing(settle(client, prune=True)) == []
    assert automation(client, "hyperrec-run-failed")["enabled"]


def test_a_run_whose_heart_stops_is_marked_but_not_one_that_waits(
    client: SyncPrefectClient,
) -> None:
    # As it is deployed, with less patience.
    settle(client)
    lost = automation(client, "hyperrec-mark-lost-runs")
    trigger = lost["trigger"] | {"within": 10}
    quick = {f: lost[f] for f in ("description", "actions")} | {"name": "l", "trigger": trigger}
    call(client, "POST", "/automations/", quick)
    gone, waiting = (started(client, "nightly", type="RUNNING") for _ in range(2))
    for run in (gone, waiting):
        send(client, run, "prefect.flow-run.heartbeat")
    end(client, waiting, type="PAUSED", name="Suspended")
    wait_until(lambda: state_of(client, gone) != "Running", "it is not marked", seconds=60)
    assert state_of(client, waiting) == "Suspended"


def test_a_schedule_makes_runs_in_its_time_zone(client: SyncPrefectClient) -> None:
    settle(client, replace(TARGET, cron="30 3 * * *", timezone="America/New_York"))
    found = deployed(client, "nightly")
    wanted = {
        "deployments": {"id": {"any_": [found["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs: list[dict[str, Any]] = []

    def are_made() -> bool:
        answer = call(client, "POST", "/flow_runs/filter", wanted)
        runs[:] = [each for each in answer if each["auto_scheduled"]]
        return len(runs) >= 3

    wait_until(are_made, "the schedule makes no runs", seconds=90)
    times = sorted(datetime.fromisoformat(each["expected_start_time"]) for each in runs)
    local = [each.astimezone(ZoneInfo("America/New_York")) for each in times]
    assert {(each.hour, each.minute) for each in local} == {(3, 30)}
    days = [each.date() for each in local]
    assert all(b - a == timedelta(days=1) for a, b in pairwise(days))
    assert datetime.now(UTC) < times[0] < datetime.now(UTC) + timedelta(days=1, hours=2)
    settle(client)


@pytest.mark.parametrize(
    ("day", "hours"),
    # The clocks of London go forward on the 29th of March and back on the 25th of October.
    [
        (datetime(2026, 3, 28, tzinfo=UTC), [2, 1, 1]),
        (datetime(2026, 10, 24, tzinfo=UTC), [1, 2, 2]),
    ],
)
def test_a_schedule_keeps_the_time_of_day_when_clocks_change(
    client: SyncPrefectClient, day: datetime, hours: list[int]
) -> None:
    settle(client, replace(TARGET, cron="0 2 * * *", timezone="Europe/London"))
    deployed_as = deployed(client, "nightly")["schedules"][0]["schedule"]
    # The server's own, from which its scheduler takes the times of runs.
    times = asyncio.run(CronSchedule.model_validate(deployed_as).get_dates(3, start=day))
    assert [each.astimezone(UTC).hour for each in times] == hours
    settle(client)


def test_pools_of_another_type_are_not_touched(client: SyncPrefectClient) -> None:
    settle(client)
    template = {"job_configuration": {}, "variables": {"properties": {}}}
    cluster = replace(
        TARGET, pool_type="kubernetes", job_templates={CPU_POOL: template, GPU_POOL: template}
    )
    with pytest.raises(PipelineError, match=r"hyperrec-cpu is of the type process"):
        settle(client, cluster)


def test_a_wrong_password_is_told_in_a_sentence(place: Place, api: str) -> None:
    stranger = place.with_settings(PREFECT_API_URL=api, PREFECT_API_AUTH_STRING="a:b")
    sentence = stranger.hyperrec("deploy", "--dry-run", code=1).said
    assert "PREFECT_API_AUTH_STRING" in sentence and sentence.startswith("hyperrec: ")


@pytest.mark.skipif(not all(map(is_here, FLOWS)), reason="not every flow is here")
def test_the_command_takes_terraforms_outputs(
    place: Place, api: str, receiver: Receiver, tmp_path: Path
) -> None:
    outputs = {
        "prefect_api_url": api,
        "input_url": "az://raw2",
        "runs_url": "az://runs2",
        "cosmos_endpoint": "https://shop.documents.azure.com",
        "storage_account_url": "https://shop.blob.core.windows.net",
        "work_pool_type": "process",
        "image": "registry/hyperrec:1",
    }
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps({k: {"value": v, "type": "string"} for k, v in outputs.items()}))
    known = place.with_settings(PREFECT_API_AUTH_STRING=AUTH, HYPERREC_ALERT_WEBHOOK=receiver.url)
    planned = known.hyperrec("deploy", "--from", str(file), "--dry-run")
    assert "deployment daily-retrain/hyperrec" in planned.out
    assert "Nothing was done" in planned.out
    done = known.hyperrec("deploy", "--from", str(file))
    assert "secret-part" not in planned.out + done.out + done.err
    again = known.hyperrec("deploy", "--from", str(file))
    assert "Nothing to change" in again.out
    assert "No alert was set up" not in again.out


def test_mistakes_are_told_before_a_server_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.cli.deploy.prepare_prefect", lambda: None)
    list_ = tmp_path / "x.json"
    list_.write_text("[]")
    mistakes: list[tuple[str, dict[str, Any]]] = [
        ("no time zone Mars/Base", {"timezone": "Mars/Base"}),
        ("no time of a schedule", {"cron": "every night"}),
        ("--job-template", {"pool_type": Pool.kubernetes}),
        ("no base job template", {"job_template": list_}),
        ("no profile shop", {"profile": "shop"}),
        ("no such setting", {"settings": ["train.wings=2"]}),
        ("terraform output -json", {"outputs": list_}),
    ]
    for sentence, options in mistakes:
        with pytest.raises(UsageError, match=sentence):
            deploy(**options)
