"""One measurement, in a process of its own: a line of JSON with what was counted."""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("hyperrec", "pyspark", "pyarrow", "duckdb")


def _job(source: str, runs: str, as_of: date) -> dict[str, Any]:
    from pipelines.stages.preprocess import run_preprocess  # noqa: PLC0415
    from pipelines.start import start_run  # noqa: PLC0415

    run = start_run(source=source, as_of=as_of, runs=runs)
    metrics = run_preprocess(run).metrics
    return {
        "rows_kept": metrics["rows_kept"],
        "users": metrics["users"],
        "items": metrics["items"] - metrics["items_without_interactions"],
        "test_labels": metrics["labels"]["test"],
    }


def _duckdb(source: str, out: str, as_of: date) -> dict[str, Any]:
    from tests.benchmarks.preprocess.duck import transform  # noqa: PLC0415

    return transform(
        Path(source), Path(out), as_of=as_of, memory="8GB", threads=os.cpu_count() or 1
    )


if __name__ == "__main__":
    load = os.getloadavg()[0]
    what, place, target, day = sys.argv[1:]
    found = {"hyperrec": _job, "duckdb": _duckdb}[what](place, target, date.fromisoformat(day))
    found |= {"load": load, "versions": {name: metadata.version(name) for name in _PACKAGES}}
    print(json.dumps(found))
