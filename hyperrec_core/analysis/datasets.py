"""Public data sets as labelled histories, split as the papers split them.

A folder holds one folder a set with `interactions.parquet` (`user_id`, `item_id`, `timestamp` in
seconds or null, `position` within the user) and, for some, `item_categories.parquet` or
`item_attributes.parquet` (numbers of attributes that an item has).

What counts as "earlier" differs by set, because the files differ:

=========  =====================================================================================
strict     Events at the same time are one moment: a label's history holds only what is strictly
           older. Right where times are real: online-retail (a basket shares one minute),
           ml-100k (seconds), renttherunway (days, few ties).
ordered    Every event has a place of its own, as in the published leave-one-out protocol, and
           events of one day are put in a seeded random order. For reviews dated by the day
           (sports, beauty, toys, musical-instruments) `strict` would leave 11 to 14 % of the users
           without a test label, and the rest would no longer be the published protocol's. The
           files themselves order such ties by catalogue number without exception, so that the
           held-out item of a tie would always be the one listed last; the random order takes
           that hint away.
position   The order is the file's, since there is nothing else: clothing and tools (no times),
           and ml-1m, whose times are partly interpolated. In ml-1m half of all neighbours share a
           second (a page of films rated at once), and their order repeats from user to user
           (95 % of repeated pairs the same way round): a model of sequences can learn the pages.
           Published figures on ml-1m rest on the same order.
shuffled   amazon-cellphones-5core has no times and its positions are the catalogue numbers in
           rising order: no information on time, and a giveaway of the last item. Each user's
           events are put in a seeded random order: leave-one-out without "last".
=========  =====================================================================================

Labels left (train, validation, test), strict against ordered: sports 221,515 against 260,739;
beauty 150,936 against 176,139; renttherunway 75,110 against 86,973; ml-100k 97,865 against 99,057;
online-retail 285,710 against 381,943.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperrec_core.features import of_categories, of_words
from hyperrec_core.histories import Histories

Order = Literal["strict", "ordered", "position", "shuffled"]


class DatasetError(ValueError):
    """A data set is not there or not of the form described above; the message says which."""


@dataclass(frozen=True)
class _Source:
    """How a set is read: what "earlier" means, where its times are, which item ids are items."""

    order: Order
    time: str = "timestamp"
    items: str | None = None


_SOURCES: dict[str, _Source] = {
    "ml-100k": _Source("strict"),
    "ml-1m": _Source("position"),
    # Postage, fees, samples and vouchers are not products.
    "online-retail": _Source("strict", items=r"^\d{5}[A-Za-z]{0,2}$"),
    "renttherunway": _Source("strict"),
    "amazon-beauty-5core": _Source("ordered"),
    "amazon-cellphones-5core": _Source("shuffled"),
    "amazon-clothing-5core": _Source("position"),
    "amazon-musical-instruments-5core": _Source("ordered"),
    "amazon-sports-5core": _Source("ordered"),
    "amazon-tools-5core": _Source("position"),
    "amazon-toys-5core": _Source("ordered", time="seconds_since_first"),
}

NAMES: tuple[str, ...] = tuple(_SOURCES)
"""Every set that `load` knows."""


@dataclass(frozen=True)
class Interactions:
    """One data set: who took what, when.

    Attributes:
        name: of the set.
        order: what "earlier" means in it; see the module.
        users: number of each event's user, int32 [n]; users and items are numbered by id.
        items: number of each event's item, int32 [n].
        times: seconds (or positions, or 0 where the order says nothing), int64 [n].
        user_ids: string [users].
        item_ids: string [items].
        categories: of each item, string lists [items], outermost first; None without a file.
        attributes: of each item, lists of numbers [items], in no order; None without a file.
    """

    name: str
    order: Order
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    user_ids: pa.StringArray
    item_ids: pa.StringArray
    categories: pa.ListArray | None
    attributes: pa.ListArray | None = None

    def __repr__(self) -> str:
        return (
            f"Interactions({self.name}: {len(self.items)} events, {len(self.user_ids)} users, "
            f"{len(self.item_ids)} items, order {self.order})"
        )


SPLIT_SEED = 1
"""Of the splits of all comparisons, so that their figures may stand beside each other."""


@dataclass(frozen=True)
class Split:
    """A data set, split; items are numbered by falling count in training, ties by id.

    Attributes:
        train: a row for every user, with or without labels.
        validation: the label before the last, with everything earlier; users with two labels.
        test: the last label, with everything earlier, the validation item included.
        counts: how often each item occurs in `train`, int64 [items]; 0 for an item that only
            held-out events have.
        item_ids: string [items].
        categories: of each item, string lists [items]; None where the set has none.
        attributes: of each item, lists of numbers [items]; None where the set has none.
    """

    train: Histories
    validation: Histories
    test: Histories
    counts: NDArray[np.int64]
    item_ids: pa.StringArray
    categories: pa.ListArray | None
    attributes: pa.ListArray | None = None

    @property
    def items(self) -> int:
        """Size of the vocabulary."""
        return len(self.counts)

    @property
    def features(self) -> NDArray[np.float32] | None:
        """What items are like, by their attributes or else their categories; see `features`."""
        if self.attributes is not None:
            return of_words([own or () for own in self.attributes.to_pylist()])
        if self.categories is not None:
            return of_categories([tuple(own or ()) for own in self.categories.to_pylist()])
        return None


def find(name: str, folder: Path) -> Path:
    """The interactions of a data set.

    Args:
        name: one of `NAMES`.
        folder: the folder that holds the sets' folders.

    Raises:
        DatasetError: the name is unknown, or the file is not there.
    """
    if name not in _SOURCES:
        raise DatasetError(f"No data set is called {name!r}; there are {', '.join(NAMES)}.")
    path = folder / name / "interactions.parquet"
    if not path.is_file():
        raise DatasetError(
            f"{path} is not there: put the data set there, or name another folder of data sets "
            "with HYPERREC_DATASETS."
        )
    return path


def load(name: str, folder: Path) -> Interactions:
    """Read one data set, each event once.

    Args:
        name: one of `NAMES`.
        folder: the folder that holds the sets' folders.

    Raises:
        DatasetError: the name is unknown, or the file is not there.
    """
    path = find(name, folder)
    source = _SOURCES[name]
    time = {"shuffled": None, "position": "position"}.get(source.order, source.time)
    columns = ["user_id", "item_id", *([time] if time else [])]
    table = pq.read_table(path, columns=columns)
    if source.items:
        table = table.filter(pc.match_substring_regex(table["item_id"], source.items))
    if not time:
        table = table.append_column("time", pa.array(np.zeros(len(table), dtype=np.int64)))
    # Grouping makes an event unique: the same item twice in a basket is one event.
    table = table.rename_columns(["user", "item", "time"]).group_by(["user", "item", "time"])
    table = table.aggregate([])
    users, user_ids = numbered(table["user"])
    items, item_ids = numbered(table["item"])
    return Interactions(
        name=name,
        order=source.order,
        users=users,
        items=items,
        times=table["time"].to_numpy().astype(np.int64),
        user_ids=user_ids,
        item_ids=item_ids,
        categories=_of_items(path, "categories", item_ids),
        attributes=_of_items(path, "attributes", item_ids),
    )


# A worker goes through all that is wanted of one set before the next one.
@lru_cache(maxsize=1)
def split_of(dataset: str, data: Path) -> Split:
    """A data set as every comparison splits it; raises `DatasetError` as `load`."""
    return leave_last_out(load(dataset, data), seed=SPLIT_SEED)


@lru_cache(maxsize=1)
def random_split_of(dataset: str, data: Path) -> Split:
    """The same with each user's events in random order, so that any of them is held out."""
    found = load(dataset, data)
    times = np.random.default_rng(SPLIT_SEED).permutation(len(found.times))
    return leave_last_out(replace(found, order="shuffled", times=times), seed=SPLIT_SEED)


