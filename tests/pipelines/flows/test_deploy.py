"""`hyperrec deploy`, and the schedules that it leaves."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.server.schemas.schedules import CronSchedule

from pipelines.cli.deploy import deploy
from pipelines.errors import UsageError
from pipelines.flows.api import call
from pipelines.flows.deployments import FLOWS
from tests.pipelines.flows.deploying import AUTH, TARGET, deployed, is_here, settle
from tests.receiver import Receiver
from tests.support import Place, wait_until

pytestmark = pytest.mark.slow


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
        ("--job-template", {"pool_type": "kubernetes"}),
        ("no base job template", {"job_template": list_}),
        ("no profile shop", {"profile": "shop"}),
        ("no such setting", {"settings": ["train.wings=2"]}),
        ("terraform output -json", {"outputs": list_}),
    ]
    for sentence, options in mistakes:
        with pytest.raises(UsageError, match=sentence):
            deploy(**options)
