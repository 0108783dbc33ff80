"""Data sets split by time, as in a shop: the events after a moment are judged, whoever they are of.

What the other comparisons use, each user's last event, trains on some users' events of a day on
which others' are judged.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hyperrec_core.analysis.datasets import DatasetError, Rows, Split, find, numbered

TEST, VALIDATION = 0.98, 0.96
"""Quantiles of all times at which test and validation begin."""


@lru_cache(maxsize=1)
def split_by_time(dataset: str, data: Path) -> Split:
    """Train is what lies before the validation's moment; cold users and items are dropped.

    A label is a user's first event in validation's time, or in test's; its history is all that the
    user did before that time began. Items that train has not, and users of whom it has no event,
    are in neither. Items have neither categories nor attributes here.

    Args:
        dataset: name of a set, whose times are seconds.
        data: folder of data sets, see `datasets`.

    Raises:
        DatasetError: the set is not known or not there, does not say when all of its events were,
            or has nothing to judge.
    """
    path = find(dataset, data)
    columns = pq.read_schema(path).names
    ordered = "position" in columns  # says more than times that tie
    table = pq.read_table(
        path, columns=["user_id", "item_id", "timestamp", *["position"] * ordered]
    )
    if unknown := pc.sum(pc.is_null(table["timestamp"], nan_is_null=True)).as_py():
        raise DatasetError(
            f"{dataset} has no time for {unknown:,} of its {len(table):,} events: name a set that "
            "says when everything was, such as ml-1m."
        )
    users, user_ids = numbered(table["user_id"])
    items, item_ids = numbered(table["item_id"])
    times = table["timestamp"].to_numpy().astype(np.int64)
    within = table["position"].to_numpy() if ordered else times
    order = np.lexsort((items, within, users))
    users, items, times = users[order], items[order], times[order]

    validation, test = np.quantile(times, [VALIDATION, TEST], method="nearest")
    early = times < validation
    counts = np.bincount(items[early], minlength=len(item_ids))
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    known = np.bincount(users[early], minlength=len(user_ids)) > 0
    warm = (counts[items] > 0) & known[users]
    dense = np.full(len(item_ids), -1, np.int32)
    dense[ranked] = np.arange(len(ranked))
    users, items, times = users[warm], dense[items[warm]], times[warm]
    early, late = times < validation, times >= test
    of_validation, of_test = _first(users, ~early & ~late), _first(users, late)
    if not (of_validation.any() and of_test.any()):
        raise DatasetError(f"{dataset} has nothing to judge after the {VALIDATION} quantile.")
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    lengths = np.diff(starts, append=len(users))
    # In files that say the order, events of one second follow one another.
    moments = np.arange(len(users)) if ordered else times
    eligible = moments > np.repeat(moments[starts], lengths)
    rows = Rows(users, items, moments.astype(np.int64), user_ids, len(ranked))
    return Split(
        train=rows.histories(early, early & eligible),
        validation=rows.histories(_with_label(users, early, of_validation), of_validation),
        test=rows.histories(_with_label(users, ~late, of_test), of_test),
        counts=counts[ranked],
        item_ids=item_ids.take(pa.array(ranked)),
        categories=None,
    )


def _first(users: NDArray[np.int32], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The first chosen event of each user that has one, bool [n]."""
    places = np.flatnonzero(chosen)
    first = np.zeros_like(chosen)
    first[places[np.diff(users[places], prepend=-1) != 0]] = True
    return first


def _with_label(
    users: NDArray[np.int32], before: NDArray[np.bool_], labels: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The labels, and what those users did before, bool [n]."""
    judged = np.zeros(users.max() + 1, np.bool_)
    judged[users[labels]] = True
    return labels | (before & judged[users])
