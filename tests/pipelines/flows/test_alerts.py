"""People are told of what happens to runs, and lost runs are found and resumed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import SyncPrefectClient

from pipelines.flows.api import call
from pipelines.flows.apply import Channel
from tests.pipelines.flows.deploying import automation, end, send, settle, started, state_of
from tests.receiver import Receiver
from tests.support import wait_until

pytestmark = pytest.mark.slow


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
