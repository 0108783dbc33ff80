"""The stage export alone, of a run that passed its gates, or what it would cost."""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.active import require_active
from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.forms import ExportForm
from pipelines.flows.guard import only_one
from pipelines.flows.operate import operate, run_name
from pipelines.flows.tasks import do_stage
from pipelines.stages.export import price_export
from pipelines.start import open_run


def _words(form: ExportForm) -> str:
    return f"{form.run_id} export{' (dry run)' if form.dry_run else ''}"


@flow(
    name="export-only",
    flow_run_name=run_name(ExportForm, _words, "export"),
    # `operate` does it, and tells a mistake in one sentence.
    validate_parameters=False,
)
def export_only(form: ExportForm) -> str | State[BaseException]:
    """Publish a judged run that passed its gates, or only say what that would cost.

    Args:
        form: which run, and whether to publish it.

    Returns:
        The run id.
    """
    return operate(ExportForm, form, _export)


def _export(form: ExportForm) -> str:
    run = open_run(form.run_id, form.runs)
    if form.dry_run:
        title, lines = "A dry run", [markdown.priced(run.run_id, price_export(run))]
    else:
        with only_one(run.storage):
            do_stage("export", run, why=form.why)
        require_active(run)
        publish.of_stage(run, "export")
        title, lines = f"{run.run_id} is published", []
    publish.as_markdown("summary", markdown.summary(title, run, lines))
    return run.run_id
