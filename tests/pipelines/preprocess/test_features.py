"""The catalogue's column of vectors: found in its files, checked, kept beside the vocabulary."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import PipelineError, UsageError
from pipelines.preprocess.features import read_features, write_features
from pipelines.storage import Folder


class Kept:
    """An attempt, as far as it is written to."""

    def __init__(self) -> None:
        self.tables: dict[str, pa.Table] = {}

    def write(self, name: str, data: bytes, rows: int) -> None:
        self.tables[name] = pq.read_table(io.BytesIO(data))
        assert rows == self.tables[name].num_rows


def put(folder: Path, name: str, **columns: Any) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    Folder(folder).write(name, sink.getvalue())


def read(folder: Path, column: str = "features") -> dict[str, list[float]]:
    storage = Folder(folder)
    table = read_features(storage, list(storage.list()), column)
    return dict(zip(table["item_id"].to_pylist(), table["features"].to_pylist(), strict=True))


def test_of_several_files_the_last_ones_vector_counts(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=["x", "y"], features=[[1.0, 2.0], [3.0, 4.0]])
    put(tmp_path, "items/b.parquet", item_id=["y", "z"], features=[[5.0, 6.0], None])
    put(tmp_path, "items/part-0.parquet", item_id=["x", "z"], title=["coat", "hat"])
    put(tmp_path, "interactions/dt=2024-01-01/a.parquet", item_id=["w"], features=[[9.0]])
    assert read(tmp_path) == {"x": [1.0, 2.0], "y": [5.0, 6.0]}


def test_a_file_without_any_vector_adds_none(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=["x"], features=pa.nulls(1))
    with pytest.raises(PipelineError, match=r"features of items/a.parquet in .* no item has a vec"):
        read(tmp_path)
    put(tmp_path, "items/b.parquet", item_id=["y"], features=[[1.0, 2.0]])
    kind = pa.list_(pa.float32())
    put(tmp_path, "items/c.parquet", item_id=pa.array([], "string"), features=pa.array([], kind))
    put(tmp_path, "items/d.parquet", item_id=["z"], features=pa.array([None], kind))
    assert read(tmp_path) == {"y": [1.0, 2.0]}


def test_numbers_for_ids_are_the_vocabularys_text(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=[17], features=[[1.0]])
    assert read(tmp_path) == {"17": [1.0]}


def test_a_column_that_is_nowhere_lists_those_there_are(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=["x"], looks=[[1.0, 2.0]], title=["coat"])
    with pytest.raises(
        UsageError, match=r"has a column features beside item_id \(its columns are "
    ):
        read(tmp_path)
    with pytest.raises(UsageError, match=r"\(it has no catalogue\): write one, as `hyperrec feat"):
        read(tmp_path / "nothing")
    assert read(tmp_path, "looks") == {"x": [1.0, 2.0]}


def test_a_vector_that_is_none_is_told_with_its_file_and_item(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=["x", "y"], features=[[1.0], [float("nan")]])
    told = r"features of items/a.parquet in file:.* number 1 of the vector of item 'y' is nan; mend"
    with pytest.raises(PipelineError, match=told):
        read(tmp_path)


def test_files_of_two_encoders_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=["x"], features=[[1.0, 2.0]])
    put(tmp_path, "items/b.parquet", item_id=["y"], features=[[1.0]])
    told = r"features of items/b.parquet .* have 1 numbers and those of items/a.parquet have 2"
    with pytest.raises(PipelineError, match=told):
        read(tmp_path)


def test_they_stand_by_item_and_lacking_ones_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "items/a.parquet", item_id=["x", "y"], features=[[1.0, 2.0], [3.0, 4.0]])
    storage = Folder(tmp_path)
    found = read_features(storage, list(storage.list()), "features")
    vocabulary = pa.table({"item": pa.array([0, 1, 2], pa.int32()), "item_id": ["y", "q", "x"]})
    kept: Any = Kept()
    assert write_features(found, vocabulary, kept) == {
        "items_with_features": 2,
        "items_without_features": 1,
    }
    assert kept.tables["features.parquet"].to_pydict() == {
        "item": [0, 1, 2],
        "features": [[3.0, 4.0], None, [1.0, 2.0]],
    }
