"""`python -m tests.benchmarks`: measure, print tables, keep the raw numbers; `report` shows again.

python -m tests.benchmarks [--size full|quick|tiny] [--only TABLE ...] [--to DIR] [--data DIR]
python -m tests.benchmarks report [FILE ...] [--to DIR] [--publish]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from hyperrec_core.analysis.provenance import hardware, versions
from hyperrec_core.analysis.report import write_between
from tests.benchmarks import case, cases, data, plot, tables
from tests.benchmarks.case import BenchmarkError, Case, Measurement
from tests.benchmarks.measure import in_process

HOME = Path(__file__).resolve().parent
Measure = Callable[..., Measurement]


def bench(
    size: cases.Size,
    *,
    only: Sequence[str],
    to: Path,
    folder: Path,
    console: Console,
    measure: Measure = in_process,
) -> Path:
    """Measure, and keep each measurement as soon as it is there.

    Args:
        size: how much.
        only: tables by name; all by default.
        to: folder of the results.
        folder: where data sets are.
        console: where progress is told.
        measure: takes one measurement.

    Returns:
        The file of raw numbers.
    """
    facts = machine()
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    chosen = cases.cases(size)
    if torch.cuda.is_available():
        chosen += cases.on_gpu(size, len(os.sched_getaffinity(0)))
    if unknown := set(only) - {one.group for one in chosen}:
        raise BenchmarkError(f"No table is called {', '.join(sorted(unknown))}.")
    chosen = [one for one in chosen if not only or one.group in only]
    path = to / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"
    for measured in case.take(facts, _each(chosen, measure, folder, to / "histories"), path):
        told = measured.error or f"{measured.wall:.1f} s"
        console.print(f"{measured.case}: {told}", highlight=False, soft_wrap=True)
    return path


def machine() -> dict[str, str]:
    """What the run is measured with and when."""
    facts = {"hardware": hardware(), "load before": f"{os.getloadavg()[0]:.2f} processes"}
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    packages = versions() | {name: metadata.version(name) for name in ("numba", "geoopt")}
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    facts["time"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return facts


def show(paths: Sequence[Path], to: Path, console: Console, *, publish: bool) -> None:
    """Print the tables of some runs, write them and a plot each, and publish them if asked to."""
    parts = []
    for path in paths:
        run = case.read(path)
        plot.draw(run, to / f"{path.stem}.png")
        title = run.machine["hardware"]
        parts.append(f"## {title}\n\n![{title}]({path.stem}.png)\n\n{tables.report(run)}")
    text = "\n".join(parts)
    (to / "report.md").write_text(text, encoding="utf-8")
    if publish:
        published = text
        for number, path in enumerate(paths, start=1):
            name = f"figures-{number}"
            shutil.copy(to / f"{path.stem}.png", HOME / f"{name}.png")
            shutil.copy(path, HOME / f"{name}.jsonl")
            published = published.replace(f"({path.stem}.png)", f"({name}.png)")
        try:
            write_between(HOME / "README.md", "figures", published)
        except ValueError as error:
            raise BenchmarkError(str(error)) from error
    # In a file or a pipe, columns must not be cut to a terminal's width.
    shown = Markdown(text) if console.is_terminal else Text(text)
    console.print(shown, soft_wrap=not console.is_terminal)


def _each(
    chosen: Sequence[Case], measure: Measure, folder: Path, made: Path
) -> Iterator[Measurement]:
    for one in chosen:
        data.prepare(one.data, made)
        yield measure(one, folder=folder, made=made)


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description=__doc__)
    beside = HOME.parents[1].parent / "shared" / "data"
    parser.add_argument("--size", choices=cases.SIZES, default="full")
    parser.add_argument("--only", nargs="+", default=[], metavar="TABLE", help="tables by name")
    parser.add_argument("--to", type=Path, default=Path("benchmarks"), help="folder of results")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("HYPERREC_DATASETS") or beside),
        help="folder of data sets",
    )
    commands = parser.add_subparsers(dest="command")
    again = commands.add_parser("report", help="tables and plot from raw numbers")
    again.add_argument("files", nargs="*", type=Path, help="raw numbers; by default the latest")
    again.add_argument("--publish", action="store_true", help="write them beside the benchmark")
    asked = parser.parse_args(arguments)
    console = Console()
    try:
        if asked.command == "report":
            files = asked.files or sorted(asked.to.glob("*.jsonl"))[-1:]
            if not files:
                raise BenchmarkError(f"{asked.to} has no measurements: run `make bench` first.")
            show(files, asked.to, console, publish=asked.publish)
            return 0
        path = bench(
            cases.SIZES[asked.size],
            only=asked.only,
            to=asked.to,
            folder=asked.data,
            console=console,
        )
        # What is published is a whole run, at full size.
        show([path], asked.to, console, publish=asked.size == "full" and not asked.only)
    except BenchmarkError as error:
        console.print(str(error), style="red")
        return 2
    return 1 if any(m.error for m in case.read(path).measurements) else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
