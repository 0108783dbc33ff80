"""HVACF and its parts: cells that are kept, AUC by hand, where popular items lie."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperrec_core.analysis import hvacf, kept
from hyperrec_core.analysis.datasets import leave_last_out, load
from hyperrec_core.analysis.hvacf import VARIANTS
from hyperrec_core.fit import TrainingError

SET = "amazon-beauty-5core"


@pytest.fixture(autouse=True)
def here_and_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cells in this process, of four dimensions, for two epochs."""
    small = {name: replace(config, dimensions=4) for name, config in VARIANTS.items()}
    monkeypatch.setattr(hvacf, "VARIANTS", small)
    monkeypatch.setattr(hvacf, "_QUICK_EPOCHS", 2)
    monkeypatch.setattr(kept, "pool_of", lambda _: ThreadPoolExecutor(1))
    hvacf.split_of.cache_clear()
    yield
    hvacf.split_of.cache_clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 users with eight of two kinds of items, and what kind an item is."""
    generator = np.random.default_rng(5)
    rows = [
        (f"{user}", f"{2 * int(item) + user % 2}", time)
        for user in range(40)
        for time, item in enumerate(generator.permutation(20)[:8])
    ]
    users, items, times = zip(*rows, strict=True)
    folder = tmp_path / "data" / SET
    folder.mkdir(parents=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times, "position": times})
    pq.write_table(table, folder / "interactions.parquet")
    known = range(38)  # two items are in no file of items
    kinds = pa.table(
        {"item_id": [f"{n}" for n in known], "attributes": [[n % 2, n % 3 + 2] for n in known]}
    )
    pq.write_table(kinds, folder / "item_attributes.parquet")
    return tmp_path / "data"


def test_every_part_is_left_out_once_and_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    hvacf.run(data, to, quick=True)
    lines = (to / "hvacf-cells.jsonl").read_text().splitlines()
    records = {record["settings"]["variant"]: record for record in map(json.loads, lines)}
    assert set(records) == set(VARIANTS)
    for record in records.values():
        assert 0 < record["auc"] < 1
        assert -1 <= record["spearman"] <= 1
        assert record["labels"] == 40
        assert record["features"] == 5
        assert sum(len(pair) for pair in record["radius_by_count"]) >= 2
    with (to / "hvacf.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == list(VARIANTS)
    for row in rows:
        assert float(row["AUC"]) == pytest.approx(records[row["model"]]["auc"])
    assert (to / "hvacf.png").stat().st_size > 10_000

    def compute(*_: Any, **__: Any) -> Any:
        raise AssertionError("a kept cell is computed again")

    monkeypatch.setattr(hvacf, "compute", compute)
    hvacf.run(data, to, quick=True)


def test_what_could_not_be_fitted_is_an_empty_row(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hvacf.fit

    def fit(*given: Any, **options: Any) -> Any:
        if not given[2].model.attention:
            raise TrainingError("The loss of epoch 1 is nan")
        return real(*given, **options)

    monkeypatch.setattr(hvacf, "fit", fit)
    report = hvacf.run(data, tmp_path, datasets=[SET], quick=True)
    without = next(row for row in report.rows if row[1] == "without attention")
    assert without[2:] == [None] * 7


def test_auc_is_the_share_of_unseen_items_that_rank_below(data: Path) -> None:
    split = leave_last_out(load(SET, data), seed=1)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(split.items, generator=generator)
    found = hvacf.auc(
        hvacf._judge(split, lambda batch: scores.expand(len(batch.offsets), -1), 1), split
    )
    shares = []
    for label in range(len(split.test)):
        row, end = split.test.rows[label], split.test.ends[label]
        past = split.test.items[split.test.offsets[row] : end]
        item = split.test.labels[label]
        others = np.setdiff1d(np.arange(split.items), [*past, item])
        shares.append(float((scores[torch.from_numpy(others)] < scores[item]).double().mean()))
    assert found == pytest.approx(np.mean(shares))


def test_popular_items_near_the_origin_are_told_by_a_negative_number(data: Path) -> None:
    class Model:
        def item_vectors(self) -> torch.Tensor:
            radius = torch.linspace(0.1, 2.0, 6)
            spatial = torch.sinh(radius)
            return torch.stack((-torch.cosh(radius), spatial, torch.zeros(6)), dim=1)

    model: Any = Model()
    found = hvacf._radii(model, np.array([50, 20, 10, 5, 1, 0]))
    assert found["spearman"] == pytest.approx(-1.0)
    assert found["median_radius"] == pytest.approx(0.86, abs=1e-5)
    counts, radii = zip(*found["radius_by_count"], strict=True)
    assert list(counts) == sorted(counts)
    assert list(radii) == sorted(radii, reverse=True)
