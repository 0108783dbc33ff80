"""A warm start, cold items, and stages killed inside an epoch, over runs made by hand."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import re
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperrec_core import artefact
from hyperrec_core.geometry import lorentz
from hyperrec_core.validate import Validation
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from pipelines.errors import UsageError
from pipelines.profile import load_profile
from pipelines.runs import Attempt, Run, RunRecord
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.export import run_export
from pipelines.stages.inputs import read_vocabulary
from pipelines.stages.train import run_train
from pipelines.start import start_run
from pipelines.storage import Folder
from serving_export.reader import Reader
from tests.pipelines.test_evaluate_stage import ITEMS, SMALL, split

AS_OF = date(2024, 1, 9)
IDS = [f"i{item:03d}" for item in range(ITEMS)]
COLD = ["new shoe", "new hat", "thing"]
CATEGORIES = [["wear", "shoe"] if item < ITEMS // 2 else ["wear", "hat"] for item in range(ITEMS)]
COLD_CATEGORIES = [["wear", "shoe"], ["wear", "hat"], ["garden"]]


def preprocessed(attempt: Attempt, *, cold: bool, ids: list[str]) -> dict[str, Any]:
    """What the preprocess stage would have written, of users who walk along the items."""
    counts = np.bincount(split("train")["items"].combine_chunks().flatten(), minlength=ITEMS)
    more = COLD if cold else []
    everything = ids + more
    tables = {
        "vocabulary.parquet": pa.table(
            {
                "item": pa.array(range(len(everything)), pa.int32()),
                "item_id": everything,
                "count": counts.tolist() + [0] * len(more),
                "category": CATEGORIES + COLD_CATEGORIES[: len(more)],
                "is_live": [True] * len(everything),
                "title": pa.array([None] * len(everything), pa.string()),
            }
        )
    }
    tables |= {f"histories/{n}/part-0.parquet": split(n) for n in ("train", "validation", "test")}
    for name, content in tables.items():
        sink = io.BytesIO()
        pq.write_table(content, sink)
        attempt.write(name, sink.getvalue(), rows=content.num_rows)
    return {}


def prepared(
    folder: Path | Folder, *overrides: str, cold: bool = False, ids: list[str] = IDS
) -> Run:
    profile = load_profile("default", [*SMALL, "evaluate.minimum_ratio=0", *overrides])
    record = RunRecord.identify(
        as_of=AS_OF,
        source=f"file:///raw/{cold}/{ids[0]}",
        listing=[],
        configuration=profile.model_dump(mode="json"),
    )
    run = Run.start(Folder(folder) if isinstance(folder, Path) else folder, record)
    run.finish("preprocess", lambda attempt: preprocessed(attempt, cold=cold, ids=ids))
    return run


def trained(folder: Path, *overrides: str, cold: bool = False, ids: list[str] = IDS) -> Run:
    run = prepared(folder, *overrides, cold=cold, ids=ids)
    run_train(run)
    return run


def published(run: Run) -> artefact.ItemVectors:
    return artefact.read_items(run.read("train", "items.parquet"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Run:
    return trained(folder, "train.epochs=3")


@pytest.fixture(scope="module")
def with_cold(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = trained(tmp_path_factory.mktemp("cold"), "train.epochs=3", cold=True)
    run_evaluate(run)
    return run


def test_cold_items_change_nothing_but_what_is_published(plain: Run, with_cold: Run) -> None:
    _, tensors = artefact.load_checkpoint(plain.read("train", "checkpoint.safetensors"))
    _, others = artefact.load_checkpoint(with_cold.read("train", "checkpoint.safetensors"))
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    own, more = published(plain), published(with_cold)
    assert more.item_ids == own.item_ids + COLD
    assert np.array_equal(more.target[:ITEMS], own.target)
    assert lorentz.residual(torch.tensor(more.target).double()).max() < 1e-5
    counts = read_vocabulary(Attempt(with_cold, "train")).counts
    assert len(counts) == ITEMS
    rare = own.target[counts <= np.quantile(counts, 0.1), 1:]
    lengths = np.linalg.norm(more.target[ITEMS:, 1:], axis=1)
    middle = np.sort(np.linalg.norm(rare, axis=1))[(len(rare) - 1) // 2]
    np.testing.assert_allclose(lengths, middle, rtol=1e-5)


def test_cold_items_are_no_candidates_of_the_evaluation(plain: Run, with_cold: Run) -> None:
    run_evaluate(plain)
    judged = [run.require("evaluate").metrics["results"] for run in (plain, with_cold)]
    assert judged[0] == judged[1]


def test_cold_items_are_published_found_and_have_similar_items(
    with_cold: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cosmos_server(tmp_path) as endpoint:
        monkeypatch.setenv("COSMOS_ENDPOINT", endpoint)
        run_export(with_cold)
        with Reader(endpoint, COSMOS_KEY) as reader:
            hat = reader.similar("new hat", 10)
            assert len(hat) == 10
            assert "new hat" not in {found.item_id for found in hat}
            recommended = reader.recommend(["new hat"], ITEMS + len(COLD) - 1)
            assert {"new shoe", "thing"} < {found.item_id for found in recommended}


def test_a_warm_start_reads_the_earlier_run_and_goes_on_from_it(folder: Path, plain: Run) -> None:
    # Another catalogue's order: points must follow item ids, not places.
    turned = IDS[::-1]
    gentle = ("train.model.learning_rate=1e-6", "train.model.lag_learning_rate=1e-6")
    run = trained(folder, f"warm_start={plain.run_id}", *gentle, ids=turned)
    before, after = published(plain), published(run)
    places = [before.item_ids.index(item_id) for item_id in after.item_ids]
    np.testing.assert_allclose(after.target, before.target[places], atol=1e-4)
    inputs = run.require("train").inputs
    for name in ("items.parquet", "checkpoint.safetensors"):
        sha256 = plain.require("train").output(name).sha256
        assert inputs[f"{plain.run_id}/train/{name}"] == sha256
    cold = trained(folder, *gentle, ids=turned)
    assert run.run_id != cold.run_id
    assert np.abs(published(cold).target - before.target[places]).max() > 1e-2


def test_items_that_were_cold_do_not_count_as_known(with_cold: Run) -> None:
    folder = Path(with_cold.storage.url.removeprefix("file://"))
    ids = [COLD[0], *IDS[1:]]
    gentle = "train.model.learning_rate=1e-6"
    run = trained(folder, f"warm_start={with_cold.run_id}", gentle, ids=ids)
    first = published(run).target[0, 1:]
    # At the midpoint of the shoes known, nearer to the origin than where rare items are.
    assert np.linalg.norm(first) < 0.9 * np.linalg.norm(published(with_cold).target[ITEMS, 1:])


def refusal(run: Run) -> str:
    with pytest.raises(UsageError) as caught:
        run_train(run)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert run.manifest("train") is None
    return message


def test_a_model_of_another_kind_is_refused_by_name(folder: Path, plain: Run) -> None:
    start = f"warm_start={plain.run_id}"
    assert refusal(prepared(folder, start, "train.model.dimensions=5")) == (
        f"Training cannot start from run {plain.run_id}: its model.dimensions is 4 and here it is "
        "5: set them alike, or start without it."
    )
    assert "model.tables is 1 and here it is 2" in refusal(
        prepared(folder, start, "train.model.tables=2")
    )


def test_a_run_that_is_not_there_or_not_trained_is_told_before_anything_starts(
    folder: Path, tmp_path: Path
) -> None:
    untrained = prepared(folder, "seed=9")
    raw = Folder(tmp_path)
    raw.write("interactions/dt=2024-01-01/part.csv", b"user_id,item_id,event_time\n")
    before = list(Folder(folder).list())
    for run_id, says in (
        ("2024-01-08-0123456789", "There is no run 2024-01-08-0123456789 in"),
        (untrained.run_id, f"Stage train of run {untrained.run_id} is not done"),
    ):
        with pytest.raises(UsageError, match=says):
            start_run(
                source=raw.url,
                as_of=AS_OF,
                overrides=[f"warm_start={run_id}"],
                runs=folder.as_uri(),
            )
    assert list(Folder(folder).list()) == before


EPOCHS = ("train.epochs=2", "train.batch_size=2")


class Deadly(Folder):
    """A storage that kills who has written a certain checkpoint, and notes all of them."""

    def __init__(self, root: Path, *, after: str = "none", times: int = 1) -> None:
        super().__init__(root)
        self.after, self.left = after, times
        self.written: dict[str, bytes] = {}

    def write(self, name: str, data: bytes) -> None:
        super().write(name, data)
        if "/checkpoints/" in name:
            self.written[name.rpartition("/")[2]] = data
            self.left -= self.after in name
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves on by a second whenever it is looked at, once a batch."""
    monkeypatch.setattr("pipelines.stages.train.monotonic", itertools.count().__next__)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("undisturbed"), *EPOCHS)


