"""`hyperrec runs`: which runs there are and how far each came."""

from __future__ import annotations

from rich.table import Table

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.show import console


@app.command()
def runs(url: options.Runs = None) -> None:
    """List the runs and the stages each has finished."""
    from pipelines.runs import STAGES, Run, list_runs  # noqa: PLC0415
    from pipelines.start import runs_url  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415

    storage = open_storage(url or runs_url())
    table = Table("run", *STAGES, "input")
    for run_id in list_runs(storage):
        run = Run.open(storage, run_id)
        done = [f"{m.wall_seconds:.0f} s" if (m := run.manifest(s)) else "-" for s in STAGES]
        table.add_row(run_id, *done, run.record.input)
    if table.row_count:
        console.print(table)
    else:
        console.print(f"There is no run in {storage.url} yet.")
