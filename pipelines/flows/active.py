"""Whether a run that is exported is what serves now, as flows and commands tell it.

A stage that is done is passed over, so a run that was published once, and replaced or rolled back
since, is not published by giving its export again.
"""

from __future__ import annotations

from pipelines.errors import PipelineError
from pipelines.runs import Run
from pipelines.settings import cosmos_account, patience_seconds
from serving_export import publish


def require_active(run: Run) -> None:
    """Raise `PipelineError` where `not_active` says why.

    Raises:
        UnavailableError, CredentialsError: Cosmos DB does not answer, or refuses.
    """
    if (why := not_active(run)) is not None:
        raise PipelineError(why)


def not_active(run: Run) -> str | None:
    """Why the version of an exported run is not active, and what to do instead; None if it is."""
    account = cosmos_account()
    control = publish.status(account.endpoint, account.credential, patience=patience_seconds())
    active, previous = control.active, control.previous
    if active is not None and active.version == run.run_id:
        return None
    now = "nothing is active" if active is None else f"version {active.version} is active"
    instead = (
        "`hyperrec rollback`, or the flow of that name, makes it active again"
        if previous is not None and previous.version == run.run_id
        else "its night with one other setting, such as --set seed=2, is another run, which can be "
        "published"
    )
    return (
        f"Run {run.run_id} was published before, and {now} since: a finished stage is not done "
        f"again; {instead}."
    )
