"""Input, settings and runs that cannot work: told before anything heavy starts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli.run import run_flow
from pipelines.errors import UsageError
from pipelines.flows.forms import RetrainForm
from pipelines.importing.mapping import mapping_names
from pipelines.profile import profile_names
from tests.cli.conftest import Fails
from tests.support import Place

DAYS = ("2024-01-05", "2024-01-07")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw layout of two days."""
    folder = tmp_path / "raw"
    for day in DAYS:
        part = folder / "interactions" / f"dt={day}"
        part.mkdir(parents=True)
        time = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC)
        row = {"user_id": "u", "item_id": "i", "event_type": "purchase", "event_time": time}
        pq.write_table(pa.Table.from_pylist([row]), part / "part-0.parquet")
    return folder


@pytest.fixture
def preprocess(fails: Fails) -> Fails:
    def run(source: object, *words: str, as_of: str = DAYS[1], **more: object) -> str:
        return fails("preprocess", "--input", f"{source}", "--as-of", as_of, *words, **more)

    return run


def test_a_missing_folder(preprocess: Fails, tmp_path: Path) -> None:
    sentence = preprocess(tmp_path / "nowhere", code=2)
    assert sentence.startswith(f"There are no interactions in {(tmp_path / 'nowhere').as_uri()}: ")
    assert sentence.endswith("check the address, or import a file with `hyperrec import`.")
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_without_interactions(preprocess: Fails, raw: Path) -> None:
    (raw / "interactions").rename(raw / "clicks")
    assert "expected interactions/dt=YYYY-MM-DD/*.parquet" in preprocess(raw, code=2)


def test_a_day_before_the_first(preprocess: Fails, raw: Path) -> None:
    assert preprocess(raw, as_of="2024-01-04", code=2) == (
        f"There are no interactions up to 2024-01-04 in {raw.as_uri()}: its days go from "
        "2024-01-05 to 2024-01-07; choose as_of among them."
    )


def test_an_unknown_profile(preprocess: Fails, raw: Path) -> None:
    sentence = preprocess(raw, "--profile", "nightly", code=2)
    assert sentence.startswith(f"There is no profile nightly; choose one of {profile_names()[0]}, ")


def test_an_unknown_setting(preprocess: Fails, raw: Path) -> None:
    sentence = preprocess(raw, "--set", "seed=2", "--set", "train.epoch=3", code=2)
    assert sentence == "In the profile default, train.epoch: there is no such setting."


@pytest.mark.slow
def test_the_whole_job_tells_it_once_too(fails: Fails, tmp_path: Path) -> None:
    words = ("--input", str(tmp_path / "nowhere"), "--as-of", DAYS[1])
    assert fails("run", *words, code=2).startswith("There are no interactions in file:///")


def flow_of(monkeypatch: pytest.MonkeyPatch, source: str) -> list[RetrainForm]:
    """The forms that `run_flow` fills in for an input, instead of flow runs."""
    filled_in: list[RetrainForm] = []
    monkeypatch.setattr("pipelines.cli.run.prepare_night", lambda *_: (source, "az://runs"))
    monkeypatch.setattr("pipelines.flows.retrain.daily_retrain", filled_in.append)
    return filled_in


def test_what_a_profile_takes_the_flow_takes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, source = ["train.epochs = 5"], "az://raw/my folder"
    filled_in = flow_of(monkeypatch, source)
    run_flow(source, datetime(2024, 1, 7), profile="default", settings=settings, runs=None)
    (form,) = filled_in
    assert (form.source, form.settings, form.start) == (source, settings, "cold")


def test_what_the_flow_does_not_take_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    filled_in = flow_of(monkeypatch, "az://raw/a\nb")
    with pytest.raises(UsageError, match=r"The field source of the form: .*nothing was run"):
        run_flow("az://raw", datetime(2024, 1, 7), profile="default", settings=None, runs=None)
    assert not filled_in


def test_no_java_and_then_stages_out_of_order(
    preprocess: Fails, fails: Fails, place: Place, raw: Path, tmp_path: Path
) -> None:
    runs = str(tmp_path / "runs")
    bare = place.with_settings(PATH=str(tmp_path), JAVA_HOME="", HYPERREC_RUNS=runs)
    assert preprocess(raw, code=2, at=bare) == (
        "Spark needs Java and none is on the PATH: install Java 17 or newer (Debian: apt install "
        "openjdk-17-jre-headless) or point JAVA_HOME at one."
    )
    # The run is there by now, and nothing of it is done.
    (run_id,) = [path.name for path in Path(runs).iterdir()]
    for stage in ("train", "export"):
        before = {"train": "preprocess", "export": "evaluate"}[stage]
        assert fails(stage, run_id, code=2, at=bare) == (
            f"Stage {before} of run {run_id} is not done: give `hyperrec {before} {run_id}` first."
        )
    assert fails("export", "2024-01-01-x", code=2, at=bare).endswith(f"runs there: {run_id}.")
    assert run_id in place.hyperrec("runs", "--runs", runs).out


@pytest.fixture
def csv(tmp_path: Path) -> str:
    path = tmp_path / "lines.csv"
    path.write_text("customer,StockCode,when\n1,a,2024-01-05 12:00:00\n")
    return str(path)


def test_a_mapping_that_names_a_column_that_is_not_there(
    fails: Fails, csv: str, tmp_path: Path
) -> None:
    mapping = tmp_path / "mine.toml"
    mapping.write_text('[columns]\nuser_id="customer"\nitem_id="stock_code"\nevent_time="when"\n')
    raw = tmp_path / "raw"
    sentence = fails("import", csv, "--mapping", str(mapping), "--to", str(raw), code=2)
    assert sentence == (
        f"{csv} has no column stock_code, which the mapping names under [columns] item_id: its "
        "columns are customer, StockCode, when; did you mean StockCode?"
    )
    assert not raw.exists()


def test_an_unknown_mapping_or_source(fails: Fails, csv: str, tmp_path: Path) -> None:
    words = ("--to", str(tmp_path / "raw"), "--mapping")
    sentence = fails("import", csv, *words, "online_retail", code=2)
    assert sentence == (
        "There is no mapping named online_retail (did you mean online-retail?): name one of "
        f"{', '.join(mapping_names())}, or the path of a .toml file."
    )
    sentence = fails("import", f"{csv}.gz", *words, "canonical", code=2)
    assert sentence == f"There is no file at or below {csv}.gz: check the address."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--first=2024-01-01", "--last=2024-01-02", "--until=publish"), "no stage publish"),
        (("--first=2024-01-02", "--last=2024-01-01"), "no night from 2024-01-02 to 2024-01-01"),
        (("--first=2024-01-01", "--last=2024-01-02"), "no interactions"),
    ],
)
def test_a_backfill_says_what_is_wrong_before_it_starts(fails, tmp_path, words, sentence):
    assert sentence in fails("backfill", f"--input={tmp_path / 'raw'}", *words, code=2)
