"""The autoencoder by curvature: seeds, epochs and gradients are kept, and told."""

from __future__ import annotations

import csv
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperrec_core.analysis import autoencoders, kept
from hyperrec_core.analysis.autoencoders import CURVATURES
from hyperrec_core.analysis.ball_layers import CHOICES
from hyperrec_core.fit import TrainingError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set of the form of ml-100k: 40 users, two kinds of items, six days of one event each."""
    generator = np.random.default_rng(5)
    rows = [
        (f"{user}", f"{2 * int(generator.integers(0, 20)) + user % 2}", 40 * day + user)
        for user in range(40)
        for day in range(6)
    ]
    users, items, times = zip(*rows, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    (tmp_path / "data" / "ml-100k").mkdir(parents=True)
    pq.write_table(table, tmp_path / "data" / "ml-100k" / "interactions.parquet")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "pool_of", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(autoencoders, "_QUICK_EPOCHS", 2)
    autoencoders.split_by_time.cache_clear()


def test_every_curvature_is_fitted_from_every_seed_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    autoencoders.run(data, to, datasets=["ml-100k"], quick=True)
    lines = (to / "autoencoder-cells.jsonl").read_text().splitlines()
    every = [json.loads(line) for line in lines]
    records = [record for record in every if not record["settings"]["choice"]]
    assert {(r["settings"]["curvature"], r["settings"]["seed"]) for r in records} == {
        (c, seed) for c in CURVATURES for seed in (1, 2)
    }
    for record in records:
        assert len(record["losses"]) == len(record["gradients"]) == len(record["validation"]) == 2
        assert all(math.isfinite(x) and x > 0 for x in record["losses"] + record["gradients"])
    with (to / "autoencoder.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, c in zip(rows, CURVATURES, strict=True):
        own = [r["hr_at_10"] for r in records if r["settings"]["curvature"] == c]
        assert (row["seeds"], row["not fitted"]) == ("2", "0")
        assert float(row["HR@10"]) == pytest.approx(np.mean(own))
    assert (to / "autoencoder.png").stat().st_size > 10_000
    with (to / "autoencoder-choices.csv").open() as file:
        choices = {(row["choice"], row["c"]): row for row in csv.DictReader(file)}
    assert {choice for choice, _ in choices} == set(CHOICES)
    # On the ball, nothing but the maps' guards keeps a user without items from being no number.
    assert choices["the same without guards", "1.0"]["not fitted"] == "1"
    assert choices["as it is", "1.0"]["not fitted"] == "0"

    def compute(*_: Any, **__: Any) -> Any:
        raise AssertionError("a kept cell is computed again")

    monkeypatch.setattr(autoencoders, "compute", compute)
    autoencoders.run(data, to, datasets=["ml-100k"], quick=True)


def test_what_diverges_is_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = autoencoders.fit

    def fit(*given: Any, seed: int, **options: Any) -> Any:
        if seed == 2:
            raise TrainingError("The loss of epoch 1 is nan")
        return real(*given, seed=seed, **options)

    monkeypatch.setattr(autoencoders, "fit", fit)
    report = autoencoders.run(data, tmp_path, datasets=["ml-100k"], quick=True)
    assert [row[2:4] for row in report.rows] == [[2, 1]] * len(CURVATURES)
