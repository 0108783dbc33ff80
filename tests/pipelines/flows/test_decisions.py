"""Nights that wait for a person, are forced, come too late, start warm, or meet another one.

All run in this process. Where a night is suspended it belongs to a deployment that no worker
polls, and is taken up here, as a worker would after each decision.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flows import EntrypointType
from prefect.states import State

from infra.local.published_keys import COSMOS_KEY
from pipelines.approvals import approval
from pipelines.errors import UsageError
from pipelines.flows import alerts, retrain
from pipelines.flows.api import call
from pipelines.flows.retrain import daily_retrain
from pipelines.lease import holding
from pipelines.runs import Run
from serving_export import publish
from serving_export.control import DOCUMENT
from tests.pipelines.flows.support import (
    AS_OF,
    WARNS,
    Shop,
    ended,
    flow_run_of,
    shop_of_this_process,
)
from tests.support import wait_until

pytestmark = pytest.mark.slow

DAY = AS_OF.isoformat()
BEFORE = AS_OF - timedelta(days=1)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_of_this_process(tmp_path_factory.mktemp("shop")) as made:
        daily_retrain.to_deployment(
            "hyperrec", entrypoint_type=EntrypointType.MODULE_PATH, tags=[alerts.TAG]
        ).apply()
        yield made


@pytest.fixture(scope="module")
def active(here: Shop) -> Run:
    """A night that is published, and which nothing here replaces for good."""
    run = here.night("seed=1")
    state = ended(daily_retrain, here.form("seed=1", as_of=DAY))
    assert state.is_completed(), state
    return run


def is_active(here: Shop) -> str:
    found = here.place.control().active
    assert found is not None
    return str(found.version)


def taken_up(flow_run_id: str) -> Any:
    """Do a flow run of the deployment here; the state it is in after that."""
    with get_client(sync_client=True) as client:
        with suppress(Pause):  # which ends the process of a run that waits
            run_flow(daily_retrain, client.read_flow_run(flow_run_id), return_type="state")
        state = client.read_flow_run(flow_run_id).state
    assert state is not None
    return state


def waiting(here: Shop, seed: str) -> tuple[Run, str]:
    """A night that waits for approval, and its flow run's id."""
    run = here.night(seed, WARNS)
    flow_run_id = here.start("daily-retrain/hyperrec", here.form(seed, WARNS, as_of=DAY))
    state = taken_up(flow_run_id)
    assert paused(flow_run_id), state
    return run, flow_run_id


def paused(flow_run_id: str) -> State | None:
    """The state in which a flow run waited, even if it does no longer."""
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(flow_run_id))
    return next((state for state in states if state.is_paused()), None)


def test_a_declined_night_is_not_published(here: Shop, active: Run) -> None:
    run, flow_run_id = waiting(here, "seed=2")
    no = {"run_input": {"decision": "decline", "who": "Ann", "why": "too few users"}}
    assert here.call(f"/flow_runs/{flow_run_id}/resume", no)["status"] == "ACCEPT"
    state = taken_up(flow_run_id)
    assert state.is_cancelled(), state
    assert state.message == (
        f"Run {run.run_id} is not published, the active version stays: Ann declined (too few "
        "users); the flow promote publishes it all the same."
    )
    assert approval(run) is None
    assert run.manifest("export") is None
    assert is_active(here) == active.run_id


