"""The evaluate stage and `hyperrec compare`, on runs whose earlier stages are made by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperrec_core import artefact
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.models import restore
from hyperrec_core.ranks import read_pair
from pipelines.errors import GateRefusedError, PipelineError
from pipelines.profile import Profile, load_profile, parse_profile
from pipelines.runs import Attempt, Run, RunRecord
from pipelines.stages.evaluate import run_evaluate
from pipelines.stages.export import run_export
from pipelines.stages.inputs import read_histories, read_interactions
from pipelines.stages.train import run_train
from pipelines.storage import Folder
from tests.hyperrec_core.test_histories import table
from tests.support import Place

ITEMS, USERS = 60, 150
DAY = 24 * 3600
SMALL = (
    "train.epochs=1",
    "train.model.dimensions=4",
    "train.model.lags=4",
    "evaluate.negatives=20",
)


def split(name: str) -> pa.Table:
    """Walks over the items; the test split has a basket of two and a purchase after it."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        start = int(rng.integers(0, ITEMS))
        items = [(start + step) % ITEMS for step in range(6)]
        # Half of the users come back for what they started with.
        items[5] = items[0] if user % 2 else items[5]
        days = [1, 2, 3, 8, 8, 9]
        labels = [day > 3 for day in days]
        if name != "test":
            items, days, labels = items[:3], days[:3], [False, name == "train", True]
        rows.append((f"u{user:04d}", items, [DAY * day for day in days], labels))
    return table(rows)


def preprocessed(attempt: Attempt, *, labels: bool, strangers: int) -> dict[str, Any]:
    """What the preprocess stage would have written.

    Without test labels when asked, and with so many test users that training has not seen.
    """
    vocabulary = pa.table(
        {
            "item": pa.array(range(ITEMS), pa.int32()),
            "item_id": [f"i{item:03d}" for item in range(ITEMS)],
            "count": np.bincount(
                split("train")["items"].combine_chunks().flatten(), minlength=ITEMS
            ),
            "category": pa.array([["all"]] * ITEMS, pa.list_(pa.string())),
            "is_live": [True] * ITEMS,
            "title": pa.array([None] * ITEMS, pa.string()),
        }
    )
    tables = {"vocabulary.parquet": vocabulary}
    for name in ("train", "validation", "test"):
        part = split(name).slice(strangers if name == "train" else 0)
        tables[f"histories/{name}/part-0.parquet"] = (
            part if labels or name != "test" else part.slice(0, 0)
        )
    for name, content in tables.items():
        sink = io.BytesIO()
        pq.write_table(content, sink)
        attempt.write(name, sink.getvalue(), rows=content.num_rows)
    return {}


def trained(folder: Path, *overrides: str, labels: bool = True, strangers: int = 0) -> Run:
    profile = load_profile("default", [*SMALL, *overrides])
    work = partial(preprocessed, labels=labels, strangers=strangers)
    return trained_by(profile, folder, preprocess=work)


def trained_by(
    profile: Profile, folder: Path, preprocess: Callable[[Attempt], dict[str, Any]]
) -> Run:
    record = RunRecord.identify(
        as_of=date(2024, 1, 9),
        source="file:///raw",
        listing=[],
        configuration=profile.model_dump(mode="json"),
    )
    run = Run.start(Folder(folder), record)
    run.finish("preprocess", preprocess)
    run_train(run)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    run = trained(folder)
    run_evaluate(run)
    return run


def test_every_scorer_has_every_metric_with_an_interval_around_it(run: Run) -> None:
    results = run.require("evaluate").metrics["results"]
    assert list(results) == ["model", "popularity", "recent_popularity"]
    for result in results.values():
        assert (result["labels"], result["users"], result["negatives"]) == (3 * USERS, USERS, 20)
        assert 0 < result["coverage_at_10"] <= 1
        assert len(result["intervals"]) == 30
        for name, (low, high) in result["intervals"].items():
            assert 0 <= low <= result[name] <= high <= 1, name
    stored = json.loads(run.read("evaluate", "metrics.json"))
    assert stored["results"] == results
    assert stored["verdicts"] == run.require("evaluate").metrics["verdicts"]


def test_slices_part_the_labels(run: Run) -> None:
    stored = json.loads(run.read("evaluate", "metrics.json"))
    for name, result in stored["results"].items():
        ways = stored["slices"][name]
        assert set(ways) == {"popularity", "history", "novelty"}
        for way, parts in ways.items():
            assert sum(part["labels"] for part in parts.values()) == result["labels"], way
            mean = sum(p["labels"] * p["ndcg_at_10_full"] for p in parts.values())
            assert mean / result["labels"] == pytest.approx(result["ndcg_at_10_full"]), way
        assert ways["novelty"]["repeat"]["labels"] == USERS // 2


def test_ranks_name_users_and_items_and_give_the_metrics_again(run: Run) -> None:
    data = run.read("evaluate", "ranks.parquet")
    stored = pq.read_table(io.BytesIO(data))
    assert run.require("evaluate").output("ranks.parquet").rows == stored.num_rows == 3 * USERS
    assert stored["user_id"][:3].to_pylist() == ["u0000"] * 3
    bought = split("test")["items"][0].as_py()[3:]
    assert stored["item_id"][:3].to_pylist() == [f"i{item:03d}" for item in bought]
    assert stored["history"][:3].to_pylist() == [3, 3, 5]
    ranks, _ = read_pair(data, data)
    result = run.require("evaluate").metrics["results"]["model"]
    for name in result["intervals"]:
        assert ranks.mean(name) == pytest.approx(result[name]), name


