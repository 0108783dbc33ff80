"""One stage of a run as a flow run of its own, on a worker of another pool, such as one with a GPU.

Another flow run asks for it and waits (`tasks.do_stage`); that one holds the lease.
"""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.artefacts import publish
from pipelines.flows.forms import StageForm
from pipelines.flows.operate import operate, run_name
from pipelines.flows.tasks import do_stage
from pipelines.start import open_run


@flow(
    name="stage",
    flow_run_name=run_name(StageForm, lambda form: f"{form.run_id} {form.stage}", "stage"),
    # `operate` does it, and tells a mistake in one sentence.
    validate_parameters=False,
)
def stage(form: StageForm) -> State[BaseException] | None:
    """Do one stage of a run, unless it is done.

    Args:
        form: which stage of which run.
    """
    return operate(StageForm, form, _stage)


def _stage(form: StageForm) -> None:
    run = open_run(form.run_id, form.runs)
    do_stage(form.stage, run)
    publish.of_stage(run, form.stage)
