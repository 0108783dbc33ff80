"""What is measured, and what comes of it: plain values, kept as one line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any


class BenchmarkError(ValueError):
    """The benchmark cannot run or be reported; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement, taken in a process of its own.

    Attributes:
        group: the table it belongs to.
        kind: what is done, one of `kinds.KINDS`.
        data: what it is done with, see `data.load`.
        threads: cores and threads that the process may use.
        device: `cpu` or `cuda`.
        options: of the kind.
    """

    group: str
    kind: str
    data: str = "ml-1m"
    threads: int = 2
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.group}: {self.kind} {self.data} {options} on {self.device} x{self.threads}"


@dataclass(frozen=True, kw_only=True)
class Measurement(Case):
    """A case with what was measured.

    Attributes:
        result: numbers by name, times in seconds; empty where the case failed.
        peak_bytes: the most memory the process held, the interpreter and the data included.
        wall: seconds from the start of the process to its end.
        error: why it failed.
    """

    result: dict[str, Any] = field(default_factory=dict)
    peak_bytes: int = 0
    wall: float = 0.0
    error: str = ""

    @property
    def case(self) -> Case:
        """What was to be measured."""
        own = {name: getattr(self, name) for name in Case.__dataclass_fields__}
        return Case(**own)


@dataclass(frozen=True)
class Run:
    """Measurements of one run on one machine; a ratio is only ever of two of the same run.

    Attributes:
        machine: hardware, versions and time by name.
        measurements: in the order in which they were taken.
    """

    machine: dict[str, str]
    measurements: list[Measurement]

    def of(self, group: str) -> Iterator[Measurement]:
        """The measurements of a group that did not fail."""
        return (m for m in self.measurements if m.group == group and not m.error)


def completed(
    case: Case, result: dict[str, Any], *, peak_bytes: int, wall: float, error: str = ""
) -> Measurement:
    """The measurement of a case."""
    return Measurement(
        **{name: getattr(case, name) for name in Case.__dataclass_fields__},
        result=result,
        peak_bytes=peak_bytes,
        wall=wall,
        error=error,
    )


def take(
    machine: dict[str, str], measurements: Iterable[Measurement], path: Path
) -> Iterator[Measurement]:
    """Write the machine, and every measurement as soon as it is there; hand it on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        print(json.dumps(machine), file=file, flush=True)
        for measurement in measurements:
            print(json.dumps(asdict(measurement)), file=file, flush=True)
            yield measurement


def read(path: Path) -> Run:
    """The run of a file that `take` wrote.

    Raises:
        BenchmarkError: there is no such file, or it is not one of measurements.
    """
    try:
        machine, *lines = path.read_text(encoding="utf-8").splitlines()
        return Run(json.loads(machine), [Measurement(**json.loads(line)) for line in lines])
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path} is not there: run `make bench` first.") from error
    except (ValueError, TypeError) as error:
        raise BenchmarkError(
            f"{path} does not hold measurements of this version: run `make bench` again."
        ) from error


def on(cases: Iterable[Case], device: str, threads: int) -> list[Case]:
    """The same cases elsewhere."""
    return [replace(case, device=device, threads=threads) for case in cases]
