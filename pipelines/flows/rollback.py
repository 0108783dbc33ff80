"""Going back: the previous version is active again, at once, also while a run is at work."""

# No `from __future__ import annotations` here: Prefect reads the form's type when it loads a flow.

from prefect import flow
from prefect.client.schemas.objects import State

from pipelines.flows.artefacts import markdown, publish
from pipelines.flows.forms import RollbackForm
from pipelines.flows.operate import operate
from pipelines.settings import cosmos_account, patience_seconds
from serving_export import publish as versions


# `operate` validates, and tells a mistake in one sentence.
@flow(name="rollback", flow_run_name="rollback", validate_parameters=False)
def rollback(form: RollbackForm) -> str | State[BaseException]:
    """Make the previous version active again; a second time undoes the first.

    Args:
        form: why, and who says so.

    Returns:
        The version that is active now.
    """
    return operate(RollbackForm, form, _rollback)


def _rollback(form: RollbackForm) -> str:
    account = cosmos_account()
    control = versions.rollback(
        account.endpoint,
        account.credential,
        who=form.who,
        why=form.why,
        patience=patience_seconds(),
    )
    publish.as_markdown("summary", markdown.rolled_back(control, who=form.who, why=form.why))
    return "" if control.active is None else control.active.version
