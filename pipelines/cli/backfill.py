"""`hyperrec backfill`: many nights, in order, as a Prefect flow in this process."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, cast

import typer
from rich.table import Table

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.run import prepare_night
from pipelines.cli.show import console
from pipelines.errors import UsageError
from pipelines.runs import STAGES

_Day = Annotated[
    datetime,
    typer.Option(formats=["%Y-%m-%d"], help="a night's last day whose interactions count (UTC)"),
]


@app.command()
def backfill(
    source: options.Input,
    first: _Day,
    last: _Day,
    until: Annotated[str, typer.Option(help=f"last stage of a night: {', '.join(STAGES)}")] = (
        "evaluate"
    ),
    warm: Annotated[
        bool, typer.Option("--warm", help="train each night from the points of the one before")
    ] = False,
    profile: options.ProfileName = "default",
    settings: options.Settings = None,
    window: options.Window = None,
    runs: options.Runs = None,
) -> None:
    """Do the nights of a range of dates, in order; the same command again goes on.

    Nothing is published unless `--until export` is given.
    """
    from pipelines.start import open_run  # noqa: PLC0415

    if until not in STAGES:
        raise UsageError(f"There is no stage {until}: give one of {', '.join(STAGES)}.")
    if last < first:
        raise UsageError(f"There is no night from {first:%Y-%m-%d} to {last:%Y-%m-%d}.")
    settings = options.with_window(settings, window)
    source, runs = prepare_night(source, first.date(), profile, settings, runs)
    from pipelines.flows import backfill as flows  # noqa: PLC0415  seconds to import
    from pipelines.flows.forms import BackfillForm, checked  # noqa: PLC0415

    form = {
        "source": source,
        "first": first.date(),
        "last": last.date(),
        "until": until,
        "warm": warm,
        "profile": profile,
        "settings": settings,
        "why": "a back-fill" if until == "export" else None,
        "runs": runs,
    }
    run_ids = cast("list[str]", flows.backfill(checked(BackfillForm, form)))
    table = Table(*flows.HEADING)
    for run_id in run_ids:
        table.add_row(*flows.row(open_run(run_id, runs)))
    console.print(table)
