"""A stage as a Prefect task: tried again where that may help, timed, and seen.

Whether a stage is done is what its manifest says, not Prefect's cache, so a task may be tried
anywhere and at any time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment
from prefect.states import Cancelling
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import Task, exponential_backoff

from infra.local.prefect_services import GPU_POOL
from pipelines.errors import (
    ApprovalNeededError,
    PipelineError,
    SparkError,
    StorageUnavailableError,
    UsageError,
    WorkerLostError,
)
from pipelines.flows.bars import shown_bars
from pipelines.runs import Manifest, Run, StageName
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.export import run_export
from pipelines.stages.preprocess import run_preprocess
from pipelines.stages.train import run_train
from pipelines.start import open_run
from serving_export.errors import HeldByAnotherError, UnavailableError

log = logging.getLogger(__name__)

GPU_DEPLOYMENT = f"stage/{GPU_POOL}"

_PASSING = (
    StorageUnavailableError,
    UnavailableError,
    HeldByAnotherError,
    SparkError,
    WorkerLostError,
)
TRIES_AGAIN = 3
_HOURS: dict[StageName, int] = {"preprocess": 6, "train": 24, "evaluate": 3, "export": 12}
_POLL_SECONDS = 5.0

_FUNCTIONS: dict[StageName, Callable[[Run], Manifest]] = {
    "preprocess": run_preprocess,
    "train": run_train,
    "evaluate": run_evaluate,
}


def is_passing(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether trying once more may help, as after a store was away; never a mistake, nor a gate."""
    try:
        state.result()
    except _PASSING:
        return True
    except BaseException:  # whatever else it was is not ours to try again
        return False
    return False


AGAIN: dict[str, Any] = {
    "retry_delay_seconds": exponential_backoff(5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_passing,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""Options of a task whose work is its own record of what is done, beside how often it tries."""


@task(task_run_name="{stage}")
def _stage(stage: StageName, runs: str, run_id: str, why: str | None) -> ApprovalNeededError | None:
    run = open_run(run_id, runs)
    try:
        with shown_bars(stage):
            if stage == "export":
                run_export(run, why=why)
            else:
                _FUNCTIONS[stage](run)
    except ApprovalNeededError as needed:
        # A question is no failure, and should not look like one.
        return needed
    return None


@task(task_run_name="{stage} on a GPU")
def _stage_elsewhere(stage: StageName, runs: str, run_id: str) -> None:
    if open_run(run_id, runs).manifest(stage) is not None:
        log.info("Stage %s of run %s is done already.", stage, run_id)
        return
    with get_client(sync_client=True) as client:
        other = _asked_for(client, stage, runs, run_id)
        log.info("Waiting for %s, a run of %s.", other.name, GPU_DEPLOYMENT)
        state = _awaited(client, other)
    if state.is_crashed():
        raise WorkerLostError(
            f"The worker that did stage {stage} of run {run_id} was lost ({other.name}); give the "
            "run again, which resumes."
        )
    if not state.is_completed():
        said = state.message or state.name
        raise PipelineError(f"Stage {stage} of run {run_id} failed in {other.name}: {said}")


def do_stage(stage: StageName, run: Run, *, why: str | None = None, on_gpu: bool = False) -> None:
    """Do one stage of a run as a task, unless it is done.

    Args:
        stage: which.
        run: the run.
        why: the reason of whoever publishes, for the stage export.
        on_gpu: on a worker of another pool, by the deployment `stage/hyperrec-gpu`.

    Raises:
        PipelineError, ExportError: as the stage.
    """
    chosen: Task[..., Any] = _stage_elsewhere if on_gpu else _stage
    words = (stage, run.storage.url, run.run_id)
    configured: Callable[..., ApprovalNeededError | None] = chosen.with_options(
        # At a terminal a person gives the command again, and should be told soon.
        retries=TRIES_AGAIN if deployment.id else 1,
        timeout_seconds=3600 * _HOURS[stage],
        tags=["stage", stage, *(["gpu"] if on_gpu else [])],
        **AGAIN,
    )
    try:
        needed = configured(*words, *([] if on_gpu else [why]))
    except TaskRunTimeoutError as error:
        raise PipelineError(
            f"Stage {stage} of run {run.run_id} was ended after {_HOURS[stage]} hours; look at its "
            "log for what it waited for, and give the run again, which resumes."
        ) from error
    if needed is not None:
        raise needed


def _asked_for(client: SyncPrefectClient, stage: StageName, runs: str, run_id: str) -> FlowRun:
    """A flow run that does the stage: one that is on its way already, or a new one."""
    form = {"runs": runs, "run_id": run_id, "stage": stage}
    for number in range(1, 1000):
        try:
            found = run_deployment(
                GPU_DEPLOYMENT,
                parameters={"form": form},
                flow_run_name=f"{run_id} {stage}",
                timeout=0,
                idempotency_key=f"{run_id}-{stage}-{number}",
            )
        except ObjectNotFound as error:
            raise UsageError(
                f"There is no deployment {GPU_DEPLOYMENT}, which trains on a GPU: register it with "
                "`hyperrec deploy`, or train here (train_on: here)."
            ) from error
        assert isinstance(found, FlowRun)  # noqa: S101  a coroutine is for callers inside a loop
        state = client.read_flow_run(found.id).state
        # What has ended was an earlier try's, without the manifest.
        if state is None or not state.is_final():
            return found
    raise PipelineError(f"Stage {stage} of run {run_id} was tried too often; look at its runs.")


def _awaited(client: SyncPrefectClient, other: FlowRun) -> State[Any]:
    """The state in which another flow run ends; it is cancelled when this one is."""
    try:
        while True:
            state = client.read_flow_run(other.id).state
            if state is not None and state.is_final():
                return state
            time.sleep(_POLL_SECONDS)
    except BaseException:
        client.set_flow_run_state(other.id, Cancelling(message="Who waited for it has ended."))
        raise
