"""Writing a synthetic shop into the raw layout: a file a day, the same whatever drew it.

Blocks of users are drawn in parallel into a spool, days are encoded from it in parallel, and this
process alone writes to the store. The files' bytes follow from the settings alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from types import TracebackType

import numpy as np

from pipelines.storage import Storage, write_if_changed
from pipelines.synthesise.catalogue import items_table
from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.dirt.drift import day_files
from pipelines.synthesise.dirt.kinds import KINDS, drift_days, plant
from pipelines.synthesise.dirt.ledger import LEDGER, Ledger
from pipelines.synthesise.events import DRAWN, by_day, draw_block, raw_rows, shelves
from pipelines.synthesise.formats import parquet_bytes
from pipelines.synthesise.latent import Ints, block_count
from pipelines.synthesise.record import Record
from pipelines.synthesise.spool import Spool
from pipelines.synthesise.workers import in_order, usual_processes, workers

_WRITERS = 8

# A day of more rows is several parts.
_PART_ROWS = 1 << 19

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """What a shop in the raw layout comes to.

    Attributes:
        files: of interactions and catalogue, dirt included.
        read: rows of interactions, as preprocess must read them.
        kept: rows of these that neither a rule nor a bad file may take.
        was_there: whether all of it was there before.
    """

    files: int
    read: int
    kept: int
    was_there: bool


def write_catalogue(
    config: CatalogueConfig,
    target: Storage,
    *,
    dirt: Mapping[str, float] | None = None,
    processes: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Written:
    """Write the interactions by day, the catalogue, dirt and its ledger.

    A shop that is there already is left alone; one that was begun is finished.

    Args:
        config: size, dates and seed.
        target: the raw layout.
        dirt: share by kind, of `dirt.kinds.parse_shares`.
        processes: that draw and encode, as many as there are cores by default; small shops take
            fewer. One is a thread of this process.
        progress: called with (steps done, steps in all).

    Raises:
        UsageError: something else is there, or the shop has too few days for its dirt.
        PipelineError: a process was killed, or the temporary folder is full.
    """
    shares = dict(dirt or {})
    if shares:
        drift_days(config, shares)
    record = Record(target, config, shares)
    if totals := record.made():
        return Written(**totals, was_there=True)
    record.begin()
    count = min(processes or usual_processes(), block_count(config))
    with (
        _Delivery(target) as delivery,
        Spool(config.days, DRAWN.itemsize) as spool,
        workers(count) as pool,
    ):
        job = _Job(config, shares, pool, delivery, _Steps(config, shares, progress), 2 * count)
        job.draw(spool)
        ledger = job.write_days(spool)
        job.plant(ledger)
        delivery.put("items/part-00000.parquet", parquet_bytes(items_table(config)))
        if shares:
            delivery.put(LEDGER, ledger.to_json())
    written = Written(len(delivery.sizes) - bool(shares), ledger.read, ledger.kept, was_there=False)
    record.finish(delivery.sizes, {k: v for k, v in asdict(written).items() if k != "was_there"})
    return written


@dataclass(frozen=True)
class _Job:
    config: CatalogueConfig
    shares: Mapping[str, float]
    pool: Executor
    delivery: _Delivery
    steps: _Steps
    ahead: int

    def draw(self, spool: Spool) -> None:
        tasks = ((self.config, block) for block in range(block_count(self.config)))
        for rows, counts in in_order(self.pool, _draw, tasks, ahead=self.ahead):
            spool.add(rows, counts)
            self.steps.advance()

    def write_days(self, spool: Spool) -> Ledger:
        ledger = Ledger(self.config)
        kinds = drift_days(self.config, self.shares, spool.rows) if self.shares else {}
        numbers = np.flatnonzero(spool.rows).tolist()
        tasks = ((self.config, number, spool.day(number), kinds.get(number)) for number in numbers)
        found = in_order(self.pool, _encode, tasks, ahead=self.ahead)
        for number, files in zip(numbers, found, strict=True):
            for name, data in files:
                self.delivery.put(name, data)
            if number in kinds:
                names = [name for name, _ in files]
                ledger.add_day(kinds[number], names, int(spool.rows[number]))
            self.steps.advance()
        return ledger

    def plant(self, ledger: Ledger) -> None:
        names = [name for name in self.shares if KINDS[name].plant is not None]
        tasks = ((self.config, name, self.shares[name]) for name in names)
        for name, planted in zip(
            names, in_order(self.pool, plant, tasks, ahead=self.ahead), strict=True
        ):
            for file, data in planted.files:
                self.delivery.put(file, data)
            ledger.add(name, planted)
            self.steps.advance()


class _Steps:
    """Counts blocks, days and kinds as they are done."""

    def __init__(
        self, config: CatalogueConfig, shares: Mapping[str, float], progress: Progress
    ) -> None:
        self._done = 0
        self._total = block_count(config) + config.days + len(shares)
        self._progress = progress

    def advance(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


class _Delivery:
    """Puts files, some at once, and keeps their sizes.

    Attributes:
        sizes: bytes by name of all that was put.
    """

    def __init__(self, target: Storage) -> None:
        self.sizes: dict[str, int] = {}
        self._target = target
        self._pool = ThreadPoolExecutor(_WRITERS, "synthesise-write")
        self._waiting: deque[Future[bool]] = deque()

    def __enter__(self) -> _Delivery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while self._waiting and error is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def put(self, name: str, data: bytes) -> None:
        self.sizes[name] = len(data)
        self._waiting.append(self._pool.submit(write_if_changed, self._target, name, data))
        while len(self._waiting) > 4 * _WRITERS:
            self._waiting.popleft().result()


_on_sale = lru_cache(maxsize=1)(shelves)


def _draw(config: CatalogueConfig, block: int) -> tuple[bytes, Ints]:
    """A block's rows, as they are spooled, and how many there are of each day."""
    drawn = draw_block(config, _on_sale(config), block)
    return drawn.tobytes(), np.diff(by_day(config, drawn))


def _encode(
    config: CatalogueConfig, number: int, rows: bytes, drift: str | None
) -> list[tuple[str, bytes]]:
    """A day's files from its spooled rows, block after block."""
    drawn = np.frombuffer(rows, DRAWN)
    table = raw_rows(config, _on_sale(config), drawn[np.argsort(drawn["time"], kind="stable")])
    rng = np.random.default_rng([config.seed, 8, number])
    day = config.first_day + timedelta(days=number)
    return [
        file
        for part, start in enumerate(range(0, table.num_rows, _PART_ROWS))
        for file in day_files(day, part, table.slice(start, _PART_ROWS), drift, rng)
    ]
