"""Histories of a run that are larger than the memory allows, and the interactions beside them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from hyperrec_core.histories import POSITION_BYTES, Histories
from pipelines.runs import Attempt, Run
from pipelines.stages import inputs
from tests.pipelines.test_evaluate_stage import ITEMS, USERS, split
from tests.pipelines.test_train_stage import prepared

POSITIONS = 3 * USERS
ARRAYS = ("items", "offsets", "rows", "label_positions", "ends", "users")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return prepared(tmp_path_factory.mktemp("runs"))


def mapped(histories: Histories) -> bool:
    return any(isinstance(getattr(histories, name).base, np.memmap) for name in ARRAYS)


@pytest.mark.parametrize("short", [0, 1])
def test_a_set_above_a_quarter_of_the_memory_is_mapped_from_files_that_are_gone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    memory = 4 * POSITIONS * POSITION_BYTES - short
    monkeypatch.setattr(inputs, "_physical_memory", lambda: memory)
    found = inputs.read_histories(Attempt(run, "train"), "train", items=ITEMS)
    assert mapped(found) == bool(short)
    assert not list(tmp_path.iterdir())
    plain = Histories.from_tables([split("train")], items=ITEMS)
    for name in ARRAYS:
        assert np.array_equal(getattr(found, name), getattr(plain, name)), name
    assert found.user_ids == plain.user_ids


def test_this_machine_has_memory() -> None:
    assert inputs._physical_memory() > 1 << 28


def test_parts_are_inputs_of_the_attempt(run: Run) -> None:
    attempt = Attempt(run, "train")
    inputs.read_histories(attempt, "validation", items=ITEMS)
    assert list(attempt.inputs) == ["preprocess/histories/validation/part-0.parquet"]


def test_interactions_are_every_position_of_training(run: Run) -> None:
    items, times = inputs.read_interactions(Attempt(run, "evaluate"))
    table = split("train")
    assert items.tolist() == [i for row in table["items"].to_pylist() for i in row]
    assert times.tolist() == [t for row in table["times"].to_pylist() for t in row]
