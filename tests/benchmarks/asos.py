"""Labelled histories of the size of the paper's ASOS set, from the project's own generator.

Every event of the synthetic shop counts as a purchase, so that a set of so many interactions has so
many positions, and every position but those of a user's first moment is a training label. The
preprocess stage would make the same of such input; here no Spark is needed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.synthesise import CatalogueConfig, block_count, block_interactions, shelves
from pipelines.synthesise.events import Shelves

INTERACTIONS, USERS, ITEMS = 28_000_000, 1_000_000, 132_399
"""Size of the set of Chamberlain et al. 2019, section 5."""

_VERSION = 1  # of what the files hold
_DAYS, _LAST_DAY, _SEED = 365, date(2019, 6, 30), 1
_MADE = "made.json"


def asos_histories(
    interactions: int, users: int, items: int, folder: Path
) -> tuple[list[Path], int]:
    """Training histories in Parquet parts by the contract of labelled histories.

    A block of the generator is a part. Files of the same arguments are made once: `made.json`,
    written last, says that they are whole, how many items have interactions and how many labels
    there are.

    Args:
        interactions: positions, exactly.
        users: rows; each has a position where there are as many interactions.
        items: size of the catalogue, of which some may never be sold.
        folder: where the sets lie, each in a folder of its own.

    Returns:
        The parts, and how many items the vocabulary has.
    """
    config = CatalogueConfig(
        users=users,
        items=items,
        interactions=interactions,
        days=_DAYS,
        last_day=_LAST_DAY,
        seed=_SEED,
    )
    asked = json.dumps(asdict(config) | {"version": _VERSION}, default=str, sort_keys=True)
    key = hashlib.sha256(asked.encode()).hexdigest()[:10]
    target = folder / f"asos-{interactions}-{users}-{items}-{key}"
    made = target / _MADE
    if not made.is_file():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        made.write_text(json.dumps(_make(config, target), indent=2))
    return sorted(target.glob("part-*.parquet")), json.loads(made.read_text())["items"]


def _make(config: CatalogueConfig, folder: Path) -> dict[str, int]:
    """Write the parts; item ids are by falling count, so all blocks are drawn before the first."""
    on_sale = shelves(config)
    counts = np.zeros(config.items, np.int64)
    drawn = []
    for block in range(block_count(config)):
        table = _rows(config, on_sale, block)
        counts += np.bincount(table["items"].combine_chunks().flatten(), minlength=config.items)
        drawn.append(folder / f"drawn-{block:05d}.parquet")
        pq.write_table(table, drawn[-1], compression="none")
    # By falling count, ties by item id.
    order = np.lexsort((_ranks(on_sale.item_id), -counts))
    dense = np.empty(len(order), np.int32)
    dense[order] = np.arange(len(order))
    labels = 0
    for path in drawn:
        table = pq.read_table(path)
        items = table["items"].combine_chunks()
        renamed = pa.ListArray.from_arrays(items.offsets, dense[items.values])
        labels += pc.sum(table["is_label"].combine_chunks().flatten()).as_py()
        table = table.set_column(table.schema.get_field_index("items"), "items", renamed)
        pq.write_table(
            table, path.with_name(path.name.replace("drawn", "part")), compression="zstd"
        )
        path.unlink()
    return {
        "positions": int(counts.sum()),
        "labels": labels,
        "items": int(np.count_nonzero(counts)),
    }


def _rows(config: CatalogueConfig, on_sale: Shelves, block: int) -> pa.Table:
    """One block's users by the contract, their items still by number in the catalogue."""
    table = pa.concat_tables([day for _, day in block_interactions(config, on_sale, block)])
    # Days follow each other and are in order of time, so a stable sort by user is one by both.
    users = pc.dictionary_encode(table["user_id"].combine_chunks())
    place = _ranks(users.dictionary)[users.indices.to_numpy()]
    order = np.argsort(place, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(place)))).astype(np.int32)
    items = pc.index_in(table["item_id"].combine_chunks(), value_set=on_sale.item_id)
    seconds = table["event_time"].combine_chunks().cast(pa.int64()).to_numpy() // 1_000_000
    times = seconds[order]
    columns = {
        "items": items.take(order),
        "times": times,
        "is_label": times > np.repeat(times[offsets[:-1]], np.diff(offsets)),
    }
    lists = {name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()}
    return pa.table({"user_id": users.dictionary.sort(), **lists})


def _ranks(values: pa.Array) -> NDArray[np.int64]:
    """The place of each of distinct values among the sorted ones."""
    order = pc.sort_indices(values).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
