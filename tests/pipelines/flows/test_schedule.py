"""A night that nobody starts: its time comes, a worker takes it, and it does the night before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.flows.api import prefect_client
from pipelines.flows.apply import Channel, apply
from pipelines.flows.deployments import FLOWS, Target
from tests.pipelines.flows.support import SETTINGS, Shop, shop, worker
from tests.support import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def run_of_the_schedule(here: Shop, deployment: dict[str, Any]) -> dict[str, Any]:
    """The first of its runs, once a worker has taken it."""
    wanted = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    found: list[dict[str, Any]] = []

    def is_taken() -> bool:
        found[:] = here.call("/flow_runs/filter", wanted)
        return bool(found)

    wait_until(is_taken, "no worker has taken a run of the schedule", 200)
    return found[0]


def test_a_schedule_fires_and_its_night_is_done(tmp_path: Path) -> None:
    flows = tuple(flow for flow in FLOWS if flow.flow == "daily-retrain")
    with shop(tmp_path) as here:
        today = datetime.now(UTC).date()
        # Of both, should midnight come in between.
        nights = {day: here.night(day=day) for day in (today - timedelta(days=1), today)}
        target = Target(
            source=here.raw, runs=here.runs.url, settings=tuple(SETTINGS), cron="* * * * *"
        )
        with temporary_settings({PREFECT_API_URL: here.api}), prefect_client() as client:
            apply(client, target, Channel(), flows=flows)
        deployment = here.call("/deployments/name/daily-retrain/hyperrec")
        with worker(here):
            taken = run_of_the_schedule(here, deployment)
            # The next minute's would only wait for this one.
            here.call(f"/deployments/{deployment['id']}/pause_deployment", {})
            ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            over = here.wait(taken["id"], *ends, seconds=300)
        assert over["state_type"] == "COMPLETED", over["state"]
        assert over["auto_scheduled"] is True
        scheduled = datetime.fromisoformat(over["expected_start_time"]).astimezone(UTC)
        night = scheduled.date() - timedelta(days=1)
        assert over["name"] == f"{night} retrain"
        active = here.place.control().active
        assert active is not None
        assert active.version == nights[night].run_id
