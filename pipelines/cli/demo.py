"""`hyperrec demo`: the main job from raw rows to recommendations on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.app import app
from pipelines.cli.importing import import_and_print
from pipelines.cli.run import run_flow
from pipelines.cli.runs import fetch
from pipelines.cli.serving import recommend, similar, status
from pipelines.cli.show import console, print_run
from pipelines.cli.synthesise import synthesise
from pipelines.errors import UsageError
from pipelines.settings import Environment

if TYPE_CHECKING:
    from pipelines.runs import Run


@dataclass(frozen=True)
class _Plan:
    """What a demo runs on: where the raw layout is, and up to when and how to run."""

    raw: str
    as_of: date
    profile: str


@app.command()
def demo() -> None:
    """Run the whole job here: on the file or folder in HYPERREC_DATA, or on a synthetic shop."""
    started = time.monotonic()
    blobs = _blobs_url()
    data = os.environ.get("HYPERREC_DATA")
    plan = _import(data, blobs) if data else _synthesise(blobs)
    runs = f"{blobs}/runs" if "://" not in blobs else "az://runs"
    as_of = datetime.combine(plan.as_of, datetime.min.time())
    settings = _of_another_shop() if _serves_another(plan.raw, runs) else None
    run_id = run_flow(plan.raw, as_of, profile=plan.profile, settings=settings, runs=runs)
    print_run(run_id, runs)
    fetch(run_id, "items.png", to=Environment().hyperrec_home / "items.png", runs=runs)
    status()
    _ask(run_id, runs)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. ", end="")
    if "COSMOS_ENDPOINT" not in os.environ:
        console.print("The local services run on until `make down`; ask them about other items.")


def _serves_another(raw: str, runs: str) -> bool:
    """Whether what is active was made of another input: an earlier demo's shop, most likely."""
    from pipelines.settings import cosmos_account  # noqa: PLC0415
    from pipelines.stages.active import control_of  # noqa: PLC0415
    from pipelines.start import open_run  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415

    active = control_of(cosmos_account()).active
    if active is None:
        return False
    try:
        return open_run(active.run_id, runs).record.input != open_storage(raw).url
    except UsageError:
        return True


def _of_another_shop() -> list[str]:
    """Settings without the gates that hold a night against the one before."""
    console.print("Another shop's version is active: this one is not held against it.")
    return ["evaluate.gates.against_active=false", "evaluate.gates.approve_input=[]"]


def _blobs_url() -> str:
    """Where the demo keeps its blobs: a configured account, local Azurite, or a folder."""
    from infra.local import services  # noqa: PLC0415

    env = Environment()
    account = env.azure_storage_account_url or env.azure_storage_connection_string
    local = None
    if account is None or env.cosmos_endpoint is None:
        local = services.up(env.hyperrec_home)
    if account is not None or (local is not None and local.blob_endpoint is not None):
        return "az://raw"
    folder = (env.hyperrec_home / "blobs").resolve()
    console.print(f"Without Node there is no Azurite here: blobs are kept in the folder {folder}.")
    return str(folder)


def _synthesise(blobs: str) -> _Plan:
    last_day = date(2024, 6, 30)
    raw = f"{blobs}/synthetic"
    console.print("HYPERREC_DATA is not set: a synthetic shop is drawn from a hyperbolic space.")
    synthesise(to=raw, last_day=datetime.combine(last_day, datetime.min.time()))
    return _Plan(raw, last_day, "default")


def _import(data: str, blobs: str) -> _Plan:
    from pipelines.importing import fitting_mapping  # noqa: PLC0415
    from pipelines.profile import profile_names  # noqa: PLC0415

    if not Path(data).exists():
        raise UsageError(
            f"HYPERREC_DATA names {data}, which is not there: give a file or a folder."
        )
    mapping = fitting_mapping(data)
    path = str(Path(data).resolve())
    # Each source has a raw layout of its own: two retailers in one would be taken for one.
    place = f"{Path(path).stem}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    console.print(f"Importing {data} with the mapping {mapping}.")
    report = import_and_print(path, mapping=mapping, to=f"{blobs}/{place}", replace=True)
    if report.last_day is None:
        raise UsageError(f"No row of {data} has a usable time: check the mapping {mapping}.")
    profile = mapping if mapping in profile_names() else "leave-last-out"
    return _Plan(f"{blobs}/{place}", report.last_day, profile)


def _ask(run_id: str, runs: str) -> None:
    """Recommendations for the first test user, and items similar to that user's last."""
    from pipelines.start import open_run  # noqa: PLC0415

    history = _first_test_history(open_run(run_id, runs))
    command = f"hyperrec recommend --user-history {','.join(history)}"
    console.print(f"\n$ [bold]{command}[/bold]")
    recommend(history=",".join(history), k=5)
    console.print(f"\n$ [bold]hyperrec similar {history[-1]}[/bold]")
    similar(item=history[-1], k=5)


def _first_test_history(run: Run) -> list[str]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    def table(name: str) -> Any:
        return pq.read_table(io.BytesIO(run.read("preprocess", name)))

    outputs = run.require("preprocess").outputs
    parts = sorted(o.name for o in outputs if o.name.startswith("histories/test/") and o.rows)
    first = table(parts[0]).slice(0, 1).to_pylist()[0]
    ids = table("vocabulary.parquet").sort_by("item")["item_id"].to_pylist()
    label = first["is_label"].index(True)
    earlier = [
        i for i, t in zip(first["items"], first["times"], strict=True) if t < first["times"][label]
    ]
    return [ids[item] for item in earlier[-3:]]
