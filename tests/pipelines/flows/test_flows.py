"""Flows against a Prefect server: what they refuse, do, show, and how they end.

Most run in this process, as `hyperrec run` runs them. Once a worker does a whole night, which needs
an approval and trains on another worker, as from the UI.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from prefect.flows import EntrypointType

from pipelines.approvals import approval
from pipelines.flows.evaluate_only import evaluate_only
from pipelines.flows.export_only import export_only
from pipelines.flows.promote import promote
from pipelines.flows.retrain import daily_retrain
from pipelines.flows.rollback import rollback
from pipelines.flows.stage import stage
from pipelines.lease import holding
from pipelines.runs import STAGES, Run
from serving_export.control import DOCUMENT
from tests.pipelines.flows.support import (
    AS_OF,
    POOL,
    WARNS,
    Shop,
    ended,
    flow_run_of,
    shop_of_this_process,
)
from tests.pipelines.flows.support import worker as at_work
from tests.support import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_of_this_process(tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture(scope="module")
def published(here: Shop) -> tuple[Run, str]:
    """A night that went well, and its flow run's id."""
    run = here.night("seed=3")
    state = ended(daily_retrain, here.form("seed=3", as_of=AS_OF.isoformat()))
    assert state.is_completed(), state
    return run, flow_run_of(state)


def test_a_night_is_done_and_shown(here: Shop, published: tuple[Run, str]) -> None:
    run, flow_run_id = published
    assert all(run.manifest(name) for name in STAGES)
    active = here.place.control().active
    assert active is not None
    assert active.version == run.run_id
    assert here.flow_run(flow_run_id)["name"] == f"{AS_OF} retrain"

    shown = here.artefacts(flow_run_id)
    assert shown.keys() >= {"data-report", "training", "metrics", "gates", "export", "summary"}
    assert shown["training"][0]["data"].count("](data:image/png;base64,") == 2
    assert shown["summary"][0]["type"] == "markdown"
    assert [shown[f"{name}-progress"][0]["data"] for name in STAGES] == [100.0] * 4
    assert "epoch 3 of 3" in shown["train-progress"][0]["description"]
    assert "RU" in shown["export-progress"][0]["description"]


def test_the_log_of_a_night_has_the_lines_of_its_stages(
    here: Shop, published: tuple[Run, str]
) -> None:
    def lines() -> list[str]:
        return [each["message"] for each in here.log(published[1])]

    wait_until(lambda: any("is published" in x or "Epoch 3/3" in x for x in lines()), "no log")
    named = {each["name"].partition(".")[0] for each in here.log(published[1])}
    assert "pipelines" in named
    assert any(each["task_run_id"] for each in here.log(published[1]))


def test_the_same_night_again_is_passed_over(here: Shop, published: tuple[Run, str]) -> None:
    before = {name: published[0].require(name).attempt for name in STAGES}
    state = ended(daily_retrain, here.form("seed=3", as_of=AS_OF.isoformat()))
    assert state.is_completed()
    assert {name: published[0].require(name).attempt for name in STAGES} == before


def test_a_second_run_is_refused_while_one_is_at_work(here: Shop) -> None:
    with holding(here.runs, DOCUMENT, holder="2024-01-08 backfill", owner="another"):
        state = ended(daily_retrain, here.form("seed=4", as_of=AS_OF.isoformat()))
    assert state.is_failed()
    assert state.message.startswith("2024-01-08 backfill on ")
    assert "wait for its end or cancel it" in state.message


def test_a_failure_is_one_sentence_without_a_traceback(here: Shop) -> None:
    state = ended(evaluate_only, {"run_id": "2024-01-09-0123456789", "runs": here.runs.url})
    assert state.is_failed()
    assert state.message.startswith("There is no run 2024-01-09-0123456789 in file://")
    assert state.message in here.artefacts(flow_run_of(state))["summary"][0]["data"].replace(
        "\\", ""
    )
    assert not any("Traceback" in each["message"] for each in here.log(flow_run_of(state)))

    state = ended(evaluate_only, {"run_id": "yesterday's"})
    assert state.is_failed()
    assert "The field run_id of the form" in state.message


def test_a_dry_run_publishes_nothing_and_says_what_it_would_cost(here: Shop) -> None:
    before = here.place.control()
    run = here.night("seed=5")
    form = here.form("seed=5", as_of=AS_OF.isoformat(), dry_run=True)
    state = ended(daily_retrain, form)
    assert state.is_completed()
    assert here.flow_run(flow_run_of(state))["name"] == f"{AS_OF} retrain (dry run)"
    summary = here.artefacts(flow_run_of(state))["summary"][0]["data"]
    assert f"Publishing {run.run_id} would write 60 documents" in summary
    assert run.manifest("export") is None
    assert here.place.control() == before


