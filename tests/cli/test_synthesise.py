"""`hyperrec synthesise` from the shell: wrong words, a shop with dirt, and a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Fails
from tests.support import Place

SMALL = ("--users", "50", "--items", "40", "--interactions", "500", "--days", "20")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--users", "0"), "users of the synthetic catalogue is 0; give 1 or more."),
        (
            ("--dirt", "0.1", "--days", "30"),
            "This --dirt takes 30 days with events besides the last 3, and the shop has 27 of 30; "
            "give more --days or smaller shares.",
        ),
        (
            ("--processes", "0"),
            "Invalid value for '--processes': Input should be greater than or equal to 1; see "
            "`hyperrec synthesise --help`.",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: tuple[str, ...], sentence: str, fails: Fails, tmp_path: Path
) -> None:
    assert fails("synthesise", "--to", str(tmp_path / "raw"), *words, code=2) == sentence
    assert not (tmp_path / "raw").exists()


def test_an_unknown_kind_of_dirt_is_answered_with_those_there_are(
    fails: Fails, tmp_path: Path
) -> None:
    words = ("--to", str(tmp_path / "raw"), "--dirt", "csv=0.1")
    sentence = fails("synthesise", *words, code=2)
    assert sentence.startswith("There is no kind of dirt csv")
    assert "json_line_broken" in sentence


def test_a_shop_with_dirt_and_the_same_command_again(place: Place, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    words = ("synthesise", "--to", str(raw), *SMALL, "--dirt", "0.01", "--dirt", "bot=0")
    first = place.hyperrec(*words).out
    ledger = json.loads((raw / "_planted/ledger.json").read_text())
    assert f"written to {raw.as_uri()}: " in first
    assert (
        f"51 kinds of dirt and drift among them: {ledger['rows']['read']:,} rows in all, of which "
        f"{ledger['rows']['kept']:,} are sound; _planted/ledger.json tells what must be found."
    ) in first
    assert "bot" not in ledger["kinds"]
    assert place.hyperrec(*words).out == first.replace("written to", "already in")


def test_a_kill_leaves_nothing_behind_and_the_same_command_finishes(
    place: Place, tmp_path: Path
) -> None:
    raw, spool = tmp_path / "raw", tmp_path / "spool"
    spool.mkdir()
    there = place.with_settings(TMPDIR=str(spool))
    size = ("--users", "3000", "--interactions", "530000", "--days", "10")
    words = ("synthesise", "--to", str(raw), *size, "--processes", "2")
    days = raw / "interactions"
    there.killed(*words, when=lambda: days.exists() and len(there.processes()) > 2)
    assert list(spool.iterdir()) == []
    assert json.loads((raw / "_synthetic/shop.json").read_text())["files"] is None

    done = there.hyperrec(*words)
    assert f"written to {raw.as_uri()}: 11 files." in done.out
    files = json.loads((raw / "_synthetic/shop.json").read_text())["files"]
    assert {
        path.relative_to(raw).as_posix(): path.stat().st_size for path in raw.rglob("*.parquet")
    } == files
