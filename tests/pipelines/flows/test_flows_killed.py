"""A flow run whose worker is killed, and one that is cancelled, in the middle of training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.flows import EntrypointType
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.flows.retrain import daily_retrain
from pipelines.lease import holding
from pipelines.runs import STAGES, Run
from serving_export.control import DOCUMENT
from tests.pipelines.flows.support import AS_OF, POOL, Shop, shop, worker
from tests.support import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

LONG = "train.epochs=200"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop")) as made:
        made.call("/work_pools/", {"name": POOL, "type": "process"})
        with temporary_settings({PREFECT_API_URL: made.api}):
            daily_retrain.to_deployment(
                "hyperrec", entrypoint_type=EntrypointType.MODULE_PATH
            ).apply(work_pool_name=POOL)
        yield made


def flow_processes(flow_run_id: str) -> list[int]:
    """Processes that work for a flow run: that of the flow, and its children."""
    mark = f"PREFECT__FLOW_RUN_ID={flow_run_id}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def in_training(here: Shop, run: Run, flow_run_id: str, epochs: int) -> None:
    """Wait until training has left so many checkpoints."""
    folder = f"{run.run_id}/train/checkpoints/"

    def reached() -> bool:
        state = here.flow_run(flow_run_id)
        assert state["state_type"] in {"SCHEDULED", "PENDING", "RUNNING"}, state["state"]
        return sum(1 for _ in here.runs.list(folder)) > epochs

    wait_until(reached, "training does not begin", 240)


def test_a_night_whose_worker_is_killed_goes_on_elsewhere(here: Shop) -> None:
    run = here.night("seed=11", LONG)
    form = here.form("seed=11", LONG, as_of=AS_OF.isoformat())
    with worker(here) as pid:
        flow_run_id = here.start("daily-retrain/hyperrec", form)
        in_training(here, run, flow_run_id, 20)
        os.kill(pid, signal.SIGKILL)
        for each in flow_processes(flow_run_id):
            os.kill(each, signal.SIGKILL)
    assert here.flow_run(flow_run_id)["state_type"] == "RUNNING"  # nobody is left to say otherwise
    # What an automation does that hears no heartbeat, and an operator by Retry.
    body = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    here.call(f"/flow_runs/{flow_run_id}/set_state", body)
    with worker(here):
        over = here.wait(flow_run_id, "COMPLETED", "FAILED", "CRASHED", seconds=400)
    assert over["state_type"] == "COMPLETED", over["state"]
    assert all(run.manifest(stage) for stage in STAGES)
    lines = [each["message"] for each in here.log(flow_run_id)]
    assert any(line.startswith("Going on after epoch ") for line in lines)
    assert any(line.startswith(f"Going on with run {run.run_id} ") for line in lines)


def test_a_cancelled_night_leaves_no_process_and_no_lease(here: Shop) -> None:
    run = here.night("seed=12", LONG)
    form = here.form("seed=12", LONG, as_of=AS_OF.isoformat())
    with worker(here):
        flow_run_id = here.start("daily-retrain/hyperrec", form)
        in_training(here, run, flow_run_id, 5)
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        here.call(f"/flow_runs/{flow_run_id}/set_state", body)
        here.wait(flow_run_id, "CANCELLED")
        wait_until(lambda: not flow_processes(flow_run_id), "a process is left", 60)
    with holding(here.runs, DOCUMENT, holder="a test", owner="another"):
        pass
    assert run.manifest("train") is None
