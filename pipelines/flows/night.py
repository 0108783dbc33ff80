"""Beginning a night: which day it is of, what its training starts from, and which run that makes.

A flow run that is resumed, after a kill, an approval or on another day, goes on with the run that
it began: the run's id is kept as a label of the flow run.
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

from prefect import task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from pipelines.errors import UsageError
from pipelines.flows.forms import BackfillForm, RetrainForm
from pipelines.flows.tasks import AGAIN, TRIES_AGAIN
from pipelines.profile import load_profile
from pipelines.runs import Run, last_published
from pipelines.settings import cosmos_account_if_any
from pipelines.stages.active import control_of
from pipelines.start import open_run, runs_url, start_run, warm_start_run
from pipelines.storage import Storage, open_storage
from serving_export.slots import Control

log = logging.getLogger(__name__)

_LABEL = "hyperrec.run_id"


def night_of(form: RetrainForm) -> date:
    """The last day whose interactions count: the form's, or the one before the scheduled day."""
    if form.as_of is not None:
        return form.as_of
    scheduled = flow_run.scheduled_start_time or datetime.now(UTC)
    return scheduled.astimezone(UTC).date() - timedelta(days=1)


def begin(form: RetrainForm) -> Run:
    """The run that a form asks for: begun, or found as this flow run left it.

    Raises:
        UsageError: as `start_run`.
        StorageUnavailableError, UnavailableError: a store was away.
    """
    place = form.runs or runs_url(form.source)
    run = _left_behind(place)
    if run is None:
        begun = _begin.with_options(retries=TRIES_AGAIN, **AGAIN)
        run_id = begun(form.model_dump(mode="json"), night_of(form).isoformat(), place)
        run = open_run(run_id, place)
        _remember(run_id)
    return run


@task(name="begin", task_run_name="begin {as_of}", timeout_seconds=1800, tags=["begin"])
def _begin(values: dict[str, object], as_of: str, runs: str) -> str:
    form, day = RetrainForm.model_validate(values), date.fromisoformat(as_of)
    start = _start(form, open_storage(runs), day)
    run = run_of(form, day, runs, start=start)
    log.info("This is run %s in %s.", run.run_id, run.storage.url)
    return run.run_id


def run_of(form: RetrainForm | BackfillForm, day: date, runs: str, *, start: str | None) -> Run:
    """The run of one night of a form, whose training starts from another run, or from nothing."""
    chained = [] if start is None else [f'warm_start="{start}"']
    return start_run(
        source=form.source,
        as_of=day,
        profile=form.profile,
        overrides=[*form.settings, *chained],
        runs=runs,
    )


def _start(form: RetrainForm, runs: Storage, day: date) -> str | None:
    """Id of the run that training starts from; None for a cold start."""
    profile = load_profile(form.profile, form.settings)
    if form.start == "cold" or profile.warm_start is not None:
        return None
    if form.start == "run":
        return form.start_run
    found = _published_before(runs, day)
    if found is None:
        log.info("Training starts cold: nothing of a day before %s is published.", day)
        return None
    try:
        warm_start_run(runs, profile.model_copy(update={"warm_start": found}))
    except UsageError as error:
        log.warning("Training starts cold: %s", error)
        return None
    log.info("Training starts from run %s.", found)
    return found


def _published_before(runs: Storage, day: date) -> str | None:
    """The run of the active version, or of the newest other one that is of an earlier day.

    A night that is repeated finds itself active, and starts from the version before as it did.
    """
    account = cosmos_account_if_any()
    control = control_of(account) if account else Control()
    for version in (control.active, control.previous):
        if version is not None and version.run_id[:10] < day.isoformat():
            return version.run_id
    return last_published(runs, day)


def _left_behind(runs: str) -> Run | None:
    """The run that an earlier try at this flow run has preprocessed; its input may change since."""
    context = FlowRunContext.get()
    labels = context.flow_run.labels if context is not None and context.flow_run is not None else {}
    run_id = labels.get(_LABEL)
    if not isinstance(run_id, str):
        return None
    run = open_run(run_id, runs)
    if run.manifest("preprocess") is None:
        return None
    log.info("Going on with run %s in %s.", run_id, run.storage.url)
    return run


def _remember(run_id: str) -> None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(context.flow_run.id, {_LABEL: run_id})
