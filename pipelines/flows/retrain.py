"""The main job as a Prefect flow: preprocess, train, evaluate, export.

Each stage is a task. Resuming rests on the manifests in the storage of runs, not on Prefect's
cache, so the flow may be run again anywhere, by hand or by a server, whatever became of the first
try.
"""

# No `from __future__ import annotations` here: a served flow is loaded from its file, where Prefect
# cannot look up the types of parameters that stand as text.

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from pipelines.errors import StorageUnavailableError
from pipelines.runs import Manifest, Run, StageName
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.export import run_export
from pipelines.stages.preprocess import run_preprocess
from pipelines.stages.train import run_train
from pipelines.start import open_run, start_run
from serving_export.errors import UnavailableError

STAGE_FUNCTIONS: dict[StageName, Callable[[Run], Manifest]] = {
    "preprocess": run_preprocess,
    "train": run_train,
    "evaluate": run_evaluate,
    "export": run_export,
}


def _is_passing(_task: Any, _run: Any, state: Any) -> bool:
    """Whether trying once more may help: a store was away for longer than its own patience."""
    try:
        state.result()
    except (StorageUnavailableError, UnavailableError):
        return True
    except Exception:
        return False
    return False


@task(
    task_run_name="{stage}",
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=_is_passing,
    cache_policy=NO_CACHE,
)
def stage_task(stage: StageName, runs: str, run_id: str) -> None:
    """Do one stage of a run unless it is done."""
    STAGE_FUNCTIONS[stage](open_run(run_id, runs))


@flow(name="retrain", flow_run_name="{as_of} retrain")
def retrain(
    source: str,
    as_of: date | None = None,
    profile: str = "default",
    overrides: list[str] | None = None,
    runs: str | None = None,
) -> str:
    """Retrain on the interactions up to a day and publish the result when it passes the gates.

    Args:
        source: URL of the raw layout, such as az://raw.
        as_of: the last day whose interactions count; by default the day before the scheduled one,
            so that a late or repeated run still does the right night.
        profile: name of a profile, or the path of a .toml file.
        overrides: single settings, section.setting=value.
        runs: URL under which runs are kept.

    Returns:
        The run id.
    """
    scheduled = flow_run.scheduled_start_time or datetime.now(UTC)
    run = start_run(
        source=source,
        as_of=as_of or scheduled.date() - timedelta(days=1),
        profile=profile,
        overrides=overrides,
        runs=runs,
    )
    for stage in STAGE_FUNCTIONS:
        stage_task(stage, run.storage.url, run.run_id)
    return run.run_id
