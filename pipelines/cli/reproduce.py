"""`hyperrec reproduce`: the paper's figures and tables, drawn and computed anew."""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.cli.app import app
from pipelines.cli.show import console
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from hyperrec_core.analysis.report import Report

log = logging.getLogger(__name__)


# Each is a module of hyperrec_core.analysis with `reproduce(data, to)`. By name: they import SciPy,
# matplotlib and the rivals' packages, which a listing need not.
_REPRODUCTIONS = {
    "table1": "users, items, density and power-law fit of every data set",
    "figure4": "Einstein midpoint against Fréchet mean",
    "figure5": "three simulations: groups part, a shared item centres",
    "figure6": "distributions of item degrees",
    "figure7": "Rent the Runway in two dimensions, with some users",
    "figure8": "user points against midpoints: accuracy, time and size",
    "ablations": "what each choice of the model is worth, wins and losses",
    "numerics": "errors of the distance in float32 and float64",
    "leaderboard": "table 2's comparison: every model on every data set, one budget for all",
    "hyperml": "tables 2 to 4 and figures 2 and 4 of HyperML (Tran et al. 2020)",
    "autoencoders": "the autoencoder in flat space and on the ball, from five seeds",
    "hvacf": "HVACF (Shimizu et al. 2024), whole and without each of its parts",
}

# Those whose cells are kept, with `run(data, to, datasets=..., quick=...)` instead.
_BY_CELLS = ("leaderboard", "hyperml", "autoencoders", "hvacf")


@app.command()
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="what to reproduce [default: list what there is]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="folder of data sets [default: HYPERREC_DATASETS, or ../shared/data]"),
    ] = None,
    to: Annotated[Path, typer.Option(help="folder to write pictures and tables in")] = Path(
        "reproduced"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="few sets and settings, minutes")] = False,
    datasets: Annotated[
        str | None,
        typer.Option(help="these sets alone, with commas between them"),
    ] = None,
) -> None:
    """Draw a figure or compute a table of the paper, with the numbers behind it."""
    if name is None:
        _list()
        return
    if name not in _REPRODUCTIONS:
        raise UsageError(f"There is no reproduction {name}; there are {', '.join(_REPRODUCTIONS)}.")
    if (quick or datasets) and name not in _BY_CELLS:
        raise UsageError(
            f"--quick and --datasets are for {', '.join(_BY_CELLS)}; leave them out for {name}."
        )
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot write in {to}: {error.strerror}; choose another --to.") from error
    module = _import(name)
    from hyperrec_core.analysis.datasets import DatasetError  # noqa: PLC0415

    data = data or _datasets()
    try:
        sets = datasets.split(",") if datasets else None
        if name == "leaderboard":
            # The whole table belongs into the document beside the code, where there is one.
            readme = Path(str(module.__file__)).with_name("README.md")
            whole = not quick and sets is None and readme.is_file()
            report = module.run(
                data, to, datasets=sets, quick=quick, readme=readme if whole else None
            )
        elif name in _BY_CELLS:
            report = module.run(data, to, datasets=sets, quick=quick)
        else:
            report = module.reproduce(data, to)
    except DatasetError as error:
        raise UsageError(str(error)) from error
    _show(report)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(f"hyperrec_core.analysis.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "hyperrec_core":
            raise
        raise UsageError(
            f"{name} needs the package {error.name}: install hyperrec with its extra `research`, "
            "as `make setup` does."
        ) from error


def _datasets() -> Path:
    """Where data sets are looked for without --data."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("HYPERREC_DATASETS") or beside)


def _list() -> None:
    table = Table("name", "what")
    for name, what in _REPRODUCTIONS.items():
        table.add_row(name, what)
    console.print(table)


def _show(report: Report) -> None:
    """The table as far as a terminal is wide, and where the files are."""
    from hyperrec_core.analysis.report import shown  # noqa: PLC0415

    table = Table(
        title=escape(report.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    for number, column in enumerate(report.columns):
        words = any(isinstance(row[number], str) for row in report.rows)
        # The first column says which row it is; the others' headings may be folded.
        table.add_column(escape(column), justify="left" if words else "right", no_wrap=not number)
    for row in report.rows:
        table.add_row(*(escape(shown(cell)) for cell in row))
    console.print(table)
    for file in report.files:
        log.info("wrote %s", file.absolute())
