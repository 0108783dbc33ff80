"""Which blobs belong to a run, and how they are shared out among tasks."""

from __future__ import annotations

from datetime import date
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.preprocess.source import day_of, group_files, impossible_date, raw_listing
from pipelines.storage import Folder

DAYS = ("2024-01-01", "2024-01-02", "2024-02-01")


@pytest.fixture
def raw(tmp_path):
    folder = Folder(tmp_path / "raw")
    for day in DAYS:
        folder.write(f"interactions/dt={day}/a.parquet", b"1")
        folder.write(f"interactions/dt={day}/_SUCCESS", b"")
    return folder


def listed(storage, *as_of):
    return [blob.name for blob in raw_listing(storage, date(*as_of))]


def test_days_up_to_as_of_and_the_catalogue(raw):
    raw.write("items/x.csv", b"1")
    raw.write("elsewhere/x.csv", b"1")
    assert listed(raw, 2024, 1, 31) == [
        "interactions/dt=2024-01-01/a.parquet",
        "interactions/dt=2024-01-02/a.parquet",
        "items/x.csv",
    ]


def test_undated_rows_belong_to_every_run(raw):
    raw.write("interactions/dt=unknown/a.parquet", b"1")
    assert "interactions/dt=unknown/a.parquet" in listed(raw, 2024, 1, 1)


@pytest.mark.parametrize("text", ["2024-02-30", "2023-02-29", "0000-00-00", "9999-99-99"])
def test_a_date_that_the_calendar_does_not_have_is_no_day(raw, text):
    name = f"interactions/dt={text}/a.parquet"
    raw.write(name, b"1")
    assert name in listed(raw, 2024, 1, 1)
    assert (day_of(name), impossible_date(name)) == (None, text)
    with pytest.raises(UsageError, match="from 2024-01-01 to 2024-02-01"):
        listed(raw, 2023, 12, 31)


def test_what_other_tools_have_not_finished_is_no_interaction(raw):
    before = listed(raw, 2024, 2, 1)
    for name in (
        "interactions/_temporary/0/_temporary/attempt_1/dt=2024-01-02/p.csv",
        "interactions/dt=2024-01-02/_temporary/0/p.csv",
        "interactions/.hidden/dt=2024-01-02/p.csv",
        "interactions/dt=2024-01-02/.spark-staging/p.csv",
        "interactions/_delta_log/000.json",
        "items/_temporary/0/x.csv",
    ):
        raw.write(name, b"1")
    assert listed(raw, 2024, 2, 1) == before


def test_before_the_first_day_names_the_days_there_are(raw):
    raw.write("interactions/dt=unknown/a.parquet", b"1")
    with pytest.raises(UsageError, match="from 2024-01-01 to 2024-02-01"):
        listed(raw, 2023, 12, 31)


def test_no_input_says_what_was_expected(tmp_path):
    with pytest.raises(UsageError, match=r"no interactions in file://.*dt=YYYY-MM-DD"):
        listed(Folder(tmp_path / "nowhere"), 2024, 1, 1)


@given(st.lists(st.integers(0, 1 << 26), min_size=1, max_size=50))
def test_every_file_is_in_one_group_and_no_group_is_empty(sizes):
    files = [(str(number), size) for number, size in enumerate(sizes)]
    groups = group_files(files)
    assert sorted(chain(*groups)) == sorted(files)
    assert all(groups)
    assert groups == group_files(files[::-1])
