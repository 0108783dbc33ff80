"""Many nights, one after the other.

Nights go from the oldest to the newest. What a night has done stands in its manifests, so the flow
may be run again after anything: it passes over the nights that are done and goes on in the middle
of the one that is not.
"""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.errors import PipelineError
from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.forms import BackfillForm
from pipelines.flows.guard import only_one
from pipelines.flows.night import run_of
from pipelines.flows.operate import operate, run_name
from pipelines.flows.tasks import do_stage
from pipelines.preprocess.session import LARGE_BYTES, session
from pipelines.runs import STAGES, Run, StageName
from pipelines.settings import Environment
from pipelines.start import runs_url
from pipelines.storage import open_storage
from serving_export.errors import ExportError


@flow(
    name="backfill",
    flow_run_name=run_name(
        BackfillForm, lambda form: f"{form.first} to {form.last} backfill", "backfill"
    ),
    # `operate` does it, and tells a mistake in one sentence.
    validate_parameters=False,
)
def backfill(form: BackfillForm) -> list[str] | State[BaseException]:
    """Do the nights of a range of dates, in order.

    Args:
        form: which nights, and up to which stage.

    Returns:
        The run ids, in order.
    """
    return operate(BackfillForm, form, _backfill)


def _backfill(form: BackfillForm) -> list[str]:
    done: list[Run] = []
    runs = form.runs or runs_url(form.source)
    with only_one(open_storage(runs)) as lease, _spark(form.until):
        for day in (
            form.first + timedelta(days=n) for n in range((form.last - form.first).days + 1)
        ):
            run = run_of(form, day, runs, start=done[-1].run_id if form.warm and done else None)
            for stage in STAGES[: STAGES.index(form.until) + 1]:
                lease.check()
                try:
                    do_stage(stage, run, why=form.why)
                except (PipelineError, ExportError) as error:
                    error.args = (f"Night {day}: {error}", *error.args[1:])
                    raise
            done.append(run)
            publish.as_markdown("summary", _told(form, done))
    return [run.run_id for run in done]


def _spark(until: StageName) -> AbstractContextManager[object]:
    """One Spark session for all nights, where no stage wants its memory in between."""
    if until == "preprocess" and Environment().hyperrec_spark != "submit":
        return session(LARGE_BYTES)
    return nullcontext()


HEADING = ("night", "run", "interactions", "HR@10", "NDCG@10", "gates")


def row(run: Run) -> tuple[str, ...]:
    """A night under `HEADING`."""
    interactions = f"{run.require('preprocess').metrics['interactions']:,}"
    judged = run.manifest("evaluate")
    metrics = ["-", "-", "-"] if judged is None else markdown.headline(judged.metrics)
    return (run.record.as_of.isoformat(), run.run_id, interactions, *metrics)


def _told(form: BackfillForm, done: Sequence[Run]) -> str:
    """How far the back-fill is, a line a night."""
    return "\n\n".join(
        [
            f"# Backfill {form.first} to {form.last}",
            f"{len(done)} nights are done, up to the stage {form.until}.",
            markdown.table(HEADING, map(row, done)),
        ]
    )