def test_popularity_counts_training_and_recent_popularity_its_newest_share(run: Run) -> None:
    items, times = read_interactions(Attempt(run, "evaluate"))
    assert len(items) == len(times) == 3 * USERS
    vocabulary = pq.read_table(io.BytesIO(run.read("preprocess", "vocabulary.parquet")))
    assert np.bincount(items, minlength=ITEMS).tolist() == vocabulary["count"].to_pylist()
    assert set(times[items == items[0]]) <= {DAY, 2 * DAY, 3 * DAY}


def test_seen_items_are_left_out_when_the_profile_says_so(folder: Path) -> None:
    run = trained(folder, "evaluate.exclude_seen=true")
    run_evaluate(run)
    stored = json.loads(run.read("evaluate", "metrics.json"))
    assert stored["slices"]["model"]["novelty"]["repeat"]["recall_at_10_full"] == 0
    assert stored["results"]["model"]["recall_at_10_full"] > 0


def test_without_a_test_label_it_says_what_to_change(tmp_path: Path) -> None:
    run = trained(tmp_path, labels=False)
    with pytest.raises(PipelineError, match=r"has no test label .* choose a later as_of"):
        run_evaluate(run)


def test_a_test_set_that_is_too_small_is_refused(run: Run, folder: Path) -> None:
    def labels(run: Run) -> dict[str, Any]:
        found = {v["gate"]: v for v in run.require("evaluate").metrics["verdicts"]}["labels"]
        return {"outcome": found["outcome"], **found["numbers"]}

    counted = {"labels": 3 * USERS, "users": USERS}
    assert labels(run) == {"outcome": "pass", **counted, "warn": 200, "refuse": 50}

    few = trained(folder, "evaluate.gates.labels={warn=1000,refuse=500}")
    run_evaluate(few)
    assert labels(few)["outcome"] == "refuse"
    with pytest.raises(GateRefusedError, match="450 test labels of 150 users"):
        run_export(few)


def test_a_symmetric_model_is_judged_by_its_own_users_and_not_published(folder: Path) -> None:
    run = trained(folder, "train.model.users=table", "train.epochs=3", strangers=7)
    metrics = run_evaluate(run).metrics
    assert {v["gate"]: v["outcome"] for v in metrics["verdicts"]}["servable"] == "refuse"
    with pytest.raises(GateRefusedError, match=r"set train\.model\.users to midpoint"):
        run_export(run)

    # Judged by hand: what the stage wrote is of the user that training numbered.
    attempt = Attempt(run, "evaluate")
    profile = parse_profile(run.record.configuration, source="")
    train, test = (read_histories(attempt, name, items=ITEMS) for name in ("train", "test"))
    _, tensors = artefact.load_checkpoint(run.read("train", "checkpoint.safetensors"))
    state = artefact.best_state(tensors)
    model = restore(profile.train.model, state, device=torch.device("cpu"))
    by_hand = evaluate(
        model_scorer(model),
        test.aligned_to(train),
        items=ITEMS,
        lags=model.lags,
        negatives=20,
        seed=profile.seed,
    )
    stored, _ = read_pair(*[run.read("evaluate", "ranks.parquet")] * 2)
    assert stored.mean("ndcg_at_10_full") == by_hand.mean("ndcg_at_10_full")
    assert test.aligned_to(train).users[:8].tolist() == [-1] * 7 + [0]


def test_a_model_of_midpoints_is_servable(run: Run) -> None:
    verdicts = {v["gate"]: v for v in run.require("evaluate").metrics["verdicts"]}
    assert verdicts["servable"]["outcome"] == "pass"


def test_two_runs_are_set_side_by_side(run: Run, folder: Path, tmp_path: Path) -> None:
    other = trained(folder, "seed=2")
    run_evaluate(other)
    place = Place.make(tmp_path)
    done = place.hyperrec("compare", run.run_id, other.run_id, "--runs", folder.as_uri())
    assert f"{3 * USERS} labels; A = {run.run_id}, B = {other.run_id}" in done.out
    a, b = (r.require("evaluate").metrics["results"]["model"] for r in (run, other))
    line = next(row for row in done.out.splitlines() if "Recall@10 (all items)" in row)
    cells = [cell.strip() for cell in line.split("│")][2:-1]
    assert cells[:2] == [f"{r['recall_at_10_full']:.4f}" for r in (a, b)]
    assert cells[2] == f"{a['recall_at_10_full'] - b['recall_at_10_full']:+.4f}"
    assert 0 < float(cells[4].removeprefix("≤")) <= 1
    assert "differ" not in done.out


def test_a_run_that_is_not_evaluated_cannot_be_compared(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    late = trained(folder, "seed=3")
    done = Place.make(tmp_path).hyperrec(
        "compare", run.run_id, late.run_id, "--runs", folder.as_uri(), code=2
    )
    assert f"give `hyperrec evaluate {late.run_id}` first" in done.said
