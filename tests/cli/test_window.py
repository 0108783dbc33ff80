"""`--window`: the days of raw data that count, as a setting of the run."""

from __future__ import annotations

import pytest

from pipelines.cli.options import with_window
from pipelines.errors import UsageError
from pipelines.profile import load_profile
from tests.cli.conftest import Fails


def test_a_window_is_the_setting_of_that_many_days() -> None:
    settings = with_window(["train.epochs=5"], "365d")
    assert load_profile("default", settings).preprocess.window_days == 365
    assert load_profile("default", settings).train.epochs == 5
    assert with_window(None, None) == []


@pytest.mark.parametrize("window", ["365", "1d", "0d", "-3d", "a year", "1.5d", "365d ", "٣d"])
def test_what_is_no_number_of_days_is_refused(window: str) -> None:
    with pytest.raises(UsageError, match=rf"^The window {window} is no number of days from 2 on"):
        with_window(None, window)


def test_a_window_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice, by --window and by --set"):
        with_window(["preprocess.window_days=7"], "365d")


@pytest.mark.parametrize(
    "words",
    [["run", "--as-of", "2024-01-09"], ["backfill", "--first=2024-01-01", "--last=2024-01-09"]],
)
def test_the_commands_say_so(fails: Fails, words: list[str]) -> None:
    assert fails(*words, "--input", "file:///none", "--window", "year", code=2) == (
        "The window year is no number of days from 2 on: write it as 365d (--window)."
    )
