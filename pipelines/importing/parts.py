"""Raw rows as Parquet parts, a folder a day.

A part's name and bytes follow from the source file alone, and a part that is there already is not
written: importing a file again leaves every ETag as it was, and a nightly run, whose identity
hangs on ETags, knows its input again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.importing.rows import DAY
from pipelines.storage import Storage, write_if_changed

UNKNOWN: Final = "unknown"

# Rows of one day are gathered up to this many bytes of the whole file before they are written.
BUFFER_BYTES: Final = 128 << 20

# Small blobs cost a round trip each: some at once hide it, more only queue at the emulator.
WRITERS: Final = 8


class Parts:
    """Writes the rows of one source file, in `interactions/dt=YYYY-MM-DD/`.

    Rows without a time go to `dt=unknown`. A file that outgrows the buffer gets several parts a
    day; each day that it touches then holds these parts of it and no others, so that a corrected
    file replaces what an earlier file of its name left there. Days it does not touch stay.

    Attributes:
        rows: rows written or found written, by day ("unknown" without one).
        written: parts put.
        unchanged: parts that were there with the same bytes.
    """

    def __init__(self, target: Storage, name: str) -> None:
        """Begin a source file.

        Args:
            target: the raw layout.
            name: the file's name below the source, from which the parts are named.
        """
        self._target = target
        self._prefix = f"part-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        self._buffer: list[pa.RecordBatch] = []
        self._held = 0
        self._parts_of_day: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.written = 0
        self.unchanged = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take raw rows, oldest in the file first."""
        self._buffer.append(batch)
        self._held += batch.nbytes
        if self._held >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is held and remove parts that an earlier file of this name left behind."""
        self._flush()
        if not self.rows:
            return
        valid = {
            f"{folder_of(day)}/{self._prefix}-{number}.parquet"
            for day, count in self._parts_of_day.items()
            for number in range(count)
        }
        # Nothing can be learned from rows without a time, so old ones always go.
        days = {folder_of(day) for day in {*self._parts_of_day, UNKNOWN}}
        for blob in list(self._target.list("interactions/dt=")):
            folder, _, name = blob.name.rpartition("/")
            if folder in days and name.startswith(self._prefix) and blob.name not in valid:
                self._target.delete(blob.name)

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.Table.from_batches(self._buffer)
        self._buffer, self._held = [], 0
        jobs: list[Callable[[], bool]] = []
        for day, rows in split_by_day(table):
            name = f"{folder_of(day)}/{self._prefix}-{self._parts_of_day[day]}.parquet"
            self._parts_of_day[day] += 1
            self.rows[day] += rows.num_rows
            jobs.append(self._job(name, rows))
        with ThreadPoolExecutor(WRITERS, "import-part") as pool:
            changed = list(pool.map(lambda job: job(), jobs))
        self.written += sum(changed)
        self.unchanged += len(changed) - sum(changed)

    def _job(self, name: str, rows: pa.Table) -> Callable[[], bool]:
        return lambda: write_if_changed(self._target, name, parquet_bytes(rows))


def folder_of(day: str) -> str:
    """The folder of a day's interactions."""
    return f"interactions/dt={day}"


def split_by_day(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """The rows by the day of their `event_time` (UTC), days in order, "unknown" last.

    Rows of a day keep their order.
    """
    times = table["event_time"].cast(pa.int64())
    dated = pc.is_valid(times).to_numpy()
    microseconds = pc.fill_null(times, 0).to_numpy()
    days = np.where(dated, microseconds // DAY, np.iinfo(np.int64).max)
    order = np.argsort(days, kind="stable")
    table, days = table.take(pa.array(order)), days[order]
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    ends = np.append(starts[1:], len(days))
    return [
        (_name(int(days[start])), table.slice(start, end - start))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _name(day: int) -> str:
    if day == np.iinfo(np.int64).max:
        return UNKNOWN
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return bytes(sink.getvalue())
