"""`hyperrec import`: a retailer's file or folder into the raw blob layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.app import app
from pipelines.cli.show import console

if TYPE_CHECKING:
    from pipelines.importing import ImportReport


@app.command(name="import")
def import_(
    source: Annotated[str, typer.Argument(help="a file or folder of Parquet, CSV or JSON lines")],
    mapping: Annotated[
        str, typer.Option("--mapping", help="name of a column mapping, or the path of a .toml file")
    ],
    to: Annotated[str, typer.Option("--to", help="URL of the raw layout to write")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="a corrected file: rows it held before and lacks now go"),
    ] = False,
) -> None:
    """Write a retailer's rows by date into blob storage, columns mapped, no row lost or judged.

    A file of another folder adds to what is there. One that was imported before replaces its own
    rows; it is refused when rows that it held are no longer in it, unless --replace is given.
    """
    import_and_print(source, mapping=mapping, to=to, replace=replace)


def import_and_print(source: str, *, mapping: str, to: str, replace: bool) -> ImportReport:
    """Import, and say what came of it."""
    from pipelines.importing import import_source, load_mapping  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415

    target = open_storage(to)
    report = import_source(source, load_mapping(mapping), target, replace=replace)
    for column, values in report.unread.items():
        live = " An item that has no other counts as live." if column == "is_live" else ""
        console.print(f"{values:,} values of {column} could not be read and are empty now.{live}")
    if report.rows_replaced:
        console.print(f"{report.rows_replaced:,} rows of earlier imports are replaced.")
    console.print(
        f"{report.rows_read:,} rows read, {report.rows_written:,} written to {target.url}: "
        f"{report.days:,} days from {report.first_day} to {report.last_day}, "
        f"{report.rows_undated:,} rows without a usable time, {report.items:,} catalogue items; "
        f"{report.files_written:,} files written, {report.files_unchanged:,} as they were."
    )
    return report
