"""What training leaves behind: `items.parquet`, `model.json` and safetensors checkpoints.

`items.parquet` holds the vectors as they are published: `target` is the item vector for maximum
inner product search, `context` stands for the item inside a history where a model keeps two
tables. No pickles, in or out.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from hyperrec_core.fit import KEPT, Checkpoint, Progress

_FORMAT = 2
"""Of checkpoints. 1, which does not say so, knows no part of an epoch; it is read as well."""


class ArtefactError(ValueError):
    """A stored artefact cannot be read."""


@dataclass(frozen=True)
class ItemVectors:
    """The published side of a model.

    Attributes:
        item_ids: by dense id.
        target: item vectors, float32 [items, K].
        context: vectors of items in histories where they differ, float32 [items, K].
    """

    item_ids: list[str]
    target: NDArray[np.float32]
    context: NDArray[np.float32] | None


def items_table(target: Tensor, context: Tensor | None, item_ids: list[str]) -> pa.Table:
    """`items.parquet`: item int32, item_id, target and context float32 lists.

    Args:
        target: a model's item vectors, [items, K].
        context: those of items in a history where they differ, [items, K].
        item_ids: by dense id.
    """
    columns: dict[str, Any] = {
        "item": pa.array(range(len(item_ids)), pa.int32()),
        "item_id": pa.array(item_ids, pa.string()),
        "target": _to_lists(target),
    }
    if context is not None:
        columns["context"] = _to_lists(context)
    return pa.table(columns)


def read_items(data: bytes) -> ItemVectors:
    """The vectors in the bytes of an `items.parquet`."""
    table = pq.read_table(io.BytesIO(data))
    context = _to_matrix(table["context"]) if "context" in table.column_names else None
    return ItemVectors(table["item_id"].to_pylist(), _to_matrix(table["target"]), context)


def save_checkpoint(progress: Progress, tensors: dict[str, Tensor]) -> bytes:
    """Progress and tensors as one safetensors blob."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry alone: safetensors writes several in any order, and equal states in other bytes.
    return bytes(
        save_tensors(plain, {"progress": json.dumps({"format": _FORMAT} | progress.to_json())})
    )


def load_checkpoint(data: bytes) -> Checkpoint:
    """The progress and tensors of `save_checkpoint`; raises `ArtefactError`."""
    try:
        # A safetensors file starts with the length of its JSON header, which holds our metadata.
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        found = json.loads(header["__metadata__"]["progress"])
        if (written := found.get("format", 1)) <= _FORMAT:
            return Progress.from_json(found), load_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"The checkpoint cannot be read: {error}") from error
    raise ArtefactError(
        f"The checkpoint is of format {written} and this version of hyperrec reads formats up to "
        f"{_FORMAT}: use the version that wrote it, or a later one."
    )


def best_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors after its best epoch, out of a checkpoint's."""
    return {
        name.removeprefix(KEPT): tensor for name, tensor in tensors.items() if name.startswith(KEPT)
    }


def _to_lists(vectors: Tensor) -> pa.FixedSizeListArray:
    matrix = vectors.detach().cpu().numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _to_matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    flat: NDArray[np.float32] = array.flatten().to_numpy()
    return flat.reshape(len(array), -1)
