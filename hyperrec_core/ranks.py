"""The ranks of a split's labels under one scorer: what every metric is computed from, and stored.

A file of ranks has one row a label and names users and items by their ids, so that two runs whose
vocabularies differ can be compared on the labels that both have.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperrec_core.metrics import METRICS

_ARRAYS = ("user", "item", "history", "repeat", "sampled", "full")
_KEY = ("user_id", "item_id", "occurrence")
_METADATA = b"hyperrec.ranks"


class RanksError(ValueError):
    """Stored ranks cannot be read, or two sets of ranks cannot be compared."""


@dataclass(frozen=True)
class Ranks:
    """One scorer's ranks, from 1 for the best, and what slices ask of a label.

    Attributes:
        user: number of each label's user, int64 [labels].
        item: the label, int32 [labels].
        history: how many interactions stand in the label's history, int32 [labels].
        repeat: whether the label is among them, bool [labels].
        sampled: rank among the label and its sampled negatives, int32 [labels].
        full: rank among the whole catalogue, int32 [labels].
        items: size of the catalogue.
        negatives: how many were drawn a label.
        exclude_seen: whether the full ranking leaves out the items of the history.
        coverage_at_10: share of the catalogue in the first ten of at least one history's list.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int32]
    history: NDArray[np.int32]
    repeat: NDArray[np.bool_]
    sampled: NDArray[np.int32]
    full: NDArray[np.int32]
    items: int
    negatives: int
    exclude_seen: bool
    coverage_at_10: float

    def __len__(self) -> int:
        return len(self.item)

    def __repr__(self) -> str:
        return f"Ranks({len(self)} labels, {self.negatives} negatives, {self.items} items)"

    def take(self, labels: NDArray[np.int64] | NDArray[np.bool_]) -> Ranks:
        """The ranks of some labels, by number or mask; `coverage_at_10` stays that of all."""
        return replace(self, **{name: getattr(self, name)[labels] for name in _ARRAYS})

    def gains(self, metric: str) -> NDArray[np.float64]:
        """What each label is worth by a metric of `METRICS`, float64 [labels]."""
        ranking = METRICS[metric].ranking
        return METRICS[metric].gains(self.sampled if ranking == "sampled" else self.full)

    def mean(self, metric: str) -> float:
        """The mean over labels of a metric of `METRICS`."""
        return float(self.gains(metric).mean())

    @property
    def hr_at_10(self) -> float:
        """Share of labels in the first ten among their sampled negatives."""
        return self.mean("hr_at_10")

    @property
    def ndcg_at_10(self) -> float:
        """NDCG@10 among the sampled negatives."""
        return self.mean("ndcg_at_10")

    @property
    def recall_at_10_full(self) -> float:
        """Share of labels in the first ten of the whole catalogue."""
        return self.mean("recall_at_10_full")

    @property
    def ndcg_at_10_full(self) -> float:
        """NDCG@10 among the whole catalogue."""
        return self.mean("ndcg_at_10_full")


def to_parquet(ranks: Ranks, *, user_ids: pa.ChunkedArray, item_ids: list[str]) -> bytes:
    """A file of ranks: user_id, item_id, history, repeat, sampled, full; one row a label.

    Args:
        ranks: what to store.
        user_ids: the id of each user number, `Histories.user_ids`.
        item_ids: the id of each item.
    """
    facts = {
        "items": ranks.items,
        "negatives": ranks.negatives,
        "exclude_seen": ranks.exclude_seen,
        "coverage_at_10": ranks.coverage_at_10,
    }
    table = pa.table(
        {
            "user_id": user_ids.take(pa.array(ranks.user)),
            "item_id": pa.array(item_ids, pa.string()).take(pa.array(ranks.item)),
            **{name: pa.array(getattr(ranks, name)) for name in _ARRAYS[2:]},
        }
    ).replace_schema_metadata({_METADATA: json.dumps(facts)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read_pair(first: bytes, second: bytes) -> tuple[Ranks, Ranks]:
    """The ranks of two files on the labels that both have, in the same order.

    A label is recognised by its user and item and, where a user has several labels of one item, by
    their order. Users and items are numbered anew, alike in both.

    Raises:
        RanksError: a file is not one of ranks, the two were judged by different rules, or they have
            no label in common.
    """
    (left, left_facts), (right, right_facts) = _read(first), _read(second)
    for fact in ("negatives", "exclude_seen"):
        if left_facts[fact] != right_facts[fact]:
            raise RanksError(
                f"The two were judged by different rules, {fact} {left_facts[fact]} and "
                f"{right_facts[fact]}: evaluate both with the same settings."
            )
    both = left.join(
        right, keys=list(_KEY), join_type="inner", left_suffix="_0", right_suffix="_1"
    ).sort_by([(name, "ascending") for name in _KEY])
    if not both.num_rows:
        raise RanksError("The two have no label in common: compare runs over the same test days.")
    user, item = (
        pc.dictionary_encode(both[name].combine_chunks()).indices.to_numpy()
        for name in ("user_id", "item_id")
    )
    shared = {"user": user.astype(np.int64), "item": item.astype(np.int32)}

    def ranks(suffix: str, facts: dict[str, Any]) -> Ranks:
        own = {name: both[name + suffix].to_numpy(zero_copy_only=False) for name in _ARRAYS[2:]}
        return Ranks(**shared, **own, **facts)

    return ranks("_0", left_facts), ranks("_1", right_facts)


def _read(data: bytes) -> tuple[pa.Table, dict[str, Any]]:
    """A file's table with the number of each label among those of its user and item, and facts."""
    try:
        table = pq.read_table(io.BytesIO(data))
        facts = json.loads((table.schema.metadata or {})[_METADATA])
        table = table.select(["user_id", "item_id", *_ARRAYS[2:]])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise RanksError(f"Not a file of ranks that this version can read: {error}.") from error
    row = pa.array(np.arange(table.num_rows))
    order = pc.sort_indices(
        table.append_column("row", row),
        sort_keys=[(name, "ascending") for name in ("user_id", "item_id", "row")],
    )
    table = table.take(order)
    same = np.zeros(table.num_rows, bool)
    if table.num_rows > 1:
        pairs = [(table[name][1:], table[name][:-1]) for name in ("user_id", "item_id")]
        same[1:] = np.logical_and(*(pc.equal(a, b).to_numpy() for a, b in pairs))
    place = np.arange(len(same))
    occurrence = place - np.maximum.accumulate(np.where(same, 0, place))
    return table.append_column("occurrence", pa.array(occurrence)), facts
