"""What must not be published is not, and the version that serves stays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.local.services import cosmos_server
from pipelines.runs import STAGES, list_runs
from pipelines.storage import Folder
from tests.faults.conftest import LAST_DAY, Undisturbed, prepare
from tests.support import Place, copy_run, manifests, set_words

pytestmark = pytest.mark.slow


def test_a_gate_that_refuses_leaves_the_active_version(
    raw: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    with cosmos_server(tmp_path / "cosmos") as cosmos:
        place = Place.make(tmp_path / "place", cosmos=cosmos)
        runs = place.storage(str(tmp_path / "runs"))
        copy_run(undisturbed.runs, undisturbed.run_id, runs, STAGES[:3])
        place.hyperrec("export", undisturbed.run_id, "--runs", runs.url)
        before = place.control()

        strict = ("evaluate.minimum_ratio=100", "train.epochs=1")
        prepare(raw, runs, *strict)
        job = (*undisturbed.job, *set_words(strict), "--runs", runs.url)
        done = place.hyperrec("run", *job, code=1)

        assert "is not published, the active version stays: HR@10" in done.said
        assert "Traceback" not in done.err
        assert place.control() == before


def shop(folder: Path, users: list[str | None]) -> str:
    """A raw layout of one day in which these users bought something each."""
    table = pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": [f"i{number % 3}" for number in range(len(users))],
            "event_time": pa.array(
                [datetime(2024, 6, 30, 12, number % 60, tzinfo=UTC) for number in range(len(users))]
            ),
        }
    )
    day = folder / f"interactions/dt={LAST_DAY}"
    day.mkdir(parents=True)
    pq.write_table(table, day / "part-0.parquet")
    return folder.as_uri()


@pytest.mark.parametrize(
    ("users", "settings", "said"),
    [
        (["a", "b", None, "c"], [], "25.0% of 4 rows are quarantined and the limit is 5.0%"),
        # tests/pipelines/preprocess/test_job.py has this one without a command.
        pytest.param(
            ["a", "b", "c"],
            ["preprocess.drop.all='true'"],
            "Nothing is left of 3 rows",
            marks=pytest.mark.heavy,
        ),
    ],
)
def test_input_that_cannot_be_trained_on_stops_the_run(
    users: list[str | None], settings: list[str], said: str, tmp_path: Path
) -> None:
    place, runs = Place.make(tmp_path / "place"), Folder(tmp_path / "runs")
    raw = shop(tmp_path / "raw", users)
    job = ("--input", raw, "--as-of", LAST_DAY.isoformat(), *set_words(settings))
    done = place.hyperrec("preprocess", *job, "--runs", runs.url, code=1)
    assert done.said.startswith(f"hyperrec: {said}")
    assert "Traceback" not in done.err
    [run_id] = list_runs(runs)
    assert not manifests(runs, run_id)
