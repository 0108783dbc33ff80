from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hyperrec_core.histories import Histories
from pipelines.synthesise import CatalogueConfig, interactions, latent
from tests.benchmarks import asos

SIZE = (6000, 300, 200)  # interactions, users, items


def test_the_histories_are_those_of_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent, "_BLOCK_EVENTS", 2500)  # three blocks
    parts, vocabulary = asos.asos_histories(*SIZE, tmp_path)
    assert len(parts) == 3
    positions, users, items = SIZE
    config = CatalogueConfig(
        users=users,
        items=items,
        interactions=positions,
        days=asos._DAYS,
        last_day=asos._LAST_DAY,
        seed=asos._SEED,
    )
    rows = [row for _, table in interactions(config) for row in table.to_pylist()]
    counts = Counter(row["item_id"] for row in rows)
    ids = sorted(counts, key=lambda item: (-counts[item], item))
    assert vocabulary == len(ids) < items
    expected: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        second = int(row["event_time"].timestamp())
        expected.setdefault(row["user_id"], []).append((second, row["item_id"]))

    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["user_id"] for row in found] == sorted(expected)
    for row in found:
        times, names = zip(*expected[row["user_id"]], strict=True)
        assert row["times"] == list(times)
        assert [ids[item] for item in row["items"]] == list(names)
        assert row["is_label"] == [time > times[0] for time in times]
    assert len(Histories.from_parquet(parts, items=vocabulary)) == sum(
        sum(row["is_label"]) for row in found
    )


def test_a_set_is_made_once_and_a_half_made_one_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asos.asos_histories(500, 50, 40, tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "made.json").unlink()
    (folder / "drawn-00009.parquet").touch()
    assert asos.asos_histories(500, 50, 40, tmp_path) == asked
    assert {file.name for file in folder.iterdir()} == {"made.json", "part-00000.parquet"}
    monkeypatch.setattr(asos, "_make", None)
    assert asos.asos_histories(500, 50, 40, tmp_path) == asked
