"""A store that goes away in the middle of a stage: waited for, then told, and resumed from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import services
from pipelines.errors import NotFoundError
from pipelines.runs import STAGES, Run, list_runs
from pipelines.storage import Storage, open_storage
from tests.faults.conftest import Undisturbed
from tests.faults.test_killed import SLOW_UPSERTS, in_the_middle
from tests.support import Child, Place, assert_same_vectors, copy_run, faults, published, wait_until

pytestmark = pytest.mark.slow

_AWAY = 30  # seconds


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Path]:
    """The home of local services that come back on the same ports with the same data."""
    if not services.azurite_installed():
        pytest.skip("Node or infra/local/node_modules is missing")
    home = tmp_path / "stores"
    services.up(home)
    yield home
    services.down(home)


def place_of(stores: Path, home: Path, *, patience: float) -> Place:
    found = services.running(stores)
    assert found is not None
    return Place.make(
        home, blobs=found.blob_endpoint, cosmos=found.cosmos_endpoint, patience=patience
    )


def wait_for_the_middle(child: Child, stage: str, run_id: str, runs: str, place: Place) -> None:
    reached = in_the_middle(stage, run_id, place.storage(runs), place)
    wait_until(
        lambda: reached() or not child.running(), f"the stage {stage} does not begin", seconds=240
    )
    assert child.running(), f"the stage ended too early: {child.done().err}"


@pytest.mark.parametrize("patience", [2, 60])
def test_training_outlives_its_blob_storage(
    patience: float, stores: Path, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    place = place_of(stores, tmp_path / "place", patience=patience)
    run_id, runs = undisturbed.run_id, place.storage("az://runs")
    copy_run(undisturbed.runs, run_id, runs, STAGES[:1])
    command = ("train", run_id, "--runs", "az://runs")
    with place.started(*command) as child:
        wait_for_the_middle(child, "train", run_id, "az://runs", place)
        services.down(stores)
        if patience == 2:
            done = child.done()
            assert done.code == 1
            assert done.said.startswith("hyperrec: Blob storage at http://127.0.0.1:")
            assert "did not answer for 2 s" in done.said
            assert "Traceback" not in done.err
        services.up(stores)
        if patience == 60:
            assert child.done().code == 0
    if patience == 2:
        assert "Going on after epoch" in place.hyperrec(*command).err

    whole = Run.open(undisturbed.runs, run_id).require("train").output("items.parquet")
    assert Run.open(runs, run_id).require("train").output("items.parquet").sha256 == whole.sha256


def test_an_export_outlives_cosmos(stores: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    place = place_of(stores, tmp_path / "place", patience=2)
    run_id, runs = undisturbed.run_id, place.storage(str(tmp_path / "runs"))
    copy_run(undisturbed.runs, run_id, runs, STAGES[:3])
    command = ("export", run_id, "--runs", runs.url)
    faults(place.cosmos, SLOW_UPSERTS)
    with place.started(*command) as child:
        wait_for_the_middle(child, "export", run_id, runs.url, place)
        services.down(stores)
        done = child.done()
    assert done.code == 1
    assert done.said.startswith("hyperrec: Cosmos DB at http://127.0.0.1:")
    assert "Traceback" not in done.err

    services.up(stores)
    assert place.control().active is None
    place.hyperrec(*command)
    assert_same_vectors(published(place), undisturbed.items)


@pytest.mark.timeout(600)
@pytest.mark.heavy  # CI has the two above: the store of a training, and that of an export
def test_a_run_outlives_both_stores_in_every_stage(
    stores: Path, raw: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    place = place_of(stores, tmp_path / "place", patience=60)
    source, target, runs = open_storage(raw), place.storage("az://raw"), place.storage("az://runs")
    for blob in source.list():
        target.write(blob.name, source.read(blob.name))
    job = ["az://raw" if word == raw else word for word in undisturbed.job]
    with place.started("run", *job) as child:
        wait_until(lambda: begun(runs) or not child.running(), "no run is begun")
        assert child.running(), child.done()
        (run_id,) = begun(runs)
        for stage in STAGES:
            if stage == "export":
                faults(place.cosmos, SLOW_UPSERTS)
            wait_for_the_middle(child, stage, run_id, "az://runs", place)
            assert Run.open(runs, run_id).manifest(stage) is None
            services.down(stores)
            time.sleep(_AWAY)
            services.up(stores)
        done = child.done(400)
    assert done.code == 0, done.err
    # No epoch is done twice: training waited, and was not begun anew.
    assert "Going on after epoch" not in done.err
    assert_same_vectors(published(place), undisturbed.items)


def begun(runs: Storage) -> list[str]:
    try:
        return list_runs(runs)
    except NotFoundError:
        return []  # the container is not made yet
