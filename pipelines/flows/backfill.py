"""Many nights, one after the other, as a Prefect flow.

Nights go from the oldest to the newest. What a night has done stands in its manifests, so the flow
may be run again after anything: it passes over the nights that are done and goes on in the middle
of the one that is not.
"""

# No `from __future__ import annotations` here: a served flow is loaded from its file, where Prefect
# cannot look up the types of parameters that stand as text.

from contextlib import AbstractContextManager, nullcontext
from datetime import date, timedelta
from typing import Literal

from prefect import flow

from pipelines.errors import PipelineError, UsageError
from pipelines.flows.retrain import stage_task
from pipelines.preprocess.session import LARGE_BYTES, session
from pipelines.runs import STAGES, Run, StageName
from pipelines.settings import Environment
from pipelines.start import start_run


@flow(name="backfill", flow_run_name="{first} to {last} backfill")
def backfill(
    source: str,
    first: date,
    last: date,
    until: Literal["preprocess", "train", "evaluate", "export"] = "evaluate",
    warm: bool = False,
    profile: str = "default",
    overrides: list[str] | None = None,
    runs: str | None = None,
) -> list[str]:
    """Do the nights of a range of dates, in order.

    Args:
        source: URL of the raw layout, such as az://raw.
        first: the first night's last day whose interactions count.
        last: the last night's.
        until: the last stage of each night; nothing is published unless it is export.
        warm: each night's training starts from the points of the night before.
        profile: name of a profile, or the path of a .toml file.
        overrides: single settings, section.setting=value.
        runs: URL under which runs are kept.

    Returns:
        The run ids, in order.

    Raises:
        UsageError: the range is empty, or there is no input for a night.
        PipelineError: a night failed; names it.
    """
    if last < first:
        raise UsageError(f"There is no night from {first} to {last}: the first comes after it.")
    done: list[Run] = []
    with _spark(until):
        for day in (first + timedelta(days=number) for number in range((last - first).days + 1)):
            chained = [f'warm_start="{done[-1].run_id}"'] if warm and done else []
            run = start_run(
                source=source,
                as_of=day,
                profile=profile,
                overrides=[*(overrides or []), *chained],
                runs=runs,
            )
            for stage in stages(until):
                try:
                    stage_task(stage, run.storage.url, run.run_id)
                except PipelineError as error:
                    error.args = (f"Night {day}: {error}", *error.args[1:])
                    raise
            done.append(run)
    return [run.run_id for run in done]


def _spark(until: StageName) -> AbstractContextManager[object]:
    """One Spark session for all nights, where no stage wants its memory in between."""
    if until == "preprocess" and Environment().hyperrec_spark != "submit":
        return session(LARGE_BYTES)
    return nullcontext()


def stages(until: StageName) -> tuple[StageName, ...]:
    """The stages of a night up to one."""
    return STAGES[: STAGES.index(until) + 1]
