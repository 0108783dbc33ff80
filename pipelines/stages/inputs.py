"""What the later stages read: the vocabulary, the labelled histories, an earlier run's model."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperrec_core import artefact, features, warm
from hyperrec_core.histories import POSITION_BYTES, Histories
from hyperrec_core.models import ModelConfig
from pipelines.preprocess.features import FILE as FEATURES
from pipelines.preprocess.limits import Verdict
from pipelines.preprocess.report import Report
from pipelines.profile import Profile
from pipelines.runs import Attempt, Run

_SHARE_OF_MEMORY = 0.25
"""Histories larger than this share of the machine's memory are mapped from files: the rest is for
the model, its gradients' state and the batches ahead."""


@dataclass(frozen=True)
class Vocabulary:
    """Items of a run, by dense id."""

    item_ids: list[str]
    counts: NDArray[np.int64]
    categories: list[tuple[str, ...]]
    is_live: NDArray[np.bool_]
    titles: list[str | None]

    def __len__(self) -> int:
        return len(self.item_ids)


def read_vocabulary(attempt: Attempt, *, untrained: bool = False) -> Vocabulary:
    """The vocabulary that the preprocess stage of the attempt's run wrote.

    Args:
        attempt: of a later stage.
        untrained: whether to add the items without interactions, which come after the others and
            take no part in training and evaluation.
    """
    table = _read(attempt, "vocabulary.parquet").sort_by("item")
    if not untrained:
        table = table.filter(pc.greater(table["count"], 0))
    return Vocabulary(
        item_ids=table["item_id"].to_pylist(),
        counts=table["count"].to_numpy(),
        categories=[tuple(path or ()) for path in table["category"].to_pylist()],
        is_live=np.array(table["is_live"].to_pylist(), dtype=bool),
        titles=table["title"].to_pylist(),
    )


def read_features(attempt: Attempt, vocabulary: Vocabulary) -> NDArray[np.float32] | None:
    """What the trained items are like: the catalogue's vectors, or else its categories. [n, F].

    None where the catalogue has neither.
    """
    outputs = attempt.run.require("preprocess").outputs
    if any(output.name == FEATURES for output in outputs):
        column = _read(attempt, FEATURES).sort_by("item")["features"].combine_chunks()
        return features.of_vectors(column.slice(0, len(vocabulary)))
    found = features.of_categories(vocabulary.categories)
    return found if found.shape[1] else None


def publishable(vocabulary: Vocabulary, profile: Profile) -> NDArray[np.int64]:
    """Dense ids of the items that are published, of those of a whole vocabulary."""
    if profile.export.live_only:
        return np.flatnonzero(vocabulary.is_live)
    return np.arange(len(vocabulary))


def read_input_verdicts(attempt: Attempt) -> tuple[Verdict, ...]:
    """What the data report said of the input; nothing of a run that has no report."""
    manifest = attempt.run.require("preprocess")
    if not any(output.name == "report.json" for output in manifest.outputs):
        return ()
    return Report.from_json(attempt.read("preprocess", "report.json")).verdicts


def read_earlier(attempt: Attempt, run: Run, config: ModelConfig) -> warm.Earlier:
    """The model of another run that is trained, noted as an input of this one."""

    def read(name: str) -> bytes:
        sha256 = run.require("train").output(name).sha256
        attempt.inputs[f"{run.run_id}/train/{name}"] = sha256
        return run.read("train", name)

    _, tensors = artefact.load_checkpoint(read("checkpoint.safetensors"))
    item_ids = artefact.read_items(read("items.parquet")).item_ids
    return warm.Earlier(config, artefact.best_state(tensors), item_ids)


def read_histories(attempt: Attempt, split: str, *, items: int) -> Histories:
    """The histories of a split: `train`, `validation` or `test`.

    A set too large for the memory of this machine is mapped from files in the folder of temporary
    files (TMPDIR). They have no name any more when this returns, so that their space comes free
    with the histories, however the process ends.

    Raises:
        HistoriesError: a part does not keep the contract of labelled histories.
    """
    with tempfile.TemporaryDirectory(prefix="hyperrec-") as name:
        folder = Path(name)
        parts = []
        for number, part in enumerate(_parts(attempt, split)):
            parts.append(folder / f"part-{number:05d}.parquet")
            parts[-1].write_bytes(attempt.read("preprocess", part))
        positions = sum(_positions(part) for part in parts)
        large = positions * POSITION_BYTES > _SHARE_OF_MEMORY * _physical_memory()
        return Histories.from_parquet(parts, items=items, spool=folder if large else None)


def read_interactions(attempt: Attempt) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Item and time, in seconds, of every training interaction, in no order."""
    columns = ["items", "times"]
    table = pa.concat_tables(_read(attempt, part, columns) for part in _parts(attempt, "train"))
    items, times = (pc.list_flatten(table[name]).to_numpy() for name in columns)
    return items, times


def _parts(attempt: Attempt, split: str) -> list[str]:
    """Names of the parts of a split's histories."""
    manifest = attempt.run.require("preprocess")
    return sorted(o.name for o in manifest.outputs if o.name.startswith(f"histories/{split}/"))


def _read(attempt: Attempt, name: str, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(io.BytesIO(attempt.read("preprocess", name)), columns=columns)


def _positions(part: Path) -> int:
    """How many interactions a part has, by its footer; an empty history counts as one."""
    file = pq.read_metadata(part)
    groups = [file.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    return sum(c.num_values for c in columns if c.path_in_schema.startswith("items."))


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
