"""Writing a synthetic catalogue into the raw layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage import Storage, write_if_changed
from pipelines.synthesise.catalogue import items_table
from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.events import interactions

_WRITERS = 8


def write_catalogue(config: CatalogueConfig, target: Storage) -> int:
    """Write the interactions by day and the catalogue; the same configuration leaves blobs alone.

    Returns:
        How many interactions were written or found as they would be.
    """
    rows = 0

    def files() -> Iterator[tuple[str, pa.Table]]:
        parts: Counter[str] = Counter()
        for day, table in interactions(config):
            folder = f"interactions/dt={day.isoformat()}"
            yield f"{folder}/part-{parts[folder]:05d}.parquet", table
            parts[folder] += 1

    with ThreadPoolExecutor(_WRITERS) as pool:
        waiting = []
        for name, table in files():
            rows += table.num_rows
            waiting.append(pool.submit(write_if_changed, target, name, _parquet(table)))
            while len(waiting) > 4 * _WRITERS:
                waiting.pop(0).result()
        for each in waiting:
            each.result()
    write_if_changed(target, "items/part-00000.parquet", _parquet(items_table(config)))
    return rows


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