def test_a_night_that_nobody_decides_on_ends_with_a_sentence(here: Shop, active: Run) -> None:
    # As it is deployed, with less patience.
    (as_deployed,) = (
        each.model_dump(mode="json")
        for each in alerts.automations(None, runbook="")
        if each.name == "hyperrec-end-unanswered-runs"
    )
    as_deployed["trigger"]["within"] = 10
    with get_client(sync_client=True) as client:
        call(client, "POST", "/automations/", as_deployed)
    answered = here.start("daily-retrain/hyperrec", here.form("seed=3"))
    for state in (
        {"type": "PAUSED", "name": "Suspended"},
        {"type": "SCHEDULED", "name": "Resuming"},
    ):
        here.call(f"/flow_runs/{answered}/set_state", {"state": state, "force": True})
    run, flow_run_id = waiting(here, "seed=4")
    waited = paused(flow_run_id)
    assert waited is not None
    by_itself = waited.state_details.pause_timeout
    assert by_itself is not None
    assert by_itself > waited.timestamp + alerts.APPROVAL_WITHIN
    over = here.wait(flow_run_id, "FAILED", seconds=60)
    said = "Nobody approved or declined in time, so nothing is published"
    assert over["state"]["message"].startswith(said)
    assert run.manifest("export") is None
    assert here.flow_run(answered)["state_type"] == "SCHEDULED"
    assert is_active(here) == active.run_id


def test_an_older_night_is_refused_as_overtaken(here: Shop, active: Run) -> None:
    run = here.night("seed=6", day=BEFORE)
    state = ended(daily_retrain, here.form("seed=6", as_of=BEFORE.isoformat()))
    assert state.is_failed()
    assert state.name == "Refused"
    assert state.message.startswith(
        f"Run {run.run_id} is not published: version {active.run_id}, which is active, is of a "
        "later day; "
    )
    assert run.manifest("evaluate") is not None
    assert run.manifest("export") is None
    assert is_active(here) == active.run_id


def test_a_night_starts_warm_from_the_active_version(here: Shop, active: Run) -> None:
    later = AS_OF + timedelta(days=1)
    run = here.night("seed=7", f'warm_start="{active.run_id}"', day=later)
    form = here.form("seed=7", as_of=later.isoformat(), dry_run=True)
    del form["start"]
    state = ended(daily_retrain, form)
    assert state.is_completed(), state
    begun = f"Starting from the points of run {active.run_id}."

    def is_told() -> bool:
        return any(each["message"] == begun for each in here.log(flow_run_of(state)))

    wait_until(is_told, "training did not start warm")
    assert any(name.startswith("train/") for name in run.require("evaluate").inputs)


def test_of_two_nights_at_a_time_one_is_told_who_the_other_is(
    here: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, states = copy_context(), []

    def do_stage(stage: str, run: Run, **_: Any) -> None:
        # Another flow run begins, as on another machine, while this one is at work.
        def begin() -> None:
            states.append(outside.run(ended, daily_retrain, here.form("seed=9", as_of=DAY)))

        other = threading.Thread(target=begin)
        other.start()
        other.join()
        raise UsageError("Enough.")

    monkeypatch.setattr(retrain, "do_stage", do_stage)
    here.night("seed=8")
    first = ended(daily_retrain, here.form("seed=8", as_of=BEFORE.isoformat()))
    assert first.message == "Enough."
    (second,) = states
    assert second.is_failed()
    assert second.message.startswith(f"{BEFORE} retrain on ")
    assert "wait for its end or cancel it" in second.message
    with holding(here.runs, DOCUMENT, holder="a test", owner="another"):
        pass  # the first one has given it back


def test_a_forced_night_is_published_and_the_reason_kept(here: Shop, active: Run) -> None:
    run = here.night("seed=10", WARNS, day=BEFORE)
    force = {"force": True, "who": "Eve", "why": "the sale ends"}
    form = here.form("seed=10", WARNS, as_of=BEFORE.isoformat(), **force)
    state = ended(daily_retrain, form)
    assert state.is_completed(), state
    assert is_active(here) == run.run_id  # although it warns, and is of an earlier day
    given = approval(run)
    assert given is not None
    assert (given.who, given.why, given.force) == ("Eve", "the sale ends", True)
    (event, *_) = publish.history(here.place.cosmos, COSMOS_KEY)
    assert event.version == run.run_id
    assert event.why == "the sale ends; forced by Eve: the sale ends"
