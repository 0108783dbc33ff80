"""Runs and manifests: what identifies a run, and that nothing unfinished or damaged counts."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import CorruptOutputError, NotFoundError, UsageError
from pipelines.runs import STAGES, Attempt, Manifest, Run, RunRecord, StageName, list_runs
from pipelines.storage import Blob, Folder

Work = Callable[[Attempt], Mapping[str, Any]]

CONFIGURATION = {"seed": 7, "train": {"epochs": 3, "rate": 0.1}, "drop": {"free": "price = 0"}}
LISTING = [Blob("interactions/dt=2024-01-01/a.parquet", 10, "e1"), Blob("items/b.parquet", 20, "e")]

blobs = st.lists(
    st.builds(
        Blob,
        name=st.text(st.characters(exclude_characters="\0\n", codec="utf-8"), min_size=1),
        size=st.integers(0, 2**40),
        etag=st.text("0123456789abcdefx-", min_size=1, max_size=20),
    ),
    unique_by=lambda blob: blob.name,
    max_size=6,
)
configurations = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)
dates = st.dates(date(2000, 1, 1), date(2100, 1, 1))


def run_id(
    listing: list[Blob] = LISTING,
    configuration: dict[str, Any] = CONFIGURATION,
    as_of: date = date(2024, 1, 31),
    source: str = "az://raw",
) -> str:
    record = RunRecord.identify(
        as_of=as_of, source=source, listing=listing, configuration=configuration
    )
    return record.run_id


@given(st.data(), blobs, configurations, dates)
def test_a_run_id_is_of_what_goes_in_not_of_its_order_or_place(
    data: st.DataObject, listing: list[Blob], configuration: dict[str, Any], as_of: date
) -> None:
    shuffled = data.draw(st.permutations(listing))
    keys = data.draw(st.permutations(list(configuration)))
    first = run_id(listing, configuration, as_of)
    assert first.startswith(f"{as_of.isoformat()}-")
    assert first == run_id(
        shuffled, {key: configuration[key] for key in keys}, as_of, source="file:///elsewhere"
    )


@given(st.data(), blobs.filter(bool))
def test_another_blob_is_another_run(data: st.DataObject, listing: list[Blob]) -> None:
    place = data.draw(st.integers(0, len(listing) - 1))
    blob = listing[place]
    changed = data.draw(
        st.sampled_from(
            [
                [replace(blob, etag=f"{blob.etag}0")],
                [replace(blob, size=blob.size + 1)],
                [replace(blob, name=f"{blob.name}0{len(listing)}")],
                [blob, Blob(f"{blob.name}/new", 0, "e")],
                [],
            ]
        )
    )
    others = listing[:place] + listing[place + 1 :]
    assert run_id(others + changed) != run_id(listing)


@given(configurations, configurations)
def test_another_configuration_is_another_run(one: dict[str, Any], two: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (run_id(configuration=one) == run_id(configuration=two)) == same


@given(dates, dates)
def test_another_day_is_another_run(one: date, two: date) -> None:
    assert (run_id(as_of=one) == run_id(as_of=two)) == (one == two)


def record(as_of: date = date(2024, 1, 31)) -> RunRecord:
    return RunRecord.identify(
        as_of=as_of, source="az://raw", listing=LISTING, configuration=CONFIGURATION
    )


class Journal(Folder):
    """A folder that remembers what was put in which order."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[str] = []

    def write(self, name: str, data: bytes) -> None:
        super().write(name, data)
        self.puts.append(name)

    def create(self, name: str, data: bytes) -> None:
        super().create(name, data)
        self.puts.append(name)


@pytest.fixture
def storage(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "runs")


@pytest.fixture
def run(storage: Journal) -> Run:
    return Run.start(storage, record())


def wrote(**outputs: bytes) -> Work:
    def work(attempt: Attempt) -> Mapping[str, Any]:
        for name, data in outputs.items():
            attempt.write(name, data, rows=len(data))
        return {"outputs": len(outputs)}

    return work


def forbidden(_: Attempt) -> Mapping[str, Any]:
    raise AssertionError("a finished stage was done again")


def names(run: Run, stage: StageName) -> list[str]:
    return [blob.name for blob in run.storage.list(f"{run.run_id}/{stage}/")]


