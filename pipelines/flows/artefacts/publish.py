"""Artefacts of the present flow run: each once, however often the run is resumed.

A server that is away, or an output that cannot be read, costs the picture and not the night.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from pipelines.errors import PipelineError
from pipelines.flows.api import call
from pipelines.flows.artefacts import markdown, pictures
from pipelines.preprocess.report import Report
from pipelines.runs import Run, StageName

log = logging.getLogger(__name__)


def of_stage(run: Run, stage: StageName) -> None:
    """Publish what a finished stage of a run has to show, unless this flow run has already."""
    with _harmless(stage):
        shown = _shown()
        for key, make in _MAKERS[stage].items():
            if key not in shown:
                make(run, key)


def as_markdown(key: str, text: str) -> None:
    """Publish a text, also once more under the same key."""
    with _harmless(key):
        create_markdown_artifact(text, key=key)


@contextmanager
def _harmless(what: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, PrefectException, PipelineError, OSError) as error:
        log.warning("The artefacts of %s are not shown: %s", what, error)


def _shown() -> set[str]:
    """Keys of the artefacts that this flow run has."""
    with get_client(sync_client=True) as client:
        # Its own method sends nulls that the server refuses.
        wanted = {"artifacts": {"flow_run_id": {"any_": [flow_run.id]}}}
        found = call(client, "POST", "/artifacts/filter", wanted)
    return {artefact["key"] for artefact in found}


def _data_report(run: Run, key: str) -> None:
    report = Report.from_json(run.read("preprocess", "report.json"))
    create_markdown_artifact(
        markdown.data_report(report, run=run), key=key, description=f"Input of run {run.run_id}"
    )


def _training(run: Run, key: str) -> None:
    manifest = run.require("train")
    epochs = json.loads(run.read("train", "epochs.json"))["epochs"]
    shown = [pictures.embedded(pictures.loss_curve(epochs), "Loss and validation by epoch")]
    if any(output.name == "items.png" for output in manifest.outputs):
        disc = pictures.small(run.read("train", "items.png"))
        shown.append(pictures.embedded(disc, "Items on the Poincaré disc"))
    create_markdown_artifact(
        markdown.training(manifest, shown), key=key, description=f"Training of run {run.run_id}"
    )


def _metrics(run: Run, key: str) -> None:
    rows = markdown.metric_rows(run.require("evaluate").metrics)
    words = f"Test metrics of run {run.run_id}, with 95 % intervals over users"
    create_table_artifact(rows, key=key, description=words)


def _gates(run: Run, key: str) -> None:
    rows = markdown.verdict_rows(run.require("evaluate").metrics)
    create_table_artifact(rows, key=key, description=f"What the gates said of run {run.run_id}")


def _export(run: Run, key: str) -> None:
    create_markdown_artifact(
        markdown.exported(run.require("export")), key=key, description=f"Export of {run.run_id}"
    )


_MAKERS: dict[StageName, dict[str, Callable[[Run, str], None]]] = {
    "preprocess": {"data-report": _data_report},
    "train": {"training": _training},
    "evaluate": {"metrics": _metrics, "gates": _gates},
    "export": {"export": _export},
}
