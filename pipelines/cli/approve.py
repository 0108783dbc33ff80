"""`hyperrec approve`: let a run out that the gates hold back."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.show import console, print_verdicts


@app.command()
def approve(
    run_id: options.RunId,
    why: Annotated[str, typer.Option("--why", help="the reason, for the history")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="also against gates that refused, and over a version of a later day"
        ),
    ] = False,
    runs: options.Runs = None,
) -> None:
    """Approve a judged run that the gates hold back; `hyperrec export` then publishes it."""
    from pipelines.start import open_run  # noqa: PLC0415

    run = open_run(run_id, runs)
    from pipelines.approvals import approve as record  # noqa: PLC0415
    from pipelines.gates import verdicts_of  # noqa: PLC0415
    from pipelines.settings import operator  # noqa: PLC0415

    given = record(run, who=operator(), why=why, force=force)
    held = verdicts_of(run.require("evaluate").metrics)
    print_verdicts([verdict for verdict in held if verdict.outcome != "pass"])
    console.print(
        f"Run {run_id} is {'let out by force' if given.force else 'approved'}; "
        f"`hyperrec export {run_id}` publishes it."
    )
