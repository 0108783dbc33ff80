"""`python -m infra.capacity`: the capacity and cost sheet, as Markdown.

The environment is read from infra/azure/NAME.tfvars, rates from the project's benchmarks or from a
run of one's own, prices from a file that is meant to be replaced.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from infra.capacity.sheet import (
    HERE,
    CapacityError,
    Environment,
    Rates,
    Sheet,
    of_run,
    published,
    reckon,
)

AZURE = HERE.parent / "azure"
# Interactions, and items in about the proportion of a fashion retailer's catalogue.
SIZES = ((1_000_000, 20_000), (28_000_000, 132_399), (280_000_000, 500_000))


def environment(name: str, prices: Path) -> Environment:
    """An environment by its variable file.

    Raises:
        CapacityError: there is none of that name, or a price is missing.
    """
    import hcl2  # noqa: PLC0415  a tool of development, which images do not have

    path = AZURE / f"{name}.tfvars"
    try:
        with path.open() as file, prices.open("rb") as priced:
            return Environment(name, _plain(hcl2.load(file)), tomllib.load(priced))
    except FileNotFoundError as error:
        raise CapacityError(
            f"There is no {error.filename}: give dev or prod, and a file."
        ) from error


def _plain(value: Any) -> Any:
    """As HCL means it: strings without their quotes."""
    if isinstance(value, str):
        return value.strip('"')
    if isinstance(value, dict):
        return {_plain(key): _plain(part) for key, part in value.items()}
    return value


def table(sheets: Sequence[Sheet], place: Environment, rates: Rates) -> str:
    """The sheet."""
    money = place.prices["currency"]
    rows: list[tuple[str, Callable[[Sheet], str]]] = [
        ("interactions", lambda s: f"{s.interactions / 1e6:,.0f} M"),
        ("items", lambda s: f"{s.items:,}"),
        ("preprocess, nothing kept", lambda s: _time(s.preprocess)),
        ("preprocess, the night after", lambda s: _time(s.preprocess_next)),
        ("its memory", lambda s: _size(s.memory)),
        (f"training, {rates.epochs} epochs", lambda s: _time(s.train)),
        ("its memory", lambda s: _size(s.training_memory)),
        ("request units of a publish", lambda s: f"{s.request_units:,.0f}"),
        (f"publishing at {place.given['slot_max_throughput']:,} RU/s", lambda s: _time(s.export)),
        ("a night", lambda s: _time(s.night)),
        ("a slot", lambda s: _size(s.slot)),
        (f"runs of {place.given['run_days']} days", lambda s: _size(s.runs)),
    ]
    parts = list(sheets[0].costs)
    rows += [(f"{part}, {money} a month", _cost(part)) for part in parts]
    rows.append((f"together, {money} a month", lambda s: f"{s.month:,.0f}"))
    lines = [f"Environment {place.name}, rates of {rates.source}.", ""]
    cells = [[title, *(show(sheet) for sheet in sheets)] for title, show in rows]
    lines.append(f"| {' | '.join(cells[0])} |")
    lines.append("|---" + "|---:" * len(sheets) + "|")
    lines += [f"| {' | '.join(row)} |" for row in cells[1:]]
    return "\n".join(lines)


def _cost(part: str) -> Callable[[Sheet], str]:
    return lambda sheet: f"{sheet.costs[part]:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e12 else f"{size / 1e12:,.1f} TB"


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.capacity", description=__doc__)
    parser.add_argument("--environment", default="prod", help="dev or prod (default: prod)")
    parser.add_argument("--run", type=Path, help="folder of a run, or of its manifests")
    parser.add_argument("--cores", type=int, default=2, help="cores that run had (default: 2)")
    parser.add_argument("--prices", type=Path, default=HERE / "prices.toml")
    asked = parser.parse_args()
    try:
        rates = published() if asked.run is None else of_run(asked.run, asked.cores)
        place = environment(asked.environment, asked.prices)
        sheets = [reckon(interactions, items, rates, place) for interactions, items in SIZES]
    except KeyError as error:
        sys.stderr.write(f"{asked.prices} has no price for {error}: add it.\n")
        return 1
    except CapacityError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(table(sheets, place, rates) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