def leave_last_out(interactions: Interactions, *, seed: int) -> Split:
    """Each user's last label is test, the one before validation, all earlier events train.

    A label is an event with an earlier one of the same user. Users with fewer than two labels
    are in train alone. Histories end where their label's moment begins, as `order` says.

    Args:
        interactions: what `load` gives.
        seed: of the order of events that tie in time; the order of rows and ids has no say.

    Raises:
        DatasetError: no user has two labels.
    """
    events = len(interactions.items)
    # One order of rows, whatever the file's, so that the tie keys depend on the seed alone.
    canonical = np.lexsort((interactions.times, interactions.items, interactions.users))
    ties = np.empty(events)
    ties[canonical] = np.random.default_rng(seed).random(events)
    order = np.lexsort((ties, interactions.times, interactions.users))
    users, items = interactions.users[order], interactions.items[order]

    starts = np.flatnonzero(np.diff(users, prepend=-1))
    lengths = np.diff(starts, append=events)
    place = np.arange(events) - np.repeat(starts, lengths)
    times = interactions.times[order] if interactions.order == "strict" else place
    eligible = times > np.repeat(times[starts], lengths)
    total = np.add.reduceat(eligible, starts, dtype=np.int64)
    before: NDArray[np.int64] = np.cumsum(eligible) - eligible
    # Labels of the user from this event on, itself included.
    to_come = np.repeat(total + before[starts], lengths) - before
    held_out = np.repeat(total >= 2, lengths)
    if not held_out.any():
        raise DatasetError(f"No user of {interactions.name} has two labels to hold out.")

    # Events of a user's first moment are no labels, but everybody's history begins there.
    in_train = ~held_out | ~eligible | (to_come > 2)
    counts = np.bincount(items[in_train], minlength=len(interactions.item_ids))
    ranked = np.argsort(-counts, kind="stable")
    dense = np.empty_like(ranked)
    dense[ranked] = np.arange(len(ranked))
    items = dense[items].astype(np.int32)

    rows = Rows(users, items, times.astype(np.int64), interactions.user_ids, len(counts))
    by_rank = pa.array(ranked)
    categories, attributes = interactions.categories, interactions.attributes
    return Split(
        train=rows.histories(in_train, eligible & in_train),
        validation=rows.histories(held_out & (to_come > 1), eligible & (to_come == 2)),
        test=rows.histories(held_out, eligible & (to_come == 1)),
        counts=counts[ranked],
        item_ids=interactions.item_ids.take(by_rank),
        categories=None if categories is None else categories.take(by_rank),
        attributes=None if attributes is None else attributes.take(by_rank),
    )


