"""`hyperrec report`: what a run's input held, and what its limits say of it.

Names of files come from outside and are shown with their hidden characters written out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.show import console

if TYPE_CHECKING:
    from pipelines.preprocess.degrees import Degrees
    from pipelines.preprocess.limits import Verdict
    from pipelines.preprocess.report import Report

_FILES = ("report.html", "report.json")
_WORDS = {"ok": "ok", "warn": "[bold yellow]warn[/]", "stop": "[bold red]stop[/]"}


@app.command()
def report(
    run_id: options.RunId,
    to: Annotated[
        Path | None, typer.Option(help="folder to write report.html and report.json to")
    ] = None,
    runs: options.Runs = None,
) -> None:
    """Show the data report of a run's input: limits, rows, degrees and drift."""
    from pipelines.errors import UsageError  # noqa: PLC0415
    from pipelines.start import open_run  # noqa: PLC0415

    run = open_run(run_id, runs)
    files = {name: run.read("preprocess", name) for name in _FILES}
    from pipelines.preprocess.report import Report  # noqa: PLC0415

    found = Report.from_json(files["report.json"])
    _print_verdicts(found.verdicts)
    _print_numbers(found)
    if to is None:
        console.print(f"The whole page: hyperrec report {run_id} --to FOLDER", markup=False)
        return
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (to / name).write_bytes(data)
    except OSError as error:
        raise UsageError(f"Cannot write to {to}: {error.strerror}; choose another --to.") from error
    console.print(f"The page: {(to / 'report.html').absolute()}", markup=False)


def _print_verdicts(verdicts: tuple[Verdict, ...]) -> None:
    from pipelines.preprocess.report_page import visible  # noqa: PLC0415

    table = Table("", "limit", "found", "warn", "stop")
    for column in table.columns[2:]:
        column.justify = "right"
    for each in verdicts:
        level = "-" if each.value is None else _WORDS[each.level]
        numbers = (each.value, each.limit.warn, each.limit.stop)
        table.add_row(level, each.name, *(_number(number) for number in numbers))
    console.print(table)
    for each in verdicts:
        if each.level != "ok":
            console.print(f"{_WORDS[each.level]}: {escape(visible(each.sentence))}")


def _print_numbers(found: Report) -> None:
    bad = sum(found.quarantined.values())
    console.print(
        f"{found.rows_read:,} rows read, {found.interactions:,} kept, "
        f"{sum(found.dropped.values()):,} dropped, {bad:,} in quarantine; "
        f"{len(found.bad_files):,} files in quarantine, {len(found.bots):,} users left out as bots."
    )
    kinds = ", ".join(f"{escape(kind)} {rows:,}" for kind, rows in found.event_types.items())
    console.print(f"Interactions: {kinds or 'none'}.")
    for name, degrees in (("Items", found.item_degrees), ("Users", found.user_degrees)):
        if degrees is not None:
            console.print(f"{name}: {_described(degrees)}.")


def _described(degrees: Degrees) -> str:
    law = degrees.law
    told = f", exponent {law.exponent:.2f} from {law.x_min:,} on" if law else ""
    return (
        f"{degrees.n:,}, interactions of one: median {degrees.median:,}, 99 % up to "
        f"{degrees.p99:,}, most {degrees.largest:,}; Gini {degrees.gini:.3f}{told}"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value, 4):.4g}"
