"""`hyperrec serve`: the retrain flow offered to operators and a schedule by a Prefect server."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.run import prepare_prefect
from pipelines.errors import UsageError


@app.command()
def serve(
    source: options.Input,
    profile: options.ProfileName = "default",
    cron: Annotated[str | None, typer.Option(help="schedule, such as '0 2 * * *' (UTC)")] = None,
    runs: options.Runs = None,
) -> None:
    """Serve the flow to the Prefect server at PREFECT_API_URL until interrupted."""
    prepare_prefect()
    from prefect.settings import get_current_settings  # noqa: PLC0415

    from pipelines.flows.retrain import daily_retrain  # noqa: PLC0415
    from pipelines.start import runs_url  # noqa: PLC0415

    if not get_current_settings().api.url:
        raise UsageError(
            "No Prefect server is configured: set PREFECT_API_URL, such as "
            "http://127.0.0.1:4200/api after `prefect server start`."
        )
    form = {"source": source, "profile": profile, "runs": runs or runs_url(source)}
    daily_retrain.serve(name="hyperrec", cron=cron, parameters={"form": form}, limit=1)