class Rows(NamedTuple):
    """Events of a set in the order of users and, of each, of time; arrays of [n]."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    user_ids: pa.StringArray
    vocabulary: int

    def histories(self, chosen: NDArray[np.bool_], labels: NDArray[np.bool_]) -> Histories:
        """The histories of the chosen events, some of which are labels; bool [n] both."""
        users, lengths = np.unique(self.users[chosen], return_counts=True)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        columns: dict[str, NDArray[Any]] = {
            "items": self.items,
            "times": self.times,
            "is_label": labels,
        }
        lists = {
            name: pa.ListArray.from_arrays(offsets, pa.array(values[chosen]))
            for name, values in columns.items()
        }
        table = pa.table({"user_id": self.user_ids.take(pa.array(users)), **lists})
        return Histories.from_tables([table], items=self.vocabulary)


def numbered(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.StringArray]:
    """Numbers of a column's values in the order of the sorted distinct values, and those."""
    ids = pc.unique(column).cast(pa.string()).sort()
    numbers = pc.index_in(column.cast(pa.string()), value_set=ids)
    return numbers.to_numpy().astype(np.int32), ids


def _of_items(interactions: Path, what: str, item_ids: pa.StringArray) -> pa.ListArray | None:
    """A column of lists of the file of items beside the interactions, by item."""
    path = interactions.with_name(f"item_{what}.parquet")
    if not path.is_file():
        return None
    table = pq.read_table(path, columns=["item_id", what])
    place = pc.index_in(item_ids, value_set=table["item_id"].cast(pa.string()).combine_chunks())
    return table[what].combine_chunks().take(place)
