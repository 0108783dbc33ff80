"""Rows on their way from blocks of users to days: a file without a name.

Users are drawn block by block, files are written day by day, and the whole need not fit into
memory. The file has no name, so that nothing of it is left however the command ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import PipelineError


class Spool:
    """Takes blocks of rows in order of time, gives back days.

    Attributes:
        rows: int64[days], rows taken of each day.
    """

    def __init__(self, days: int, row_bytes: int) -> None:
        """Begin.

        Args:
            days: trading days, numbered from 0.
            row_bytes: size of a row.
        """
        self.rows = np.zeros(days, dtype=np.int64)
        self._row_bytes = row_bytes
        self._blocks: list[tuple[int, NDArray[np.int64]]] = []
        self._file = tempfile.TemporaryFile(prefix="hyperrec-synthesise-")  # noqa: SIM115

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A full disk has been told of already; closing would write, and fail, once more.
        with contextlib.suppress(OSError):
            self._file.close()

    def add(self, rows: bytes, by_day: NDArray[np.int64]) -> None:
        """Take a block.

        Args:
            rows: the rows, day after day.
            by_day: int64[days], how many there are of each day.

        Raises:
            PipelineError: the disk is full.
        """
        start = self._file.tell()
        try:
            self._file.write(rows)
            self._file.flush()
        except OSError as error:
            raise PipelineError(
                f"Cannot keep drawn rows in {tempfile.gettempdir()}: {error.strerror}; set TMPDIR "
                "to a folder with more free space."
            ) from error
        ends = start + np.cumsum(by_day) * self._row_bytes
        self._blocks.append((start, ends))
        self.rows += by_day

    def day(self, number: int) -> bytes:
        """All rows of a day, block after block."""
        parts = []
        for start, ends in self._blocks:
            first = int(ends[number - 1]) if number else start
            parts.append(os.pread(self._file.fileno(), int(ends[number]) - first, first))
        return b"".join(parts)
