"""The stage evaluate alone: a trained run judged, and nothing published."""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.forms import EvaluateForm
from pipelines.flows.operate import operate, run_name
from pipelines.flows.tasks import do_stage
from pipelines.start import open_run


@flow(
    name="evaluate-only",
    flow_run_name=run_name(EvaluateForm, lambda form: f"{form.run_id} evaluate", "evaluate"),
    # `operate` does it, and tells a mistake in one sentence.
    validate_parameters=False,
)
def evaluate_only(form: EvaluateForm) -> str | State[BaseException]:
    """Judge the trained model of a run, or show how it was judged.

    Args:
        form: which run.

    Returns:
        The run id.
    """
    return operate(EvaluateForm, form, _evaluate)


def _evaluate(form: EvaluateForm) -> str:
    run = open_run(form.run_id, form.runs)
    do_stage("evaluate", run)
    publish.of_stage(run, "evaluate")
    publish.as_markdown("summary", markdown.summary(f"{run.run_id} is judged", run, []))
    return run.run_id
