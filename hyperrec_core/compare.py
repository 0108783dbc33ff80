"""How sure a metric is: intervals, slices, several seeds, and the difference of two scorers.

Labels of one user are not independent, so what is resampled are users, each with all its labels
(the cluster bootstrap; Field & Welsh 2007, "Bootstrapping clustered data"). The statistic is the
reported one, the mean over labels. Intervals hold the middle 95 % of it over the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hyperrec_core.metrics import METRICS
from hyperrec_core.ranks import Ranks, RanksError

RESAMPLES = 2000
"""Resamples of the users: two-sided p-values have a resolution of 0.001."""

_TAILS = (2.5, 97.5)

# Weights held at once, one of a resample and user: 32 MB in float64.
_WEIGHTS_AT_ONCE = 1 << 22

# Where head and torso end, as shares of the training interactions.
_POPULARITY = {"head": 1 / 3, "torso": 2 / 3, "tail": np.inf}
_HISTORY = (1, 5, 10, 20, 50, 200)


@dataclass(frozen=True)
class Estimate:
    """A metric's mean over labels (and runs), its 95 % interval over users, and over the runs.

    `spread` is the standard deviation of the runs' own means; None for a single run.
    """

    value: float
    low: float
    high: float
    spread: float | None


@dataclass(frozen=True)
class Difference:
    """A metric under two scorers: `difference` = a - b, its 95 % interval, two-sided p."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float


def estimates(
    runs: Sequence[Ranks], metrics: Sequence[str] = tuple(METRICS), *, seed: int
) -> dict[str, Estimate]:
    """Metrics with intervals, of one run or of several that differ in their seed.

    A label's gain is averaged over the runs before users are resampled, so the interval says how
    sure the mean is given these runs; how much runs differ is `spread`.

    Raises:
        RanksError: the runs do not judge the same labels.
    """
    gains = [_gains(runs, metric) for metric in metrics]
    resampled = _resample(runs[0].user, gains, seed)
    found = {}
    for metric, gain, column in zip(metrics, gains, resampled.T, strict=True):
        low, high = np.percentile(column, _TAILS)
        means = [run.mean(metric) for run in runs]
        spread = float(np.std(means, ddof=1)) if len(runs) > 1 else None
        found[metric] = Estimate(float(gain.mean()), float(low), float(high), spread)
    return found


def compare(
    a: Sequence[Ranks],
    b: Sequence[Ranks],
    metrics: Sequence[str] = tuple(METRICS),
    *,
    seed: int,
) -> dict[str, Difference]:
    """The paired difference of two scorers, each one run or several that differ in their seed.

    The same users are resampled for both. p is twice the share of resamples whose difference has
    the other sign or none, the sample itself counted with them (Davison & Hinkley 1997, chapter 4):
    below 0.05 where the interval leaves out 0, give or take a resample. It is of one metric: who
    looks at many finds a small one by chance.

    Raises:
        RanksError: the runs do not judge the same labels.
    """
    _require_same_labels([a[0], b[0]])
    pairs = [(_gains(a, metric), _gains(b, metric)) for metric in metrics]
    resampled = _resample(a[0].user, [of_a - of_b for of_a, of_b in pairs], seed)
    found = {}
    for metric, (of_a, of_b), column in zip(metrics, pairs, resampled.T, strict=True):
        low, high = np.percentile(column, _TAILS)
        against = min(np.count_nonzero(column <= 0), np.count_nonzero(column >= 0))
        found[metric] = Difference(
            a=float(of_a.mean()),
            b=float(of_b.mean()),
            difference=float((of_a - of_b).mean()),
            low=float(low),
            high=float(high),
            p=min(1.0, 2 * (1 + against) / (1 + len(column))),
        )
    return found


def slices(ranks: Ranks, counts: NDArray[np.int64]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Labels by the popularity of their item, the length of their history, and novelty.

    Args:
        ranks: of the labels.
        counts: how often each item occurs in training, [items].

    Returns:
        For each way of slicing the masks of its slices that are not empty. `popularity`: the most
        popular items that make up a third of the training interactions are the head, those that
        make up the next third the torso. `history`: by number of interactions, `1-4`, `5-9`, ....
        `novelty`: `new` items, and `repeat` ones that stand in the history.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.empty(len(counts))
    before[order] = (np.cumsum(counts[order]) - counts[order]) / max(1, counts.sum())
    part = np.searchsorted(list(_POPULARITY.values()), before[ranks.item], side="right")
    length = np.searchsorted(_HISTORY, ranks.history, side="right") - 1
    names = [f"{low}-{high - 1}" for low, high in pairwise(_HISTORY)]
    found = {
        "popularity": {name: part == place for place, name in enumerate(_POPULARITY)},
        "history": {
            name: length == place for place, name in enumerate([*names, f"{_HISTORY[-1]}+"])
        },
        "novelty": {"new": ~ranks.repeat, "repeat": ranks.repeat},
    }
    return {
        way: {name: mask for name, mask in masks.items() if mask.any()}
        for way, masks in found.items()
    }


def _gains(runs: Sequence[Ranks], metric: str) -> NDArray[np.float64]:
    """A metric of every label, averaged over the runs: [labels]."""
    _require_same_labels(runs)
    total = np.zeros(len(runs[0]))
    for run in runs:
        total += run.gains(metric)
    return total / len(runs)


def _require_same_labels(runs: Sequence[Ranks]) -> None:
    first = runs[0]
    for run in runs[1:]:
        same = np.array_equal(run.item, first.item) and np.array_equal(run.user, first.user)
        if not same:
            raise RanksError(
                "These ranks are not of the same labels in the same order: rank the same examples, "
                "or pair stored ranks with read_pair."
            )


def _resample(
    user: NDArray[np.int64], columns: Sequence[NDArray[np.float64]], seed: int
) -> NDArray[np.float64]:
    """Means over labels of each column, under each resample of the users: [RESAMPLES, columns]."""
    of_user = np.unique(user, return_inverse=True)[1]
    labels = np.bincount(of_user)
    users = len(labels)
    sums = np.stack([*(np.bincount(of_user, weights=column) for column in columns), labels], axis=1)
    generator = np.random.default_rng(seed)
    totals = np.empty((RESAMPLES, sums.shape[1]))
    size = max(1, _WEIGHTS_AT_ONCE // users)
    for start in range(0, RESAMPLES, size):
        part = totals[start : start + size]
        # Drawing one resample at a time keeps the draws independent of the size of a part.
        weights = np.stack(
            [np.bincount(generator.integers(0, users, users), minlength=users) for _ in part]
        )
        part[:] = weights.astype(np.float64) @ sums
    return totals[:, :-1] / totals[:, -1:]
