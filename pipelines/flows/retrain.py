"""A night: preprocess, train, evaluate, export, and an approval in between where a gate warns.

Resuming rests on the manifests in the storage of runs, not on Prefect's cache, so the flow may be
run again anywhere, by hand or by a server, whatever became of the first try.
"""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

import logging

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.errors import ApprovalNeededError, GateRefusedError, UsageError
from pipelines.flows.active import not_active
from pipelines.flows.approval import ask, record
from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.forms import RetrainForm
from pipelines.flows.guard import only_one
from pipelines.flows.night import begin, night_of
from pipelines.flows.operate import operate, run_name
from pipelines.flows.tasks import do_stage
from pipelines.runs import Run
from pipelines.stages.export import price_export
from pipelines.start import runs_url
from pipelines.storage import open_storage

log = logging.getLogger(__name__)


def _words(form: RetrainForm) -> str:
    return f"{night_of(form)} retrain{' (dry run)' if form.dry_run else ''}"


@flow(
    name="daily-retrain",
    flow_run_name=run_name(RetrainForm, _words, "retrain"),
    # `operate` does it, and tells a mistake in one sentence.
    validate_parameters=False,
)
def daily_retrain(form: RetrainForm) -> str | State[BaseException]:
    """Retrain on the interactions up to a day and publish the result when it passes the gates.

    Args:
        form: what to do.

    Returns:
        The run id.
    """
    return operate(RetrainForm, form, _retrain)


def _retrain(form: RetrainForm) -> str:
    runs = open_storage(form.runs or runs_url(form.source))
    needed = None
    with only_one(runs) as lease:
        run = begin(form)
        do_stage("preprocess", run)
        publish.of_stage(run, "preprocess")
        lease.check()
        do_stage("train", run, on_gpu=form.train_on == "gpu")
        publish.of_stage(run, "train")
        lease.check()
        do_stage("evaluate", run)
        publish.of_stage(run, "evaluate")
        if form.dry_run:
            _tell(run, f"{night_of(form)}: a dry run", [_price(run)])
            return run.run_id
        if form.force and form.who is not None and form.why is not None:
            record(run, who=form.who, why=form.why, force=True)
        lease.check()
        try:
            do_stage("export", run, why=form.why)
        except ApprovalNeededError as error:
            needed = error
    # Not while the lease is held: an approval takes hours.
    if needed is not None:
        ask(run, needed)
        with only_one(runs):
            do_stage("export", run, why=form.why)
    publish.of_stage(run, "export")
    if (why := not_active(run)) is not None:
        log.warning("%s", why)
    _tell(run, f"{night_of(form)} is done", [markdown.escaped(why or "It is active.")])
    return run.run_id


def _price(run: Run) -> str:
    try:
        return markdown.priced(run.run_id, price_export(run))
    except (GateRefusedError, ApprovalNeededError, UsageError) as error:
        return markdown.escaped(error)


def _tell(run: Run, title: str, lines: list[str]) -> None:
    publish.as_markdown("summary", markdown.summary(title, run, lines))
