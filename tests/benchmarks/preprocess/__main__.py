"""How long preprocessing takes, by size, from blobs to histories; and DuckDB on the same rows.

    python -m tests.benchmarks.preprocess [--millions 3.5 7 14 28] [--publish]

Every measurement has processes of its own. The job reads raw blobs from Azurite and writes its run
there, first with nothing kept from earlier runs, then as on the night after, with all days but the
newest kept. DuckDB reads the same files from a folder and writes to a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.local import services
from tests.benchmarks.preprocess.memory import Watch

_ROOT = Path(__file__).resolve().parents[3]
_HERE = Path(__file__).resolve().parent
_AS_OF = date(2024, 6, 30)
_USERS, _ITEMS, _DAYS = 1_000_000 / 28, 132_399, 365  # ASOS: per million interactions, and in all


def main() -> None:
    """Measure, print the table, and publish it when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[3.5, 7, 14, 28])
    parser.add_argument("--work", type=Path, default=_ROOT / "benchmarks" / "preprocess")
    parser.add_argument("--publish", action="store_true", help="write the table beside this file")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    rows = [row for millions in asked.millions for row in _measure(millions, asked.work)]
    text = _report(rows)
    print(text)
    (asked.work / "figures.json").write_text(json.dumps(rows, indent=1))
    if asked.publish:
        (_HERE / "figures.json").write_text(json.dumps(rows, indent=1) + "\n")
        (_HERE / "README.md").write_text(text + "\n")


def _measure(millions: float, work: Path) -> list[dict[str, Any]]:
    folder = work / f"raw-{millions:g}M"
    if not folder.exists():
        _hyperrec(_synthesise(millions, folder.as_uri()), os.environ)
    rows = []
    with tempfile.TemporaryDirectory(dir=work) as place:
        with services.azurite_server(Path(place)) as blobs:
            environment = os.environ | {
                "AZURE_STORAGE_ACCOUNT_URL": blobs,
                "HYPERREC_HOME": place,
            }
            _upload(folder, environment)
            for name, day in (("night before", _AS_OF - timedelta(days=1)), ("night", _AS_OF)):
                rows.append(
                    _child(
                        ["hyperrec", "az://raw", "az://runs", day.isoformat()],
                        environment,
                        {"millions": millions, "what": _NAMES[name]},
                    )
                )
        out = Path(place, "duck")
        rows.append(
            _child(
                ["duckdb", str(folder), str(out), _AS_OF.isoformat()],
                os.environ,
                {"millions": millions, "what": "DuckDB, local files"},
            )
        )
    ours, theirs = rows[-2], rows[-1]
    for key in ("rows_kept", "users", "items", "test_labels"):
        # Validation labels are drawn by other hashes, which moves a rare item in or out.
        apart = abs(ours[key] - theirs[key])
        if apart > (0.005 * ours[key] if key in {"items", "test_labels"} else 0):
            sys.exit(f"{key}: {ours[key]} by the job and {theirs[key]} by DuckDB")
    return rows


_NAMES = {"night before": "all days new", "night": "one day new"}


def _synthesise(millions: float, to: str) -> list[str]:
    sizes = {
        "users": round(_USERS * millions),
        "items": _ITEMS,
        "interactions": round(1e6 * millions),
        "days": _DAYS,
    }
    return ["synthesise", "--to", to, *(f"--{k}={v}" for k, v in sizes.items())]


def _hyperrec(arguments: list[str], environment: Any) -> None:
    command = [str(Path(sys.executable).with_name("hyperrec")), *arguments]
    subprocess.run(command, env=environment, cwd=_ROOT, check=True)


def _upload(folder: Path, environment: Any) -> None:
    script = (
        "import sys; from pipelines.storage import open_storage as o; a, b = map(o, sys.argv[1:]); "
        "[b.write(blob.name, a.read(blob.name)) for blob in a.list()]"
    )
    command = [sys.executable, "-c", script, folder.as_uri(), "az://raw"]
    subprocess.run(command, env=environment, cwd=_ROOT, check=True)


def _child(arguments: list[str], environment: Any, row: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.preprocess.child", *arguments],
        env=environment,
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process)
    answer, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{arguments[0]} ended with {process.returncode}")
    found = json.loads(answer.splitlines()[-1])
    return row | found | {"seconds": seconds, "peak_bytes": watch.peak_bytes}


def _report(rows: list[dict[str, Any]]) -> str:
    versions = rows[0]["versions"]
    lines = [
        "# Preprocessing",
        "",
        "`python -m tests.benchmarks.preprocess --publish` measures this and writes this file.",
        "",
        f"- hardware: {_processor()}, {os.cpu_count()} cores",
        f"- versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
        f"- time: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; load before: {rows[0]['load']:.2f}",
        "",
        "From raw Parquet, a file a day, to vocabulary, labelled histories, quarantine and report;",
        "start of the process and of Spark included. Memory is that of all processes together.",
        "",
        "| interactions | what | seconds | of it per million | interactions/s | memory, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        rate = 1e6 * row["millions"] / row["seconds"]
        lines.append(
            f"| {row['millions']:g} M | {row['what']} | {row['seconds']:.1f} | "
            f"{row['seconds'] / row['millions']:.2f} | {rate:,.0f} | "
            f"{row['peak_bytes'] / 1e9:.2f} |"
        )
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


if __name__ == "__main__":
    if shutil.which("java") is None:
        sys.exit("Spark needs Java: run `hyperrec doctor`.")
    main()
