"""Frames as Parquet parts below a storage: written by the workers, recorded by the driver.

Each task writes one part and returns its name, sha256, size and row count as a row, so that what
the driver records is exactly what finished tasks wrote. (A Spark data source writer would hand
its commit messages to a process of its own, from which they would have to come back as a file.)
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext

from pipelines.storage import open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.runs import Attempt

_PART = "name string, sha256 string, size long, rows long"


def write_parts(frame: DataFrame, attempt: Attempt, name: str, schema: pa.Schema) -> int:
    """Write a frame as ``<name>/part-NNNNN.parquet``, one a non-empty partition, at least one.

    Args:
        frame: what to write.
        attempt: whose folder gets the parts and whose outputs will name them.
        name: folder within the attempt.
        schema: the contract's Arrow schema; the frame's columns are cast to it in its order.

    Returns:
        Rows written.
    """
    task = _part_writer(attempt.run.storage.url, attempt.folder, name, schema)
    parts = sorted(frame.mapInArrow(task, _PART).collect())
    for part in parts:
        attempt.adopt(part.name, sha256=part.sha256, size=part.size, rows=part.rows)
    if not parts:
        attempt.write(f"{name}/part-00000.parquet", to_parquet(schema.empty_table()), rows=0)
    return sum(part.rows for part in parts)


def to_parquet(table: pa.Table) -> bytes:
    """A table as one Parquet file; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _part_writer(
    url: str, folder: str, name: str, schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = [batch for batch in batches if batch.num_rows]
        if not rows:
            return
        table = pa.Table.from_batches(rows).select(schema.names).cast(schema)
        data = to_parquet(table)
        context = TaskContext.get()
        assert context is not None  # noqa: S101  runs in a task
        # A repeated task must not overwrite a part that its first try may still be writing.
        tries = context.attemptNumber()
        suffix = f"-{tries}" if tries else ""
        part = f"{name}/part-{context.partitionId():05d}{suffix}.parquet"
        open_storage(url).write(f"{folder}/{part}", data)
        yield pa.RecordBatch.from_pylist(
            [
                {
                    "name": part,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "rows": table.num_rows,
                }
            ]
        )

    return write
