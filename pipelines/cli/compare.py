"""`hyperrec compare`: is one run's model better than another's, or is it chance?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.show import console


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="a run, as `hyperrec runs` lists it")],
    run_b: Annotated[str, typer.Argument(help="the run to compare it with")],
    runs: options.Runs = None,
) -> None:
    """Set the metrics of two evaluated runs side by side, with interval and p of the difference."""
    from pipelines.start import open_run  # noqa: PLC0415

    opened = [open_run(run_id, runs) for run_id in (run_a, run_b)]
    files = [run.read("evaluate", "ranks.parquet") for run in opened]
    from hyperrec_core.compare import RESAMPLES  # noqa: PLC0415
    from hyperrec_core.compare import compare as differences  # noqa: PLC0415
    from hyperrec_core.metrics import METRICS  # noqa: PLC0415
    from hyperrec_core.ranks import read_pair  # noqa: PLC0415

    a, b = read_pair(*files)
    among = {"sampled": f"{a.negatives} neg.", "full": "all items"}
    table = Table("", "A", "B", "A - B", "95 % over users", "p", title_justify="left")
    table.title = f"{len(a):,} labels; A = {run_a}, B = {run_b}"
    for column in table.columns[1:]:
        column.justify = "right"
    seed = int(opened[0].record.configuration["seed"])
    # At the first place the metrics are one number, which one row tells.
    shown = [name for name, m in METRICS.items() if m.cutoff > 1 or m.kind == "hit"]
    smallest = 2 / (RESAMPLES + 1)
    for name, found in differences([a], [b], shown, seed=seed).items():
        metric = METRICS[name]
        table.add_row(
            f"{metric.title} ({among[metric.ranking]})",
            f"{found.a:.4f}",
            f"{found.b:.4f}",
            f"{found.difference:+.4f}",
            f"{found.low:+.4f} to {found.high:+.4f}",
            f"≤ {smallest:.3f}" if found.p <= smallest else f"{found.p:.3f}",
            end_section=metric.cutoff == 50,
        )
    console.print(table)
    counts = [run.require("evaluate").output("ranks.parquet").rows for run in opened]
    if counts != [len(a), len(a)]:
        console.print(
            f"Compared are the labels that both have: A has {counts[0]:,} in all, B {counts[1]:,}."
        )
    if a.items != b.items:
        console.print(
            f"The catalogues differ, {a.items:,} items and {b.items:,}: a rank in the larger one "
            "is the harder one."
        )
