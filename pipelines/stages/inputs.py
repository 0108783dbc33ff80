"""What the later stages read: the vocabulary, the labelled histories, an earlier run's model."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperrec_core import artefact, warm
from hyperrec_core.histories import Histories
from hyperrec_core.models import ModelConfig
from pipelines.runs import Attempt, Run


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
    """The histories of a split: `train`, `validation` or `test`."""
    return Histories.from_tables(_tables(attempt, split), items=items)


def read_interactions(attempt: Attempt) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Item and time, in seconds, of every training interaction, in no order."""
    table = pa.concat_tables(_tables(attempt, "train"))
    items, times = (pc.list_flatten(table[name]).to_numpy() for name in ("items", "times"))
    return items, times


def _tables(attempt: Attempt, split: str) -> list[pa.Table]:
    manifest = attempt.run.require("preprocess")
    names = [o.name for o in manifest.outputs if o.name.startswith(f"histories/{split}/")]
    return [_read(attempt, name) for name in sorted(names)]


def _read(attempt: Attempt, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(attempt.read("preprocess", name)))
