"""How results look on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hyperrec_core.metrics import HEADLINES, METRICS
from pipelines.gates import Verdict, verdicts_of

if TYPE_CHECKING:
    from pipelines.runs import Manifest, Run

# A log file has no width; a table in it should not be folded into eighty columns.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def print_run(run_id: str, runs: str | None, source: str | None = None) -> None:
    """Everything a person wants to know of a finished run."""
    from pipelines.start import open_run, runs_url  # noqa: PLC0415

    run = open_run(run_id, runs or runs_url(source))
    console.print(f"\nRun [bold]{run_id}[/bold] in {run.storage.url}")
    print_counts(run.require("preprocess"))
    print_metrics(run.require("evaluate"))
    print_outputs(run, run.require("train"))
    from pipelines.flows.active import not_active  # noqa: PLC0415

    if (why := not_active(run)) is not None:
        console.print(escape(why))
    else:
        print_published(run.require("export"))


def print_counts(manifest: Manifest) -> None:
    """Where every row that was read went."""
    metrics = manifest.metrics
    table = Table("rows", "", "", title="Interactions", title_justify="left")
    table.columns[2].justify = "right"
    table.add_row("read", "", f"{metrics['rows_read']:,}")
    table.add_row("kept", "", f"{metrics['rows_kept']:,}")
    for fate in ("quarantined", "dropped"):
        table.add_row(fate, "", f"{metrics['rows_' + fate]:,}", style="bold")
        for rule, rows in metrics[fate].items():
            table.add_row("", escape(rule), f"{rows:,}")
    console.print(table)
    for file, reason in metrics["files_quarantined"].items():
        console.print(f"Quarantined file {escape(file)}: {escape(reason)}")
    if unread := metrics.get("catalogue_rows_unread"):  # runs of earlier versions do not count them
        console.print(f"{unread:,} rows of the catalogue, or their is_live, could not be read.")
    labels = ", ".join(f"{split} {count:,}" for split, count in metrics["labels"].items())
    console.print(
        f"{metrics['users']:,} users, {metrics['items']:,} items, "
        f"{metrics['first_event'][:10]} to {metrics['last_event'][:10]}; labels: {labels}"
    )


def print_metrics(manifest: Manifest) -> None:
    """The metrics beside popularity's and the active version's, and what the gates said."""
    results = manifest.metrics["results"]
    negatives = results["model"]["negatives"]
    among = {"sampled": f"{negatives} neg.", "full": "all items"}
    shown = [METRICS[name] for name in HEADLINES]
    table = Table(
        "",
        *(f"{metric.title} ({among[metric.ranking]})" for metric in shown),
        title=f"Test, {results['model']['labels']:,} labels; ± 95 % over users",
        title_justify="left",
    )
    for scorer, result in results.items():
        cells = (_with_interval(result, metric.name) for metric in shown)
        table.add_row(scorer.replace("_", " "), *cells)
    console.print(table)
    covered = ", ".join(
        f"{scorer.replace('_', ' ')} {result['coverage_at_10']:.1%}"
        for scorer, result in results.items()
    )
    console.print(f"Share of the items in somebody's first ten: {covered}.")
    print_verdicts(verdicts_of(manifest.metrics))


def print_verdicts(verdicts: list[Verdict]) -> None:
    """What each gate said, a line each."""
    words = {"pass": "passed", "warn": "[bold]warns[/bold]", "refuse": "[bold]refused[/bold]"}
    for verdict in verdicts:
        console.print(f"Gate {words[verdict.outcome]}: {escape(verdict.reason)}.")


def _with_interval(result: dict[str, Any], name: str) -> str:
    low, high = result["intervals"][name]
    return f"{result[name]:.4f} ± {(high - low) / 2:.4f}"


def print_outputs(run: Run, manifest: Manifest) -> None:
    """Where a stage's outputs are, and what to do next."""
    folder = f"{run.storage.url}/{run.run_id}/{manifest.stage}/{manifest.attempt}"
    names = ", ".join(o.name for o in manifest.outputs if "/" not in o.name)
    console.print(f"Stage {manifest.stage} of run {run.run_id}, {manifest.wall_seconds:.1f} s.")
    console.print(f"Outputs in {folder}: {names}")


def print_published(manifest: Manifest) -> None:
    """What the export did."""
    metrics = manifest.metrics
    if metrics["already_active"]:
        console.print(f"Version {metrics['version']} was active already in slot {metrics['slot']}.")
        return
    console.print(
        f"Published version [bold]{metrics['version']}[/bold]: {metrics['items']:,} items in slot "
        f"{metrics['slot']}, verified, {metrics['request_units']:,.0f} RU, "
        f"{metrics['seconds']:.1f} s."
    )
