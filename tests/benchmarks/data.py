"""What the benchmark measures with: public data sets, and synthetic histories of any size."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hyperrec_core.analysis import datasets
from hyperrec_core.histories import Histories
from tests.benchmarks.asos import asos_histories
from tests.benchmarks.case import BenchmarkError

SPLIT_SEED = 1
PER_USER = 28
"""Interactions a user, as in the ASOS set of Chamberlain et al. 2019, section 5."""


@dataclass(frozen=True)
class Data:
    """Histories in memory.

    Attributes:
        train: labels to learn from.
        validation: labels to choose an epoch by; may be empty.
        test: labels to judge by; may be empty.
        items: size of the vocabulary.
        seconds: what loading took.
    """

    train: Histories
    validation: Histories
    test: Histories
    items: int
    seconds: float


def load(name: str, folder: Path, made: Path) -> Data:
    """Data by name.

    Args:
        name: a data set of `datasets.NAMES`, split by leaving the last out; or
            `asos/<interactions>/<items>`, a synthetic set with the proportions of ASOS's, all of
            it for training; or `random/<interactions>/<items>`, tiny and quick, with a held-out
            label a user.
        folder: where data sets are.
        made: where synthetic ones are kept.

    Raises:
        BenchmarkError: the name is none of these.
    """
    kind, *numbers = name.split("/")
    if kind == "asos" and len(numbers) == 2:
        return _asos(int(numbers[0]), int(numbers[1]), made)
    if kind == "random" and len(numbers) == 2:
        return _random(int(numbers[0]), int(numbers[1]))
    if kind not in datasets.NAMES:
        raise BenchmarkError(
            f"No data is called {name!r}: name one of {', '.join(datasets.NAMES)}, or "
            "asos/<interactions>/<items>."
        )
    started = time.perf_counter()
    split = datasets.leave_last_out(datasets.load(kind, folder), seed=SPLIT_SEED)
    seconds = time.perf_counter() - started
    return Data(split.train, split.validation, split.test, split.items, seconds)


def prepare(name: str, made: Path) -> None:
    """Write a synthetic set, so that no measurement includes making it."""
    if name.startswith("asos/"):
        _, interactions, items = name.split("/")
        _asos_parts(int(interactions), int(items), made)


def tiny() -> Data:
    """Just enough to run every part of a fit once."""
    return _random(40 * PER_USER, 50)


def without_labels(items: int) -> Histories:
    """A split that has none: to fit without choosing an epoch."""
    return Histories.from_tables([_table([])], items=items)


def _asos(interactions: int, items: int, made: Path) -> Data:
    parts, items = _asos_parts(interactions, items, made)
    started = time.perf_counter()
    train = Histories.from_parquet(parts, items=items)
    seconds = time.perf_counter() - started
    return Data(train, without_labels(items), without_labels(items), items, seconds)


def _asos_parts(interactions: int, items: int, made: Path) -> tuple[list[Path], int]:
    return asos_histories(interactions, max(1, interactions // PER_USER), items, made)


def _random(interactions: int, items: int) -> Data:
    """Users that go from item to item by small strides, so that there is something to learn."""
    started = time.perf_counter()
    users = max(2, interactions // PER_USER)
    generator = np.random.default_rng(SPLIT_SEED)
    strides = generator.integers(0, 4, (users, PER_USER)).cumsum(1)
    walks = (generator.integers(0, items, (users, 1)) + strides) % items
    train, validation, test = (
        Histories.from_tables([_table(walks[:, :end], labels=labels)], items=items)
        for end, labels in ((PER_USER - 2, None), (PER_USER - 1, 1), (PER_USER, 1))
    )
    return Data(train, validation, test, items, time.perf_counter() - started)


def _table(walks: np.ndarray | list[list[int]], *, labels: int | None = None) -> pa.Table:
    """Rows of the contract; the last `labels` positions are labels, by default all but one."""
    rows = [list(map(int, walk)) for walk in walks]
    first = [max(1, len(row) - (len(row) if labels is None else labels)) for row in rows]
    return pa.table(
        {
            "user_id": pa.array([f"u{number:09d}" for number in range(len(rows))], pa.string()),
            "items": pa.array(rows, pa.list_(pa.int32())),
            "times": pa.array([list(range(len(row))) for row in rows], pa.list_(pa.int64())),
            "is_label": pa.array(
                [
                    [p >= start for p in range(len(row))]
                    for row, start in zip(rows, first, strict=True)
                ],
                pa.list_(pa.bool_()),
            ),
        }
    )