def assert_same_training(run: Run, other: Run) -> None:
    """All that training wrote is equal, but for the time that it took."""
    assert run.read("train", "items.parquet") == other.read("train", "items.parquet")
    states = [
        artefact.load_checkpoint(r.read("train", "checkpoint.safetensors"))[1] for r in (run, other)
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    said = [json.loads(r.read("train", "epochs.json")) for r in (run, other)]
    for epoch in said[0]["epochs"] + said[1]["epochs"]:
        assert epoch.pop("seconds") > 0
        assert epoch.pop("examples_per_second") > 0
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("after", "times", "says"),
    [
        ("epoch-0001-batch-", 1, r"after batch \d+ of epoch 1"),
        ("epoch-0002-batch-", 2, r"after batch \d+ of epoch 2"),
        ("epoch-0002.", 1, "after epoch 2"),
    ],
)
def test_a_stage_killed_after_a_checkpoint_goes_on_from_it(
    after: str,
    times: int,
    says: str,
    undisturbed: Run,
    clock: None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    killed = prepared(Deadly(tmp_path, after=after, times=times), *EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        run_train(killed)
    with caplog.at_level(logging.INFO):
        run = trained(tmp_path, *EPOCHS)
    assert re.search(f"Going on {says} of an earlier attempt", caplog.text)
    assert_same_training(run, undisturbed)


def test_of_the_checkpoints_inside_epochs_the_last_two_are_kept(
    clock: None, tmp_path: Path
) -> None:
    storage = Deadly(tmp_path, after="epoch-0003.")
    killed = prepared(storage, *EPOCHS, "train.epochs=3")
    with pytest.raises(KeyboardInterrupt):
        run_train(killed)
    written = list(storage.written)
    inside = [name for name in written if "-batch-" in name]
    assert len(inside) > 4
    left = [blob.name.rpartition("/")[2] for blob in storage.list(f"{killed.run_id}/train/check")]
    # In the order of their names as in that of time, on which a resume relies.
    assert left == [name for name in written if name not in inside[:-2]]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    undisturbed: Run, clock: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Deadly(tmp_path, after="epoch-0002-batch-", times=2)
    killed = prepared(storage, *EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        run_train(killed)
    before, newest = list(storage.written)[-2:]
    name = f"{killed.run_id}/train/checkpoints/{newest}"
    Folder(tmp_path).write(name, storage.written[newest][:-100])
    with caplog.at_level(logging.INFO):
        run = trained(tmp_path, *EPOCHS)
    assert f"{name} is passed over for an earlier checkpoint" in caplog.text
    batch = int(before.removesuffix(".safetensors").rpartition("-")[2])
    assert f"Going on after batch {batch} of epoch 2" in caplog.text
    assert_same_training(run, undisturbed)


def test_what_is_left_of_training_is_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first of equal epochs is published; what training goes on from is after the last.
    monkeypatch.setattr(Validation, "judge", lambda *_: (0.5, 0.5))
    storage = Deadly(tmp_path)
    run = prepared(storage, *EPOCHS)
    run_train(run)
    assert list(storage.written) == ["epoch-0001.safetensors", "epoch-0002.safetensors"]
    last = storage.written["epoch-0002.safetensors"]
    assert run.read("train", "checkpoint.safetensors") == last


def test_two_processes_do_the_stage_together(tmp_path: Path) -> None:
    """As `torchrun --nproc-per-node=2 hyperrec train` starts them, on processors over gloo."""
    one, run = trained(tmp_path / "one"), prepared(tmp_path / "runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", "from pipelines.cli import main; main()", "train", run.run_id,
             "--runs", (tmp_path / "runs").as_uri()],
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert "items.parquet" in said[0]
    assert "items.parquet" not in said[1]
    alone, together = (
        json.loads(each.read("train", "epochs.json"))["epochs"] for each in (one, run)
    )
    assert [e["loss"] for e in together] == pytest.approx([e["loss"] for e in alone], rel=1e-2)
