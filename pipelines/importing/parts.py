"""Raw rows as Parquet parts, a folder a day.

A part is named by where its source file lies and by its own bytes, and one that is there already is
not written: importing a file again leaves every ETag as it was, and a nightly run, whose identity
hangs on ETags, knows its input again.

A file of another place adds to the days it touches, whatever its name. A file that was imported
before takes its old parts' place on those days when it still holds their rows; where it does not it
may be a correction or the next delivery under the same name, which only a person can tell.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import PipelineError, UsageError
from pipelines.importing.rows import DAY, RAW_SCHEMA
from pipelines.importing.sources import SourceFile
from pipelines.storage import Storage, write_if_changed

UNKNOWN: Final = "unknown"

# Rows of one day are gathered up to this many bytes of the whole file before they are written.
BUFFER_BYTES: Final = 128 << 20

# Small blobs cost a round trip each: some at once hide it, more only queue at the emulator.
WRITERS: Final = 8

SHOWN_DAYS: Final = 5

log = logging.getLogger(__name__)

_NamesOfDay = defaultdict[str, list[str]]


class Parts:
    """Writes the rows of one source file, in `interactions/dt=YYYY-MM-DD/`.

    Rows without a time go to `dt=unknown`. A file that outgrows the buffer gets several parts a
    day. Days that the file does not touch stay as they are.

    Attributes:
        rows: rows written or found written, by day ("unknown" without one).
        written: parts put.
        unchanged: parts that were there with the same bytes.
        replaced: rows of an earlier import of the file that it does not hold now, and that went.
    """

    def __init__(self, target: Storage, file: SourceFile, *, replace: bool) -> None:
        """Begin a source file.

        Args:
            target: the raw layout.
            file: whose rows come; its place names the parts.
            replace: whether rows that the file held before and does not hold now go.
        """
        self._target = target
        self._file = file
        self._replace = replace
        self._prefix = f"part-{_digest(file.place)[:16]}-"
        self._buffer: list[pa.RecordBatch] = []
        self._held = 0
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        self._new: list[str] = []
        self.rows: Counter[str] = Counter()
        self.written = 0
        self.unchanged = 0
        self.replaced = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take raw rows, oldest in the file first."""
        self._buffer.append(batch)
        self._held += batch.nbytes
        if self._held >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is held and remove the parts of an earlier import of the file.

        Raises:
            UsageError: rows would be lost, and `replace` is false; the file's days are then as
                they were.
            PipelineError: an earlier part cannot be read.
        """
        self._flush()
        if not self.rows:
            return
        # Nothing can be learned from rows without a time: a correction takes old ones along.
        days = {*self._names, UNKNOWN} if self._replace else {*self._names}
        earlier, unplaced = self._earlier(days)
        lost = Counter({day: self._lost(day, names) for day, names in earlier.items()})
        if lost.total() and not self._replace:
            for name in self._new:
                self._target.delete(name)
            raise UsageError(
                f"{self._file.address} was imported before, and now lacks {lost.total():,} of the "
                f"rows that it held then ({_shown(+lost)}): give --replace if it corrects them; if "
                "it is another delivery, import it from a folder of its own."
            )
        self.replaced = lost.total()
        for name in chain.from_iterable(earlier.values()):
            self._target.delete(name)
        for day, names in unplaced.items():
            if rows := self._lost(day, names):
                # They may be of another folder's file of this name.
                log.warning(
                    "%s stay in %s beside %s, which does not hold %d of their rows: remove them if "
                    "they are of the same file.",
                    ", ".join(names), self._target.url, self._file.address, rows,
                )  # fmt: skip
            else:
                for name in names:
                    self._target.delete(name)

    def _earlier(self, days: set[str]) -> tuple[_NamesOfDay, _NamesOfDay]:
        """Parts that other content of the file left, and those named by nothing but its name."""
        # As parts were named before their source's place counted.
        by_name = re.compile(rf"part-{_digest(self._file.name)[:8]}-\d+\.parquet")
        own: _NamesOfDay = defaultdict(list)
        unplaced: _NamesOfDay = defaultdict(list)
        for blob in self._target.list("interactions/dt="):
            folder, _, name = blob.name.rpartition("/")
            day = folder.removeprefix(folder_of(""))
            if day not in days:
                continue
            if name.startswith(self._prefix) and blob.name not in self._names[day]:
                own[day].append(blob.name)
            elif by_name.fullmatch(name):
                unplaced[day].append(blob.name)
        return own, unplaced

    def _lost(self, day: str, earlier: Sequence[str]) -> int:
        """How many rows of earlier parts the file does not hold on a day, each copy counted."""
        parts = [(1, name) for name in earlier] + [(-1, name) for name in self._names[day]]
        tables = [
            rows.append_column("surplus", pa.repeat(weight, len(rows)))
            for weight, rows in ((weight, self._read(name)) for weight, name in parts)
        ]
        groups = pa.concat_tables(tables).group_by(RAW_SCHEMA.names).aggregate([("surplus", "sum")])
        return int(pc.sum(pc.max_element_wise(groups["surplus_sum"], 0)).as_py())

    def _read(self, name: str) -> pa.Table:
        try:
            table = pq.read_table(pa.BufferReader(self._target.read(name)))
            return table.select(RAW_SCHEMA.names).cast(RAW_SCHEMA)
        except (pa.ArrowException, KeyError) as error:
            raise PipelineError(
                f"{name} in {self._target.url} is no part of an import: remove it and import again."
            ) from error

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.Table.from_batches(self._buffer)
        self._buffer, self._held = [], 0
        days = split_by_day(table)
        with ThreadPoolExecutor(WRITERS, "import-part") as pool:
            put = list(pool.map(lambda part: self._put(*part), days))
        for (day, rows), (name, changed) in zip(days, put, strict=True):
            self._names[day].append(name)
            self.rows[day] += rows.num_rows
            if changed:
                self._new.append(name)
        self.written = len(self._new)
        self.unchanged += len(put) - sum(changed for _, changed in put)

    def _put(self, day: str, rows: pa.Table) -> tuple[str, bool]:
        data = parquet_bytes(rows)
        number = len(self._names[day])
        # By its bytes as well: the parts of an earlier import stay whole beside it until all is in.
        digest = hashlib.sha256(data).hexdigest()[:8]
        name = f"{folder_of(day)}/{self._prefix}{number}-{digest}.parquet"
        return name, write_if_changed(self._target, name, data)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _shown(rows: Counter[str]) -> str:
    """The first days that lose rows."""
    days = [f"{day}: {rows[day]:,}" for day in sorted(rows)]
    return ", ".join(days[:SHOWN_DAYS]) + (", ..." if len(days) > SHOWN_DAYS else "")


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
