"""`hyperrec reproduce`: the paper's figures and tables, drawn and computed anew."""

from __future__ import annotations

import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


@dataclass(frozen=True)
class _Reproduction:
    """A name, and the module whose `reproduce(data, to)` makes it."""

    name: str
    module: str
    what: str


# Modules by name: they import SciPy, matplotlib and the rivals' packages, which a listing need not.
_REPRODUCTIONS = (
    _Reproduction("table1", "table1", "users, items, density and power-law fit of every data set"),
    _Reproduction("figure4", "figure4", "Einstein midpoint against Fréchet mean"),
    _Reproduction("figure5", "figure5", "three simulations: groups part, a shared item centres"),
    _Reproduction("figure6", "figure6", "distributions of item degrees"),
    _Reproduction("figure7", "figure7", "Rent the Runway in two dimensions, with some users"),
    _Reproduction("numerics", "numerics", "errors of the distance in float32 and float64"),
)


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
) -> None:
    """Draw a figure or compute a table of the paper, with the numbers behind it."""
    if name is None:
        _list()
        return
    found = next((one for one in _REPRODUCTIONS if one.name == name), None)
    if found is None:
        raise UsageError(
            f"There is no reproduction {name}; there are "
            f"{', '.join(one.name for one in _REPRODUCTIONS)}."
        )
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot write in {to}: {error.strerror}; choose another --to.") from error
    _show(_make(found, data or _datasets(), to))


def _make(reproduction: _Reproduction, data: Path, to: Path) -> Report:
    try:
        module = importlib.import_module(f"hyperrec_core.analysis.{reproduction.module}")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{reproduction.name} needs the package {error.name}: install hyperrec with its extra "
            "`research`, as `make setup` does."
        ) from error
    from hyperrec_core.analysis.datasets import DatasetError  # noqa: PLC0415

    try:
        report: Report = module.reproduce(data, to)
    except DatasetError as error:
        raise UsageError(str(error)) from error
    return report


def _datasets() -> Path:
    """Where data sets are looked for without --data."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("HYPERREC_DATASETS") or beside)


def _list() -> None:
    table = Table("name", "what")
    for one in _REPRODUCTIONS:
        table.add_row(one.name, one.what)
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
