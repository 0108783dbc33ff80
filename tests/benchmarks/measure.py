"""One measurement in a process of its own: its threads, its peak memory and nobody else's.

The process is given the case as JSON on standard input and answers with a line of JSON, so that
neither the imports nor the data of one measurement are there in another.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.case import BenchmarkError, Case, Measurement, completed

_ROOT = Path(__file__).resolve().parents[2]
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_COMPILED = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")

FRESH_CACHE = "fresh_cache"
"""Option of any case: nothing that was compiled before may be used."""


def in_process(case: Case, *, folder: Path, made: Path) -> Measurement:
    """Measure a case in a new process; a failure becomes a measurement without a result.

    Args:
        case: what to measure.
        folder: where data sets are.
        made: where synthetic ones are kept.
    """
    environment = os.environ | dict.fromkeys(_THREADS, str(case.threads))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        if case.options.get(FRESH_CACHE):
            environment |= dict.fromkeys(_COMPILED, empty)
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.measure"],
            input=json.dumps({"case": asdict(case), "folder": str(folder), "made": str(made)}),
            capture_output=True,
            text=True,
            cwd=_ROOT,
            env=environment,
            check=False,
        )
    wall = time.perf_counter() - started
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return completed(case, {}, peak_bytes=0, wall=wall, error=why)
    answer = json.loads(done.stdout.splitlines()[-1])
    return completed(case, answer["result"], peak_bytes=answer["peak_bytes"], wall=wall)


def here(case: Case, *, folder: Path, made: Path) -> Measurement:
    """Measure a case in this process."""
    from tests.benchmarks.kinds import KINDS  # noqa: PLC0415 - PyTorch reads its threads here

    if case.kind not in KINDS:
        raise BenchmarkError(f"No measurement is called {case.kind!r}.")
    started = time.perf_counter()
    result: dict[str, Any] = KINDS[case.kind](case, folder, made)
    return completed(case, result, peak_bytes=peak(), wall=time.perf_counter() - started)


def peak() -> int:
    """The most memory this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Where a process is started from a larger one, this may be the larger one's.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _pin(cores: int) -> None:
    """Keep to so many cores, where the system can be told: a thread count alone is not kept by
    background threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _main() -> None:
    asked = json.load(sys.stdin)
    case = Case(**asked["case"])
    if case.device == "cpu":
        _pin(case.threads)
    measured = here(case, folder=Path(asked["folder"]), made=Path(asked["made"]))
    answer = {"result": measured.result, "peak_bytes": measured.peak_bytes}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main()
