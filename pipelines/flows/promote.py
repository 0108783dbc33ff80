"""Publishing a judged run by hand: approving of one that waits, or forcing one that was refused."""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.active import require_active
from pipelines.flows.approval import record
from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.forms import PromoteForm
from pipelines.flows.guard import only_one
from pipelines.flows.operate import operate, run_name
from pipelines.flows.tasks import do_stage
from pipelines.start import open_run


@flow(
    name="promote",
    flow_run_name=run_name(PromoteForm, lambda form: f"{form.run_id} promote", "promote"),
    # `operate` does it, and tells a mistake in one sentence.
    validate_parameters=False,
)
def promote(form: PromoteForm) -> str | State[BaseException]:
    """Approve of a judged run and publish it; the version that is active now becomes the previous.

    Args:
        form: which run, why, and who says so.

    Returns:
        The run id.
    """
    return operate(PromoteForm, form, _promote)


def _promote(form: PromoteForm) -> str:
    run = open_run(form.run_id, form.runs)
    with only_one(run.storage):
        publish.of_stage(run, "evaluate")
        record(run, who=form.who, why=form.why, force=form.force)
        do_stage("export", run, why=form.why)
    require_active(run)
    publish.of_stage(run, "export")
    lines = [f"Promoted by {markdown.escaped(form.who)}: {markdown.escaped(form.why)}"]
    publish.as_markdown("summary", markdown.summary(f"{run.run_id} is published", run, lines))
    return run.run_id
