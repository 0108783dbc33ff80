"""Frames as Parquet parts below a storage: written by the workers, recorded by the driver.

Each task writes one part and returns its name, sha256, size and row count as a row, so that what
the driver records is exactly what finished tasks wrote. (A Spark data source writer would hand
its commit messages to a process of its own, from which they would have to come back as a file.)
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
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
    return _write(frame, attempt, name, schema, by=None, values=[""])


def write_parts_by(
    frame: DataFrame,
    attempt: Attempt,
    name: str,
    schema: pa.Schema,
    *,
    by: str,
    values: Sequence[str],
) -> int:
    """`write_parts` into ``<name>/<value>/``, by the value of a further column `by`.

    Args:
        frame: as in `write_parts`, with the column.
        attempt: as in `write_parts`.
        name: as in `write_parts`.
        schema: as in `write_parts`, without the column.
        by: name of the column.
        values: those it may have; each gets a part at least.
    """
    return _write(frame, attempt, name, schema, by=by, values=values)


def _write(
    frame: DataFrame,
    attempt: Attempt,
    name: str,
    schema: pa.Schema,
    *,
    by: str | None,
    values: Sequence[str],
) -> int:
    task = _part_writer(attempt.run.storage.url, attempt.folder, name, schema, by)
    parts = sorted(frame.mapInArrow(task, _PART).collect())
    for part in parts:
        attempt.adopt(part.name, sha256=part.sha256, size=part.size, rows=part.rows)
    for folder in (f"{name}/{value}".rstrip("/") for value in values):
        if not any(part.name.startswith(f"{folder}/") for part in parts):
            data = to_parquet(schema.empty_table())
            attempt.write(f"{folder}/part-00000.parquet", data, rows=0)
    return sum(part.rows for part in parts)


def to_parquet(table: pa.Table) -> bytes:
    """A table as one Parquet file; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _part_writer(
    url: str, attempt: str, name: str, schema: pa.Schema, by: str | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = [batch for batch in batches if batch.num_rows]
        if not rows:
            return
        table = pa.Table.from_batches(rows)
        context = TaskContext.get()
        assert context is not None  # noqa: S101  runs in a task
        # A repeated task must not overwrite a part that its first try may still be writing.
        tries = context.attemptNumber()
        suffix = f"-{tries}" if tries else ""
        storage = open_storage(url)
        values = [""] if by is None else sorted(pc.unique(table[by]).to_pylist())
        for value in values:
            own = table if by is None else table.filter(pc.equal(table[by], value))
            folder = f"{name}/{value}".rstrip("/")
            part = f"{folder}/part-{context.partitionId():05d}{suffix}.parquet"
            data = to_parquet(own.select(schema.names).cast(schema))
            storage.write(f"{attempt}/{part}", data)
            yield pa.RecordBatch.from_pylist(
                [
                    {
                        "name": part,
                        "sha256": hashlib.sha256(data).hexdigest(),
                        "size": len(data),
                        "rows": own.num_rows,
                    }
                ]
            )

    return write
