"""The main job from a retailer's file to answers from Cosmos DB, over real sockets.

Input: whole customers out of the real Online Retail lines where the machine has them, otherwise a
look-alike (`tests/data.py`); the end of pytest's report says which it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest

from hyperrec_core import artefact
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import azurite_server, cosmos_server
from pipelines.runs import STAGES, Run
from serving_export.documents import Item
from serving_export.reader import Reader
from serving_export.slots import Control
from tests import data
from tests.support import (
    Done,
    Place,
    assert_same_vectors,
    flow_runs,
    manifests,
    prefect_server,
    published,
    run_id_of,
    set_words,
    table_rows,
)

pytestmark = pytest.mark.slow

INPUT, AS_OF, PROFILE = "az://raw", "2011-12-09", "online-retail"
# Smaller than the profile's, for the time it takes.
SMALLER = (
    "train.epochs=5",
    "train.negatives=300",
    "train.model.dimensions=16",
    "train.model.lags=100",
)
JOB = ("--input", INPUT, "--as-of", AS_OF, "--profile", PROFILE, *set_words(SMALLER))


@dataclass(frozen=True)
class Published:
    """What there was after a run, before anything else happened."""

    done: Done
    run_id: str
    status: Done
    control: Control
    items: dict[str, Item]


def look(place: Place, done: Done) -> Published:
    status, control = place.hyperrec("status"), place.control()
    assert control.active is not None
    return Published(done, control.active.run_id, status, control, published(place))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("main")
    with azurite_server(home / "azurite") as blobs, cosmos_server(home / "cosmos") as cosmos:
        yield Place.make(home, blobs=blobs, cosmos=cosmos, patience=30)


@pytest.fixture(scope="module")
def lines(place: Place) -> Path:
    return data.online_retail(place.home / "lines")


@pytest.fixture(scope="module")
def imported(place: Place, lines: Path) -> Done:
    return place.hyperrec("import", str(lines), "--mapping", "online-retail", "--to", "az://raw")


@pytest.fixture(scope="module")
def first(place: Place, imported: Done) -> Published:
    return look(place, place.hyperrec("run", *JOB))


@pytest.fixture(scope="module")
def run(place: Place, first: Published) -> Run:
    return Run.open(place.storage("az://runs"), first.run_id)


@pytest.fixture(scope="module")
def second(place: Place, first: Published) -> Published:
    """A run with another epoch, of which a Prefect server is told."""
    with prefect_server(place) as api:
        # Its database is that of the place, where earlier commands had servers of their own.
        before = len(flow_runs(api))
        done = place.with_settings(PREFECT_API_URL=api).hyperrec(
            "run", *JOB, "--set", "train.epochs=6"
        )
        told = flow_runs(api)
        assert len(told) == before + 1
        assert {(each["name"], each["state_type"]) for each in told} == {
            (f"{AS_OF} retrain", "COMPLETED")
        }
    return look(place, done)


def rows(run: Run, name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(
        io.BytesIO(run.read("preprocess", name))
    ).to_pylist()
    return found


def test_every_line_is_imported(imported: Done, lines: Path) -> None:
    count = pq.read_metadata(lines).num_rows
    assert f"{count:,} rows read, {count:,} written to az://raw" in imported.out


def test_every_line_is_accounted_for(run: Run, lines: Path) -> None:
    metrics = run.require("preprocess").metrics
    assert metrics["rows_read"] == pq.read_metadata(lines).num_rows
    assert metrics["rows_read"] == sum(
        metrics[f"rows_{fate}"] for fate in ("kept", "quarantined", "dropped")
    )
    assert metrics["rows_quarantined"] == sum(metrics["quarantined"].values())
    assert metrics["rows_dropped"] == sum(metrics["dropped"].values())
    assert metrics["quarantined"]["user_id_missing"] > 1000
    for rule in ("cancelled_purchase", "return", "not_a_product", "free_of_charge"):
        assert metrics["dropped"][rule] > 0, rule


def test_lines_without_a_customer_are_those_of_the_file(run: Run, lines: Path) -> None:
    # Counted again by other means. What the profile drops is no fault of the input's quality.
    table = pq.read_table(lines).to_pandas()
    code = table.item_id.str.strip().str.fullmatch("[0-9]{5}[A-Za-z]{0,2}")
    missing = table[(table.user_id == "") & code & (table.unit_price != 0)]
    metrics = run.require("preprocess").metrics
    assert metrics["quarantined"]["user_id_missing"] == len(missing)
    quarantine = [
        row
        for output in run.require("preprocess").outputs
        if output.name.startswith("quarantine/")
        for row in rows(run, output.name)
    ]
    assert len(quarantine) == metrics["rows_quarantined"]
    assert all(str(row["source_file"]).startswith("interactions/dt=") for row in quarantine)


def test_what_manifests_say_of_their_outputs_is_so(run: Run) -> None:
    for stage in STAGES:
        for output in run.require(stage).outputs:
            content = run.storage.read(f"{run.run_id}/{output.path}")
            assert output.sha256 == hashlib.sha256(content).hexdigest()
            assert output.bytes == len(content)
            if output.rows is not None:
                assert output.rows == pq.read_metadata(io.BytesIO(content)).num_rows


def test_numbers_of_the_manifest_are_those_of_the_outputs(run: Run) -> None:
    manifest = run.require("preprocess")
    vocabulary = rows(run, "vocabulary.parquet")
    assert len(vocabulary) == manifest.metrics["items"]
    for split, labels in manifest.metrics["labels"].items():
        histories = [
            row
            for output in manifest.outputs
            if output.name.startswith(f"histories/{split}/")
            for row in rows(run, output.name)
        ]
        assert sum(sum(row["is_label"]) for row in histories) == labels, split  # type: ignore[call-overload]


def test_manifests_chain_each_stage_to_what_it_read(run: Run) -> None:
    for stage in STAGES[1:]:
        inputs = run.require(stage).inputs
        assert inputs, stage
        for name, sha256 in inputs.items():
            earlier, _, output = name.partition("/")
            assert run.require(earlier).output(output).sha256 == sha256  # type: ignore[arg-type]


def test_the_model_beats_popularity(run: Run, first: Published) -> None:
    results = run.require("evaluate").metrics["results"]
    for metric in ("hr_at_10", "ndcg_at_10", "ndcg_at_10_full"):
        assert results["model"][metric] > results["popularity"][metric], metric
    assert results["model"]["labels"] == run.require("preprocess").metrics["labels"]["test"]
    stored = json.loads(run.read("evaluate", "metrics.json"))
    assert stored["results"] == results
    assert f"{results['model']['hr_at_10']:.4f}" in first.done.out


def test_the_picture_is_one(run: Run) -> None:
    picture = matplotlib.image.imread(io.BytesIO(run.read("train", "items.png")), format="png")
    assert min(picture.shape[:2]) >= 400
    assert np.ptp(picture[..., :3]) > 0.5


def test_published_vectors_are_the_artefact_s(run: Run, first: Published) -> None:
    stored = artefact.read_items(run.read("train", "items.parquet"))
    assert list(first.items) and set(first.items) == set(stored.item_ids)
    assert stored.context is not None
    for row, item_id in enumerate(stored.item_ids):
        item = first.items[item_id]
        # As numbers: the service has no negative zero.
        assert np.array_equal(item.vector, stored.target[row])
        assert item.context is not None and np.array_equal(item.context, stored.context[row])


def test_status_shows_the_active_version(first: Published) -> None:
    assert run_id_of(first.done) == first.run_id
    shown = {row[0]: row[1:] for row in table_rows(first.status.out)}
    assert shown["active"][1:3] == [first.run_id, f"{len(first.items):,}"]
    assert shown["previous"][0] == shown["loading"][0] == "-"
    assert first.control.active is not None
    assert first.control.active.version == first.run_id


def popular(published: Published, count: int) -> list[str]:
    by_count = sorted(published.items.values(), key=lambda item: (-item.count, item.item_id))
    return [item.item_id for item in by_count[:count]]


def test_recommendations_are_the_best_by_the_artefact(place: Place, first: Published) -> None:
    history = popular(first, 3)
    done = place.hyperrec("recommend", "--user-history", ",".join(history), "--k", "7")
    answer = [row[1:] for row in table_rows(done.out)]
    with Reader(place.cosmos, COSMOS_KEY) as reader:
        point = reader.user_point(history)
    others = [item for item in first.items.values() if item.is_live and item.item_id not in history]
    scores = {item.item_id: float(item.vector @ point) for item in others}
    best = sorted(scores, key=lambda item_id: -scores[item_id])[:7]
    assert [item_id for item_id, _, _ in answer] == best
    for item_id, score, title in answer:
        assert title and title == first.items[item_id].title
        assert float(score) == pytest.approx(scores[item_id], abs=2e-4)
    for item_id in history:
        assert f"history  {item_id}  {first.items[item_id].title}" in done.out


def test_similar_items_have_titles_and_leave_the_item_out(place: Place, first: Published) -> None:
    item_id = popular(first, 1)[0]
    answer = [row[1:] for row in table_rows(place.hyperrec("similar", item_id, "--k", "6").out)]
    assert [near for near, _, _ in answer] == [near for near, _ in first.items[item_id].similar[:6]]
    assert item_id not in {near for near, _, _ in answer}
    assert all(title and title == first.items[near].title for near, _, title in answer)


def test_the_same_command_again_does_nothing(place: Place, first: Published) -> None:
    runs = place.storage("az://runs")
    before = list(runs.list(f"{first.run_id}/"))
    assert manifests(runs, first.run_id).keys() == set(STAGES)
    again = place.hyperrec("run", *JOB)
    assert run_id_of(again) == first.run_id
    assert list(runs.list(f"{first.run_id}/")) == before  # names, sizes and ETags
    assert len(re.findall(r"Stage \w+ of run \S+ is done already", again.err)) == len(STAGES)


def test_importing_again_changes_no_blob(place: Place, lines: Path, first: Published) -> None:
    raw = place.storage("az://raw")
    before = list(raw.list())
    place.hyperrec("import", str(lines), "--mapping", "online-retail", "--to", "az://raw")
    assert list(raw.list()) == before


@pytest.mark.heavy
def test_each_stage_alone_gives_the_same_vectors(place: Place, first: Published, run: Run) -> None:
    alone = ("--runs", "az://alone")
    prepared = place.hyperrec("preprocess", *JOB, *alone)
    assert run_id_of(prepared) == first.run_id
    for stage in ("train", "evaluate"):
        place.hyperrec(stage, first.run_id, *alone)
    other = Run.open(place.storage("az://alone"), first.run_id)
    assert other.read("train", "items.parquet") == run.read("train", "items.parquet")
    for output in run.require("preprocess").outputs:
        assert other.require("preprocess").output(output.name).sha256 == output.sha256
    judged = [each.require("evaluate").metrics["results"] for each in (run, other)]
    assert judged[0] == judged[1]
    place.hyperrec("export", first.run_id, *alone)
    # Compared with what is published under this name, document by document, and found equal.
    assert other.require("export").metrics["written"] == 0


@pytest.mark.heavy  # CI has another promoted and rolled back, in tests/pipelines/flows
def test_a_second_run_is_promoted_and_rolled_back(
    place: Place, first: Published, second: Published
) -> None:
    assert second.run_id != first.run_id
    shown = {row[0]: row[1:] for row in table_rows(second.status.out)}
    assert (shown["active"][1], shown["previous"][1]) == (second.run_id, first.run_id)
    assert any(
        not np.array_equal(item.vector, first.items[item_id].vector)
        for item_id, item in second.items.items()
    )
    back = place.hyperrec("rollback")
    shown = {row[0]: row[1:] for row in table_rows(back.out)}
    assert (shown["active"][1], shown["previous"][1]) == (first.run_id, second.run_id)
    assert_same_vectors(published(place), first.items)
    history = popular(first, 3)
    with Reader(place.cosmos, COSMOS_KEY) as reader:
        assert reader.active().version == first.run_id
        answers = reader.recommend(history, 5)
        point = reader.user_point(history)
    for found in answers:
        assert found.score == pytest.approx(float(first.items[found.item_id].vector @ point))