def test_who_forces_and_promotes_and_rolls_back_is_in_the_history(
    here: Shop, published: tuple[Run, str]
) -> None:
    first = here.place.control().active
    run = here.night("seed=6", WARNS)
    refused = ended(daily_retrain, here.form("seed=6", WARNS, as_of=AS_OF.isoformat()))
    assert refused.name == "Refused"  # here is nobody who could resume it
    assert here.place.control().active == first

    cheap = ended(export_only, {"run_id": run.run_id, "runs": here.runs.url})
    assert cheap.is_completed()
    asked = {"run_id": run.run_id, "runs": here.runs.url, "who": "Ann", "why": "looked at it"}
    assert ended(promote, asked).is_completed()
    active = here.place.control().active
    assert active is not None
    assert active.version == run.run_id
    given = approval(run)
    assert given is not None
    assert (given.who, given.why, given.force) == ("Ann", "looked at it", False)

    assert ended(rollback, {"who": "Bob", "why": "odd shoes"}).is_completed()
    after = here.place.control().active
    assert after is not None
    assert first is not None
    assert after.version == first.version
    # Published once, it is not published again by the way.
    again = ended(promote, asked)
    assert again.is_failed()
    assert "or the flow of that name, makes it active again" in again.message


@pytest.fixture(scope="module")
def worker(here: Shop) -> Iterator[None]:
    """A process worker of two deployments, one of which stands for a machine with a GPU."""
    here.call("/work_pools/", {"name": POOL, "type": "process"})
    for flow, name in ((daily_retrain, "hyperrec"), (stage, "hyperrec-gpu")):
        flow.to_deployment(
            name,
            entrypoint_type=EntrypointType.MODULE_PATH,
            concurrency_limit=1 if flow is daily_retrain else None,
        ).apply(work_pool_name=POOL)
    with at_work(here):
        yield


def test_the_api_refuses_what_the_form_does_not_allow(here: Shop, worker: None) -> None:
    found = here.call("/deployments/name/daily-retrain/hyperrec")
    for change, said in (
        ({"force": True}, "'why' is a required property"),
        ({"profile": "/etc/passwd"}, "is not one of"),
    ):
        body = {"parameters": {"form": here.form() | change}}
        answer = here.answer(f"/deployments/{found['id']}/create_flow_run", body)
        assert answer.status_code == 409
        assert said in answer.text


def test_a_night_from_the_server_waits_for_approval_and_is_published(
    here: Shop, published: tuple[Run, str], worker: None
) -> None:
    run = here.night("seed=7", WARNS)
    # A run that is late, and names no day: it is the night before the scheduled day.
    form = here.form("seed=7", WARNS, train_on="gpu")
    late = datetime(2024, 1, 10, 2, tzinfo=UTC)
    flow_run_id = here.start("daily-retrain/hyperrec", form, at=late)
    waiting = here.wait(flow_run_id, "PAUSED", "FAILED", "COMPLETED", "CRASHED")
    assert waiting["state_type"] == "PAUSED", waiting["state"]
    assert waiting["name"] == f"{AS_OF} retrain"
    assert run.manifest("evaluate") is not None
    assert run.manifest("export") is None
    # Neither the lease nor a process is held meanwhile.
    with holding(here.runs, DOCUMENT, holder="a test", owner="another"):
        pass

    bad = {"run_input": {"decision": "perhaps", "who": "Ann", "why": "looked at it"}}
    answer = here.answer(f"/flow_runs/{flow_run_id}/resume", bad)
    assert answer.json()["status"] == "REJECT", answer.text
    good = {"run_input": {"decision": "approve", "who": "Ann", "why": "looked at it"}}
    assert here.call(f"/flow_runs/{flow_run_id}/resume", good)["status"] == "ACCEPT"
    over = here.wait(flow_run_id, "FAILED", "COMPLETED", "CRASHED")
    assert over["state_type"] == "COMPLETED", over["state"]

    active = here.place.control().active
    assert active is not None
    assert active.version == run.run_id
    given = approval(run)
    assert given is not None
    assert (given.who, given.why) == ("Ann", "looked at it")
    shown = here.artefacts(flow_run_id)
    assert [len(shown[key]) for key in ("data-report", "training", "metrics", "gates")] == [1] * 4
    assert len(shown["approval"]) >= 1
