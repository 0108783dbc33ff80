"""Cells of a reproduction that takes long: each computed once, by one of two processes, and kept.

Every finished cell is a line of a file, appended as it ends, so that a run that was stopped goes on
with those that lack.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hyperrec_core.analysis.workers import pool as pool_of

log = logging.getLogger(__name__)

Record = dict[str, Any]
"""What a cell came to, as JSON: `key`, `dataset`, `settings`, and metrics or a `problem`."""


class Cell(Protocol):
    """One thing to compute."""

    @property
    def key(self) -> str:
        """Changes with all that decides the result."""


Some = TypeVar("Some", bound=Cell)


def hold(cells: Iterable[Some], work: Callable[[Some], Record], kept: Path) -> dict[str, Record]:
    """The records of all cells by key; what is not kept yet is computed and kept.

    Args:
        cells: what is wanted; equal keys are one cell.
        work: a function that a process can be sent, with its arguments.
        kept: the file of lines; other cells' stay.
    """
    records = read(kept)
    lacking = {cell.key: cell for cell in cells if cell.key not in records}
    if not lacking:
        return records
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.is_file() and not kept.read_bytes().endswith(b"\n"):
        with kept.open("a", encoding="utf-8") as file:
            file.write("\n")  # after what a killed run left of a line
    with pool_of(2) as pool:
        running = [pool.submit(work, cell) for cell in lacking.values()]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                record = future.result()
                records[record["key"]] = record
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                log.info("%d of %d: %s", done, len(lacking), _words(record))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return records


def read(kept: Path) -> dict[str, Record]:
    """The cells kept by earlier runs; a line that a stopped run left broken is none."""
    records = {}
    for line in kept.read_text("utf-8").splitlines() if kept.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records[record["key"]] = record
    return records


def _words(record: Record) -> str:
    what = f"{record['dataset']}, {record['settings']['name']}"
    if "problem" in record:
        return f"{what}: {record['problem']}"
    return (
        f"{what}: HR@10 {record['hr_at_10']:.4f}, NDCG@10 {record['ndcg_at_10']:.4f}, "
        f"{record['seconds']:.0f} s"
    )
