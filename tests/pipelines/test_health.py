"""What is wrong is found and told, each thing by itself, and nothing is raised for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from pipelines.flows.health import HealthForm
from pipelines.health import Finding, look
from serving_export.containers import DATABASE, create_missing
from tests.serving_export.publishing_support import Account, D, make_items
from tests.support import Place

TODAY = date(2026, 11, 21)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cosmos_server(tmp_path_factory.mktemp("empty")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An endpoint whose active version knows the days up to 2026-11-19."""
    with cosmos_server(tmp_path_factory.mktemp("published")) as endpoint:
        create_missing(endpoint, COSMOS_KEY, D + 1, items=20)
        version = "2026-11-19-0123456789"
        Account(endpoint, COSMOS_KEY, DATABASE).publish(version, make_items(20), run_id=version)
        yield endpoint


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for day in ("2026-01-05", "2026-11-19"):
        folder = tmp_path / "raw" / "interactions" / f"dt={day}"
        folder.mkdir(parents=True)
        (folder / "part.csv").write_text("user_id\n")
    return tmp_path / "raw"


def looked(
    monkeypatch: pytest.MonkeyPatch, cosmos: str, raw: Path, today: date = TODAY, **limits: int
) -> dict[str, Finding]:
    monkeypatch.setenv("COSMOS_ENDPOINT", cosmos)
    monkeypatch.delenv("COSMOS_KEY", raising=False)
    wanted = {"max_age_days": 2, "max_lag_days": 2} | limits
    found = look(source=str(raw), runs=str(raw / "runs"), today=today, **wanted)
    return {each.thing: each for each in found}


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, published: str, raw: Path) -> None:
    found = looked(monkeypatch, published, raw)
    assert {each.state for each in found.values()} == {"ok"}, found
    assert found.keys() == {"storage of runs", "raw data", "active version", "answers"}
    assert "2 days old" in found["active version"].found
    assert f"{D + 1} numbers of item i0" in found["answers"].found


def test_a_day_later_both_are_too_old(
    monkeypatch: pytest.MonkeyPatch, published: str, raw: Path
) -> None:
    found = looked(monkeypatch, published, raw, TODAY + timedelta(days=1))
    wrong = {name for name, each in found.items() if each.state == "wrong"}
    assert wrong == {"raw data", "active version"}
    assert "are of 2026-11-19, 3 days ago, where 2 are allowed" in found["raw data"].advice
    assert "up to 2026-11-19, 3 days ago" in found["active version"].advice
    later = looked(
        monkeypatch, published, raw, TODAY + timedelta(days=1), max_age_days=3, max_lag_days=3
    )
    assert {each.state for each in later.values()} == {"ok"}


def test_the_newest_day_is_found_however_old(
    monkeypatch: pytest.MonkeyPatch, published: str, raw: Path
) -> None:
    found = looked(monkeypatch, published, raw, date(2027, 11, 21))
    assert "newest day 2026-11-19, 367 days ago" in found["raw data"].found


def test_a_day_that_is_still_being_written_is_not_delivered(
    monkeypatch: pytest.MonkeyPatch, published: str, raw: Path
) -> None:
    folder = raw / "interactions" / f"dt={TODAY}" / "_temporary"
    folder.mkdir(parents=True)
    (folder / "part.csv").write_text("user_id\n")
    found = looked(monkeypatch, published, raw)
    assert "newest day 2026-11-19" in found["raw data"].found
    far = looked(monkeypatch, published, raw, date(2027, 11, 21))
    assert "newest day 2026-11-19" in far["raw data"].found


def test_nothing_published_and_no_data_are_told_both(
    monkeypatch: pytest.MonkeyPatch, empty: str, tmp_path: Path
) -> None:
    found = looked(monkeypatch, empty, tmp_path)
    assert found["active version"].state == found["raw data"].state == "wrong"
    assert "No version is active" in found["active version"].advice
    assert "no days of interactions" in found["raw data"].advice
    assert found["storage of runs"].state == "ok"


def test_limits_of_the_form_have_ranges() -> None:
    with pytest.raises(ValidationError):
        HealthForm(max_age_days=-1)
    with pytest.raises(ValidationError):
        HealthForm.model_validate({"max_days": 3})


def test_the_command_ends_with_1_and_a_sentence_for_each(
    tmp_path: Path, published: str, raw: Path
) -> None:
    place = Place.make(tmp_path / "place", cosmos=published)
    words = ("health", "--input", str(raw), "--runs", str(tmp_path / "runs"))
    now = datetime.now(UTC).date()
    folder = raw / "interactions" / f"dt={now}"
    folder.mkdir()
    (folder / "part.csv").write_text("user_id\n")
    gone = place.with_settings(COSMOS_ENDPOINT="http://127.0.0.1:9", HYPERREC_PATIENCE_SECONDS="1")
    done = gone.hyperrec(*words, "--max-lag-days", "0", code=1)
    assert "no Prefect server is configured" in done.out
    sentences = done.err.strip().splitlines()
    assert [line.partition(": ")[0] for line in sentences] == ["Cosmos DB"], sentences
