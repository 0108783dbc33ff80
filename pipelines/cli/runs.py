"""`hyperrec runs | fetch`: which runs there are, how far each came, and what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
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
        table.add_row(run_id, *done, escape(run.record.input))
    if table.row_count:
        console.print(table)
    else:
        console.print(f"There is no run in {storage.url} yet.")


@app.command()
def fetch(
    run_id: options.RunId,
    name: Annotated[str, typer.Argument(help="an output, such as items.png or metrics.json")],
    to: Annotated[Path | None, typer.Option(help="file to write [default: NAME here]")] = None,
    runs: options.Runs = None,
) -> None:
    """Copy an output of a run to a file, checked against its manifest."""
    from pipelines.errors import UsageError  # noqa: PLC0415
    from pipelines.runs import STAGES  # noqa: PLC0415
    from pipelines.start import open_run  # noqa: PLC0415

    run = open_run(run_id, runs)
    manifests = [manifest for stage in STAGES if (manifest := run.manifest(stage)) is not None]
    written = {output.name: m.stage for m in manifests for output in m.outputs}
    if name not in written:
        raise UsageError(
            f"Run {run_id} has written no {name}; it has {', '.join(written) or 'nothing yet'}."
        )
    path = to or Path(Path(name).name)
    data = run.read(written[name], name)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}; choose another --to.") from error
    console.print(f"{name} of run {run_id}, stage {written[name]}: {path.absolute()}", markup=False)