def test_a_run_begun_twice_is_one_run(storage: Journal, run: Run) -> None:
    run.finish("preprocess", wrote(a=b"1"))
    before = storage.read(f"{run.run_id}/run.json")
    again = Run.start(storage, record())
    assert again.run_id == run.run_id
    assert again.manifest("preprocess") == run.manifest("preprocess")
    assert Run.open(storage, run.run_id).record == run.record == record()
    assert storage.read(f"{run.run_id}/run.json") == before
    assert list_runs(storage) == [run.run_id]


def test_a_manifest_comes_last_and_says_what_was_done(storage: Journal, run: Run) -> None:
    before = datetime.now(UTC)
    run.finish("preprocess", wrote(early=b"histories"))

    def work(attempt: Attempt) -> Mapping[str, Any]:
        assert run.manifest("train") is None
        assert attempt.read("preprocess", "early") == b"histories"
        attempt.write("model.json", b"{}")
        attempt.write("parts/items.parquet", b"vectors", rows=3)
        return {"loss": 0.25}

    manifest = run.finish("train", work)
    folder = f"{run.run_id}/train"
    assert storage.puts[-3:] == [
        f"{folder}/{manifest.attempt}/model.json",
        f"{folder}/{manifest.attempt}/parts/items.parquet",
        f"{folder}/manifest.json",
    ]
    assert manifest == run.manifest("train") == Run.open(storage, run.run_id).require("train")
    assert (manifest.run_id, manifest.stage, manifest.seed) == (run.run_id, "train", 7)
    assert manifest.configuration == CONFIGURATION
    assert manifest.inputs == {"preprocess/early": hashlib.sha256(b"histories").hexdigest()}
    assert manifest.metrics == {"loss": 0.25}
    output = manifest.output("parts/items.parquet")
    assert (output.bytes, output.rows) == (7, 3)
    assert output.sha256 == hashlib.sha256(b"vectors").hexdigest()
    assert manifest.output("model.json").rows is None
    assert before <= manifest.started_at <= datetime.now(UTC)
    assert manifest.wall_seconds >= 0
    assert manifest.peak_memory_bytes > 1 << 20
    assert manifest.code_version.startswith(manifest.packages["hyperrec"])
    assert manifest.packages["numpy"] != "absent"
    with pytest.raises(NotFoundError, match=r"wrote no x; it wrote model\.json, parts/items\."):
        manifest.output("x")


def test_a_finished_stage_is_not_done_again(storage: Journal, run: Run) -> None:
    first = run.finish("train", wrote(model=b"1"))
    puts = list(storage.puts)
    assert run.finish("train", forbidden) == first
    assert Run.open(storage, run.run_id).finish("train", forbidden) == first
    assert storage.puts == puts
    assert run.read("train", "model") == b"1"


@pytest.mark.parametrize("end", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_work_that_breaks_off_counts_for_nothing(run: Run, end: BaseException) -> None:
    def breaks_off(attempt: Attempt) -> Mapping[str, Any]:
        attempt.write("model", b"half")
        run.storage.write(f"{run.run_id}/train/checkpoints/epoch-0001", b"state")
        raise end

    with pytest.raises(type(end)):
        run.finish("train", breaks_off)
    assert run.manifest("train") is None
    with pytest.raises(UsageError, match=rf"give `hyperrec train {run.run_id}` first"):
        run.read("train", "model")
    # What it left is there for the next try (a checkpoint) until that one has succeeded.
    assert len(names(run, "train")) == 2
    run.finish("evaluate", wrote(metrics=b"{}"))
    manifest = run.finish("train", wrote(model=b"whole"))
    folder = f"{run.run_id}/train"
    assert names(run, "train") == sorted(
        [f"{folder}/{manifest.attempt}/model", f"{folder}/manifest.json"]
    )
    assert run.read("train", "model") == b"whole"
    assert run.read("evaluate", "metrics") == b"{}"


def test_of_two_that_finish_at_once_one_counts(storage: Journal, run: Run) -> None:
    line = threading.Barrier(2)
    attempts: list[str] = []
    found: list[Manifest] = []

    def work(attempt: Attempt) -> Mapping[str, Any]:
        attempt.write("model", attempt.id.encode())
        attempts.append(attempt.id)
        line.wait(timeout=60)
        return {"attempt": attempt.id}

    def finish() -> None:
        found.append(Run.open(Folder(storage.root), run.run_id).finish("train", work))

    threads = [threading.Thread(target=finish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(attempts)) == 2
    assert found[0] == found[1] == run.manifest("train")
    winner = found[0].attempt
    assert winner in attempts
    assert run.read("train", "model") == winner.encode()
    assert names(run, "train") == sorted(
        [f"{run.run_id}/train/{winner}/model", f"{run.run_id}/train/manifest.json"]
    )


def test_a_slower_rival_takes_its_outputs_away(run: Run) -> None:
    def overtaken(attempt: Attempt) -> Mapping[str, Any]:
        attempt.write("model", b"before")
        run.finish("train", wrote(model=b"winner"))
        attempt.write("more", b"after")
        return {"who": "loser"}

    manifest = run.finish("train", overtaken)
    assert manifest.metrics == {"outputs": 1}
    assert run.read("train", "model") == b"winner"
    assert len(names(run, "train")) == 2


def blob_of(run: Run, stage: StageName, name: str) -> str:
    return f"{run.run_id}/{run.require(stage).output(name).path}"


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "missing"])
def test_a_damaged_output_is_named(run: Run, damage: str) -> None:
    data = bytes(range(256))
    run.finish("train", wrote(model=data, other=b"2"))
    path = blob_of(run, "train", "model")
    if damage == "missing":
        run.storage.delete(path)
    else:
        flipped = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        run.storage.write(path, {"flipped": flipped, "cut": data[:-1]}.get(damage, data + b"\0"))
    says = "missing from" if damage == "missing" else "differs from the sha256"
    with pytest.raises(CorruptOutputError, match=rf"^{path} .*{says}.*: restore it, or start"):
        run.read("train", "model")
    assert run.read("train", "other") == b"2"

    # The stage that wants it fails and leaves no manifest.
    with pytest.raises(CorruptOutputError):
        run.finish("evaluate", lambda attempt: {"model": attempt.read("train", "model")})
    assert run.manifest("evaluate") is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"format": 2}', b"\xff\xfe"])
