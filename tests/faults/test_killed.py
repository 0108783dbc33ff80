"""A run killed in the middle of a stage: the same command again completes it, to the same bits.

The process alone gets the SIGKILL, as from a kernel short of memory; nobody tells its children.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.services import cosmos_server
from pipelines.runs import STAGES, Run
from pipelines.storage import Storage
from serving_export.errors import ExportError
from tests.faults.conftest import Undisturbed
from tests.support import (
    Place,
    assert_same_vectors,
    copy_run,
    faults,
    manifests,
    published,
    slot_documents,
)

pytestmark = pytest.mark.slow

# Writing all items then takes some ten times as long.
SLOW_UPSERTS = {"operations": ["upsert"], "delay_ms": 300}


def is_there(runs: Storage, prefix: str) -> Callable[[], bool]:
    return lambda: any(True for _ in runs.list(prefix))


def in_the_middle(stage: str, run_id: str, runs: Storage, place: Place) -> Callable[[], bool]:
    """When a stage has surely begun and, as its manifest will prove, not ended."""

    def some_items_are_written() -> bool:
        try:
            loading = place.control().loading
            return loading is not None and len(slot_documents(place, loading.slot)) > 0
        except ExportError:
            return False  # the containers are not made yet

    moments = {
        "preprocess": is_there(runs, f"{run_id}/preprocess/"),
        "train": is_there(runs, f"{run_id}/train/checkpoints/epoch-0002"),
        "evaluate": is_there(runs, f"{run_id}/train/manifest.json"),
        "export": some_items_are_written,
    }
    return moments[stage]


@pytest.mark.parametrize(
    ("stage", "begin_after"),
    [
        # Of Spark's, tests/faults/test_spark_killed.py kills one in the middle each time.
        pytest.param("preprocess", 0, marks=pytest.mark.heavy),
        ("train", 1),
        pytest.param("evaluate", 1, marks=pytest.mark.heavy),
        # tests/faults/test_publish_killed.py kills one at random moments each time.
        pytest.param("export", 3, marks=pytest.mark.heavy),
    ],
)
def test_the_same_command_completes_a_killed_run(
    stage: str, begin_after: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run_id = undisturbed.run_id
    with cosmos_server(tmp_path / "cosmos") as cosmos:
        place = Place.make(tmp_path / "place", cosmos=cosmos)
        runs = place.storage(str(tmp_path / "runs"))
        copy_run(undisturbed.runs, run_id, runs, STAGES[:begin_after])
        command = ("run", *undisturbed.job, "--runs", runs.url)
        if stage == "export":
            faults(cosmos, SLOW_UPSERTS)

        place.killed(*command, when=in_the_middle(stage, run_id, runs, place))

        earlier = manifests(runs, run_id)
        assert tuple(earlier) == STAGES[: STAGES.index(stage)]
        faults(cosmos)
        again = place.hyperrec(*command)
        if stage == "train":
            assert "Going on after epoch" in again.err

        later = manifests(runs, run_id)
        assert later.keys() == set(STAGES)
        assert earlier.items() <= later.items(), "a finished stage was repeated"
        assert_same_vectors(published(place), undisturbed.items)
        assert_nothing_else_is_left(Run.open(runs, run_id))
        control = place.control()
        assert control.active is not None and control.active.version == run_id
        assert control.previous is None and control.loading is None


def assert_nothing_else_is_left(run: Run) -> None:
    """The run's folder holds what its manifests name, and no traces of the attempt killed."""
    named = {f"{run.run_id}/{o.path}" for stage in STAGES for o in run.require(stage).outputs}
    named |= {f"{run.run_id}/{stage}/manifest.json" for stage in STAGES}
    folder = Path(run.storage.url.removeprefix("file://"), run.run_id)
    files = {f"{run.run_id}/{p.relative_to(folder)}" for p in folder.rglob("*") if p.is_file()}
    assert files == named | {f"{run.run_id}/run.json"}
