"""Compiled passes that put the rows of a Parquet batch where they belong in flat arrays.

A batch holds rows in the order of its file; `place` gives the number of each in the order of the
result. Everything a row must keep to is checked while it is copied, without temporary arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from hyperrec_core.kernels.compiled import kernel

_ROWS_AT_ONCE = 1 << 16
"""Rows of a batch: some 50 MB of raw columns at 30 interactions a user."""

FALLS, LONELY = 1, 2
"""What `mark_labels` finds wrong: times that fall, a label with nothing strictly earlier."""


def columns_of(part: pa.Table | Path) -> pa.Schema:
    """Names and types of a part's columns."""
    return part.schema if isinstance(part, pa.Table) else pq.read_schema(part)


def batches(part: pa.Table | Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a part, so many rows at a time, in its order."""
    if isinstance(part, pa.Table):
        yield from part.select(columns).to_batches(max_chunksize=_ROWS_AT_ONCE)
    else:
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)


def flatten(column: pa.Array, kind: pa.DataType) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """Values and offsets, int64 [rows + 1], of a column of lists; None where it has nulls.

    Raises:
        pa.ArrowInvalid: a value is none of that kind, or the column holds no lists.
    """
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise pa.ArrowInvalid(f"the column holds {column.type} and not lists")
    values = column.flatten()
    if column.null_count or values.null_count:
        return None
    flat = values.cast(kind).to_numpy(zero_copy_only=False)
    flat.setflags(write=False)  # as Arrow's own memory is: one type for the compiler, not two
    offsets = column.offsets.to_numpy().astype(np.int64)
    return flat, offsets - offsets[0]


def allocate(shape: int, dtype: DTypeLike, path: Path | None) -> NDArray[Any]:
    """An array to be filled: memory-mapped from a new .npy file where a path is given."""
    if path is None:
        return np.empty(shape, dtype)
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(shape,))
    return mapped.view(np.ndarray)


@kernel
def copy_rows(
    values: NDArray[Any],
    source: NDArray[np.int64],
    place: NDArray[np.int64],
    offsets: NDArray[np.int64],
    limit: int,
    target: NDArray[Any],
) -> int:
    """Copy the rows of a batch to their places.

    Args:
        values: the batch, row after row.
        source: where each row starts in `values`, [rows + 1].
        place: the number of each row in the result, [rows].
        offsets: where each row of the result starts in `target`.
        limit: values are from 0 to below this.
        target: the result; rows that are not in the batch are left alone.

    Returns:
        The place in `values` of one that is out of range, or -1.
    """
    for row in range(len(place)):
        shift = offsets[place[row]] - source[row]
        for position in range(source[row], source[row + 1]):
            value = values[position]
            if value < 0 or value >= limit:
                return position
            target[position + shift] = value
    return -1


@kernel
def mark_labels(
    times: NDArray[np.int64],
    is_label: NDArray[np.bool_],
    source: NDArray[np.int64],
    place: NDArray[np.int64],
    offsets: NDArray[np.int64],
    first_label: NDArray[np.int64],
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[int, int]:
    """Write the row, the position and the end of the history of every label of a batch.

    Args:
        times: of the batch's positions, row after row.
        is_label: likewise.
        source: where each row starts in these, [rows + 1].
        place: the number of each row in the result, [rows].
        offsets: where each row of the result starts among its positions.
        first_label: where each row of the result starts among its labels.
        rows: the result's row of each label.
        positions: where each label stands.
        ends: the first position of the label's row that has the label's time.

    Returns:
        0, or `FALLS` or `LONELY`, and the row of the batch where that is so.
    """
    for row in range(len(place)):
        start = source[row]
        shift = offsets[place[row]] - start
        label = first_label[place[row]]
        tie = start
        for position in range(start, source[row + 1]):
            if position > start:
                if times[position] < times[position - 1]:
                    return FALLS, row
                if times[position] > times[position - 1]:
                    tie = position
            if is_label[position]:
                if tie == start:
                    return LONELY, row
                rows[label] = place[row]
                positions[label] = position + shift
                ends[label] = tie + shift
                label += 1
    return 0, 0
