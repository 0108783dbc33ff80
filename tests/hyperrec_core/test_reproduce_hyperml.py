"""HyperML's tables and figures: cells that are kept and go on, and what is made of them."""

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

from hyperrec_core.analysis import hyperml, hyperml_cells, kept
from hyperrec_core.analysis.datasets import DatasetError
from hyperrec_core.analysis.hyperml_cells import GRIDS, Cell, best_of
from hyperrec_core.fit import TrainingError
from hyperrec_core.models.hyperml import HyperMLConfig

CELLS = 7 + 4 + 5 + 6  # a setting a model, the other curvatures and gammas, random items held out


@pytest.fixture(autouse=True)
def here_and_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cells in this process, of two dimensions, for one epoch."""
    small = {n: tuple(replace(c, dimensions=4) for c in grid) for n, grid in GRIDS.items()}
    for module in (hyperml, hyperml_cells):
        monkeypatch.setattr(module, "GRIDS", small)
    monkeypatch.setattr(kept, "pool_of", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(hyperml_cells, "QUICK_EPOCHS", 1)
    hyperml_cells.split_of.cache_clear()
    yield
    hyperml_cells.split_of.cache_clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sets of the form of ml-100k and ml-1m: 40 users, two kinds of items."""
    generator = np.random.default_rng(5)
    rows = [
        (f"{user}", f"{2 * int(generator.integers(0, 20)) + user % 2}", time)
        for user in range(40)
        for time in range(6)
    ]
    users, items, times = zip(*rows, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times, "position": times})
    for name in ("ml-100k", "ml-1m"):
        (tmp_path / "data" / name).mkdir(parents=True)
        pq.write_table(table, tmp_path / "data" / name / "interactions.parquet")
    return tmp_path / "data"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Every cell that is computed from here on."""
    seen: list[Cell] = []
    real = hyperml_cells.compute

    def compute(cell: Cell, data: Path) -> dict[str, Any]:
        seen.append(cell)
        return real(cell, data)

    monkeypatch.setattr(hyperml, "compute", compute)
    return seen


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.reader(file))


def test_tables_and_figures_are_written_and_kept_cells_are_not_computed_again(
    data: Path, tmp_path: Path, computed: list[Cell]
) -> None:
    to = tmp_path / "to"
    report = hyperml.run(data, to, datasets=["ml-1m"], quick=True)
    assert len(computed) == CELLS
    names = {f"hyperml-{n}{e}" for n in ("table2", "held-out", "table3") for e in (".md", ".csv")}
    names |= {
        f"hyperml-{n}{e}" for n in ("table4", "figure4", "figure2") for e in (".md", ".csv", ".png")
    }
    assert {path.name for path in to.iterdir()} == names | {"hyperml-cells.jsonl"}
    assert {path.name for path in report.files} == names | {"hyperml-cells.jsonl"}
    second = rows_of(to / "hyperml-table2.csv")
    published = [0.75629, 0.75629, 0.74528, 0.74528, 0.74057, 0.74127]
    assert [row[:2] for row in second[1:]] == [["ml-1m", model] for model in hyperml.ROWS]
    assert [float(row[3]) for row in second[1:]] == pytest.approx(published)
    for row in second[1:]:
        hr, theirs, ndcg, its = (float(cell) for cell in row[2:6])
        assert row[6] == ("yes" if hr > theirs - 0.03 and ndcg > its - 0.03 else "no")
    drawn = rows_of(to / "hyperml-held-out.csv")
    assert [row[:2] for row in drawn] == [row[:2] for row in second]
    assert [row[2:5:2] for row in drawn[1:]] != [row[2:5:2] for row in second[1:]]
    fourth = rows_of(to / "hyperml-table4.csv")
    assert [row[:2] for row in fourth[1:]] == [["ml-1m", str(c)] for c in hyperml.CURVATURES]
    before = (to / "hyperml-table2.md").read_text()
    assert "nothing here is comparable" in before

    file = to / "hyperml-cells.jsonl"
    lines = file.read_text().splitlines()
    assert len(lines) == CELLS
    # The last line as a run that was killed left it.
    file.write_text("\n".join([*lines[:-1], lines[-1][:40]]))
    hyperml.run(data, to, datasets=["ml-1m"], quick=True)
    assert len(computed) == CELLS + 1
    assert len(kept.read(file)) == CELLS
    assert (to / "hyperml-table4.csv").read_text().splitlines()[1:] == [
        ",".join(row) for row in fourth[1:]
    ]


def test_a_cell_that_cannot_be_fitted_is_told_and_left_blank(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hyperml_cells.fit

    def fit(train: Any, validation: Any, config: Any, **options: Any) -> Any:
        if config.model.name == "cml":
            raise TrainingError("The loss of epoch 1 is nan")
        return real(train, validation, config, **options)

    monkeypatch.setattr(hyperml_cells, "fit", fit)
    hyperml.run(data, tmp_path, datasets=["ml-100k"], quick=True)
    second = rows_of(tmp_path / "hyperml-table2.csv")
    assert second[3][:4] == ["ml-100k", "CML", "", ""]
    problems = [
        record["problem"]
        for line in (tmp_path / "hyperml-cells.jsonl").read_text().splitlines()
        if "problem" in (record := json.loads(line))
    ]
    # With the last item held out, and with a random one; with and without regularisation.
    assert problems == ["The loss of epoch 1 is nan"] * 4


def test_the_best_setting_is_the_one_that_validates_best() -> None:
    cells = [Cell("ml-1m", HyperMLConfig(margin=m), quick=False) for m in (0.1, 0.2, 0.5)]
    found: list[dict[str, Any]] = [{"validation": 0.2}, {"problem": "nan"}, {"validation": 0.3}]
    records = {cell.key: record for cell, record in zip(cells, found, strict=True)}
    assert best_of(cells, records) == (cells[2], found[2])


def test_a_missing_set_is_found_before_anything_is_computed(
    data: Path, tmp_path: Path, computed: list[Cell]
) -> None:
    with pytest.raises(DatasetError, match="amazon-toys-5core"):
        hyperml.run(data, tmp_path, datasets=["ml-100k", "amazon-toys-5core"], quick=True)
    assert computed == []
