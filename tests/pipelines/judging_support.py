"""Nights whose first stages are copied from one that was trained, changed on the way."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hyperrec_core import artefact
from hyperrec_core.artefact import load_checkpoint, save_checkpoint
from hyperrec_core.fit import KEPT
from pipelines.profile import load_profile
from pipelines.runs import STAGES, Attempt, Manifest, Run, RunRecord
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.export import run_export
from pipelines.storage import Storage
from tests.pipelines.test_evaluate_stage import SMALL

FIRST = date(2024, 1, 9)

Change = Callable[[str, bytes], bytes]
"""An output's bytes by its name, as they should have been."""


@dataclass(frozen=True)
class Nights:
    """Where nights are kept, the trained run that they are made of, and what their input is."""

    model: Run
    storage: Storage
    source: str = "file:///raw"

    def prepared(self, number: int, *overrides: str, change: Change | None = None) -> Run:
        """A night so many days after the first, its first two stages done."""
        profile = load_profile("default", [*SMALL, "evaluate.minimum_ratio=0", *overrides])
        record = RunRecord.identify(
            as_of=FIRST + timedelta(days=number),
            source=self.source,
            listing=[],
            configuration=profile.model_dump(mode="json"),
        )
        run = Run.start(self.storage, record)
        for stage in STAGES[:2]:
            manifest = self.model.require(stage)

            def copy(attempt: Attempt, manifest: Manifest = manifest) -> dict[str, Any]:
                for output in manifest.outputs:
                    data = self.model.read(manifest.stage, output.name)
                    changed = change(output.name, data) if change else data
                    attempt.write(output.name, changed, rows=output.rows)
                return dict(manifest.metrics)

            run.finish(stage, copy)
        return run

    def judged(self, number: int, *overrides: str, change: Change | None = None) -> Run:
        run = self.prepared(number, *overrides, change=change)
        run_evaluate(run)
        return run

    def published(self, number: int, *overrides: str, change: Change | None = None) -> Run:
        run = self.judged(number, *overrides, change=change)
        run_export(run)
        return run


def verdicts(run: Run) -> dict[str, dict[str, Any]]:
    return {v["gate"]: v for v in run.require("evaluate").metrics["verdicts"]}


def with_table(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """A model whose items' points are others, in the checkpoint and as published."""

    def apply(name: str, data: bytes) -> bytes:
        if name == "checkpoint.safetensors":
            progress, tensors = load_checkpoint(data)
            tensors[f"{KEPT}target"] = change(tensors[f"{KEPT}target"].clone())
            return save_checkpoint(progress, tensors)
        if name == "items.parquet":
            return _with_target(data, change)
        return data

    return apply


def _with_target(data: bytes, change: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
    found = artefact.read_items(data)
    points = torch.from_numpy(found.target.copy())
    points[:, 0] *= -1  # as published, time is negated
    points = change(points)
    points[:, 0] *= -1
    flat = pa.array(points.numpy().reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, points.shape[1])
    table = pq.read_table(io.BytesIO(data))
    table = table.set_column(table.schema.get_field_index("target"), "target", lists)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def shuffled(points: torch.Tensor) -> torch.Tensor:
    """Good points of the wrong items: whole, and worthless."""
    return points[torch.from_numpy(np.random.default_rng(5).permutation(len(points)))]


def poisoned(points: torch.Tensor) -> torch.Tensor:
    points[3] = torch.nan
    return points


def off_sheet(points: torch.Tensor) -> torch.Tensor:
    points[3, 0] *= 1.01
    return points


def live(share: float) -> Change:
    """A catalogue of which only so many items are live."""

    def apply(name: str, data: bytes) -> bytes:
        if name != "vocabulary.parquet":
            return data
        table = pq.read_table(io.BytesIO(data))
        column = pa.array(np.arange(table.num_rows) < share * table.num_rows)
        table = table.set_column(table.schema.get_field_index("is_live"), "is_live", column)
        sink = io.BytesIO()
        pq.write_table(table, sink)
        return sink.getvalue()

    return apply