def test_a_damaged_manifest_is_not_taken_for_done(run: Run, damage: bytes) -> None:
    run.finish("train", wrote(model=b"1"))
    run.storage.write(f"{run.run_id}/train/manifest.json", damage)
    for use in (
        lambda: run.manifest("train"),
        lambda: run.require("train"),
        lambda: run.read("train", "model"),
        lambda: run.finish("train", forbidden),
    ):
        with pytest.raises(CorruptOutputError) as caught:
            use()
        message = str(caught.value)
        assert message.startswith(f"The manifest of stage train of run {run.run_id} cannot be read")
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff"])
def test_a_damaged_run_record_is_told_in_a_sentence(run: Run, damage: bytes) -> None:
    run.storage.write(f"{run.run_id}/run.json", damage)
    with pytest.raises(CorruptOutputError, match=rf"^{run.run_id}/run\.json in \S+ cannot") as e:
        Run.open(run.storage, run.run_id)
    assert len(str(e.value).splitlines()) == 1


def test_an_unknown_run_lists_the_newest(storage: Journal) -> None:
    with pytest.raises(UsageError, match=r"^There is no run x in \S+; the runs there: none yet\.$"):
        Run.open(storage, "x")
    known = [Run.start(storage, record(date(2024, 1, day))).run_id for day in range(1, 8)]
    with pytest.raises(UsageError) as caught:
        Run.open(storage, "2024-01-03")
    assert str(caught.value).endswith(f"the runs there: {', '.join(known[2:])}.")
    assert list_runs(storage) == known


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_not_done_names_its_command(run: Run, stage: StageName) -> None:
    assert run.manifest(stage) is None
    with pytest.raises(UsageError, match=rf"^Stage {stage} of run {run.run_id} is not done: "):
        run.require(stage)


def test_an_output_of_another_process_is_adopted(run: Run) -> None:
    def work(attempt: Attempt) -> Mapping[str, Any]:
        run.storage.write(f"{attempt.folder}/part-0", b"spark")
        digest = hashlib.sha256(b"spark").hexdigest()
        attempt.adopt("part-0", sha256=digest, size=5, rows=1)
        return {}

    manifest = run.finish("preprocess", work)
    assert run.read("preprocess", "part-0") == b"spark"
    assert manifest.output("part-0").bytes == 5


def test_what_one_killed_after_the_manifest_left_goes_with_the_next_try(
    storage: Journal, run: Run
) -> None:
    run.finish("train", wrote(model=b"1"))
    storage.write(f"{run.run_id}/train/checkpoints/epoch-0001", b"state")
    run.finish("train", forbidden)
    left = [blob.name for blob in storage.list(f"{run.run_id}/train/")]
    assert len(left) == 2
    assert not any("checkpoints" in name for name in left)
    assert run.read("train", "model") == b"1"
