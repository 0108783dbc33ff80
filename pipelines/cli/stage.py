"""`hyperrec preprocess | train | evaluate | export`: each stage alone.

The run is looked for before the stage is imported: a mistyped id is told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.show import (
    console,
    print_counts,
    print_metrics,
    print_outputs,
    print_published,
)

if TYPE_CHECKING:
    from serving_export.price import Price


@app.command()
def preprocess(
    source: options.Input,
    as_of: options.AsOf,
    profile: options.ProfileName = "default",
    settings: options.Settings = None,
    runs: options.Runs = None,
) -> None:
    """Turn raw interactions into labelled histories, and begin a run with them."""
    from pipelines.stages.preprocess import run_preprocess  # noqa: PLC0415
    from pipelines.start import start_run  # noqa: PLC0415

    run = start_run(
        source=source, as_of=as_of.date(), profile=profile, overrides=settings, runs=runs
    )
    manifest = run_preprocess(run)
    print_counts(manifest)
    print_outputs(run, manifest)


@app.command()
def train(run_id: options.RunId, runs: options.Runs = None) -> None:
    """Fit the model on the histories of a run.

    On several GPUs: torchrun --no-python --nproc-per-node=gpu hyperrec train RUN.
    """
    from pipelines.start import open_run  # noqa: PLC0415

    run = open_run(run_id, runs)
    from hyperrec_core.processes import group  # noqa: PLC0415
    from pipelines.stages.train import help_train, run_train  # noqa: PLC0415

    with group() as rank:
        if rank:
            help_train(run)
        else:
            print_outputs(run, run_train(run))


@app.command()
def evaluate(run_id: options.RunId, runs: options.Runs = None) -> None:
    """Judge the model of a run beside popularity."""
    from pipelines.start import open_run  # noqa: PLC0415

    run = open_run(run_id, runs)
    from pipelines.stages.evaluate import run_evaluate  # noqa: PLC0415

    manifest = run_evaluate(run)
    print_metrics(manifest)
    print_outputs(run, manifest)


@app.command()
def export(
    run_id: options.RunId,
    runs: options.Runs = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what it would cost, in RU and time")
    ] = False,
    why: Annotated[str | None, typer.Option("--why", help="the reason, for the history")] = None,
) -> None:
    """Publish the judged model of a run to Cosmos DB."""
    from pipelines.start import open_run  # noqa: PLC0415

    run = open_run(run_id, runs)
    from pipelines.flows.active import require_active  # noqa: PLC0415
    from pipelines.stages.export import price_export, run_export  # noqa: PLC0415

    if dry_run:
        _print_price(run_id, price_export(run))
        return
    if run.manifest("export") is None:
        print_published(run_export(run, why=why))
        return
    # It is passed over, and may have been replaced or rolled back since.
    run_export(run)
    require_active(run)
    console.print(f"Version {run_id} was published before and is active: there was nothing to do.")


def _print_price(version: str, price: Price) -> None:
    console.print(
        f"Version {version} has {price.documents:,} documents of {price.mean_bytes:,.0f} bytes on "
        f"average. Slot {price.slot} has {price.present:,} of them already, and "
        f"{price.leftovers:,} documents of another version."
    )
    console.print(
        f"Publishing it would take about {price.request_units:,.0f} RU ({price.basis}) and at "
        f"least {price.seconds:,.0f} s. Nothing was written."
    )
