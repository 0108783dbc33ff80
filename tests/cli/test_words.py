"""Words, options and values that the command does not know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyperrec_core.artefact import ArtefactError
from hyperrec_core.histories import HistoriesError
from infra.local.services import LocalServiceError
from pipelines.cli.app import exit_code
from pipelines.errors import CorruptOutputError, GateRefusedError, UsageError
from serving_export.errors import NothingPublishedError
from tests.cli.conftest import Fails
from tests.support import Place


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["statsu"], "No such command 'statsu'. Did you mean 'status'? See `hyperrec --help`."),
        (["run", "--input", "x"], "Missing option '--as-of'; see `hyperrec run --help`."),
        (["train"], "Missing argument 'run_id'; see `hyperrec train --help`."),
        (
            ["preprocess", "--input", "x", "--as-of", "9.12.2011"],
            "Invalid value for '--as-of': Value error, '9.12.2011' does not match the formats "
            "'%Y-%m-%d'; see `hyperrec preprocess --help`.",
        ),
    ],
)
def test_a_mistyped_command_says_where_help_is(
    fails: Fails, words: list[str], sentence: str
) -> None:
    assert fails(*words, code=2) == sentence


def test_without_a_word_it_says_what_there_is(place: Place) -> None:
    done = place.hyperrec()
    verbs = "demo run preprocess train evaluate export import synthesise up down status rollback"
    for verb in [*verbs.split(), "recommend", "similar", "runs", "deploy", "doctor"]:
        assert re.search(rf"^\W+{verb}\b", done.out, re.MULTILINE), verb
    assert done.err == ""


def test_debug_adds_the_traceback(place: Place) -> None:
    done = place.hyperrec("runs", "--runs", "s3://x", "--debug", code=2)
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert "raise UsageError(" in done.err
    assert done.said.startswith("hyperrec: s3://x has the scheme s3://")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (GateRefusedError("x"), 1),
        (CorruptOutputError("x"), 1),
        (NothingPublishedError("x"), 1),
        (LocalServiceError("x"), 1),
        (HistoriesError("x"), 1),
        (ArtefactError("x"), 1),
        (RuntimeError("x"), None),
        (KeyError("x"), None),
    ],
)
def test_exit_codes(error: Exception, code: int | None) -> None:
    assert exit_code(error) == code


def test_an_output_goes_where_it_can_be_written(fails: Fails, place: Place, tmp_path: Path) -> None:
    assert fails("fetch", "none", "items.png", "--runs", str(tmp_path / "runs"), code=2) == (
        f"There is no run none in {(tmp_path / 'runs').as_uri()}; the runs there: none yet."
    )
