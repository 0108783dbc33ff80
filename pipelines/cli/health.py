"""`hyperrec health`: whether recommendations are fresh and everything they rest on answers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.run import prepare_prefect
from pipelines.cli.show import console


@app.command()
def health(
    source: Annotated[str, typer.Option("--input", help="URL of the raw layout")] = "az://raw",
    max_age_days: Annotated[
        int, typer.Option(min=0, max=400, help="oldest that the active version may be")
    ] = 2,
    max_lag_days: Annotated[
        int, typer.Option(min=0, max=400, help="oldest that the newest raw data may be")
    ] = 2,
    runs: options.Runs = None,
) -> None:
    """See that a fresh version is active, data arrive and the stores answer; exit code 1 if not."""
    prepare_prefect()
    from pipelines.flows.forms import checked  # noqa: PLC0415
    from pipelines.flows.health import HealthForm, findings  # noqa: PLC0415
    from pipelines.start import absolute  # noqa: PLC0415

    given = {"source": absolute(source), "runs": absolute(runs) if runs else None}
    form = checked(HealthForm, given | {"max_age_days": max_age_days, "max_lag_days": max_lag_days})
    with console.status("looking"):
        found = findings(form)
    table = Table("", "", "found")
    marks = {"ok": "ok", "wrong": "[bold]WRONG[/bold]", "unknown": "-"}
    for each in found:
        table.add_row(marks[each.state], each.thing, escape(each.found))
    console.print(table)
    wrong = [each for each in found if each.state == "wrong"]
    for each in wrong:
        print(f"{each.thing}: {' '.join(each.advice.splitlines())}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)
