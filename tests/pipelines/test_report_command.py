"""`hyperrec report`: what it prints and where it writes the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.report import report
from pipelines.errors import NotFoundError, UsageError
from pipelines.preprocess.facts import BadFile
from pipelines.preprocess.limits import ReportConfig
from pipelines.preprocess.report import build
from pipelines.preprocess.report_page import render
from pipelines.runs import Attempt, Run, RunRecord
from pipelines.storage import Folder
from tests.pipelines.report_support import AS_OF, HOSTILE, day, facts
from tests.support import Place, table_rows


def a_run(folder: Path, *, with_report: bool = True) -> Run:
    record = RunRecord.identify(
        as_of=AS_OF, source="az://raw", listing=[], configuration={"seed": int(with_report)}
    )
    run = Run.start(Folder(folder), record)
    bad = [BadFile(name=HOSTILE, rule="file_unreadable", detail="truncated")]
    days = [day(number, files=2) for number in range(1, 40)]
    found = build(facts(days, bad_files=bad), ReportConfig())

    def work(attempt: Attempt) -> dict[str, int]:
        if with_report:
            attempt.write("report.json", found.to_json())
            attempt.write("report.html", render(found))
        return {}

    run.finish("preprocess", work)
    return run


def test_it_prints_the_verdicts_and_writes_the_page(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    run = a_run(tmp_path / "runs")
    words = ("report", run.run_id, "--runs", str(tmp_path / "runs"))
    done = place.hyperrec(*words, "--to", str(tmp_path / "a" / "b"))
    rows = table_rows(done.out)
    assert [row[:3] for row in rows[:3]] == [
        ["warn", "days_behind", "1"],
        ["warn", "bad_files", "0.0127"],
        ["ok", "maximum_quarantined_share", "0"],
    ]
    assert "warn: 1 of 79 files are in quarantine: <script>alert(1)</script>\"'&{{" in done.out
    assert not set(done.out) & {"\x1b", "\u202e", "\x00"}
    assert "3,900 rows read, 3,900 kept, 0 dropped, 0 in quarantine; 1 files in" in done.out
    assert "Users: 35, interactions of one: median 2, 99 % up to 8, most 8; Gini" in done.out
    page = tmp_path / "a" / "b" / "report.html"
    assert page.read_bytes() == run.read("preprocess", "report.html")
    assert page.with_suffix(".json").read_bytes() == run.read("preprocess", "report.json")
    assert f"The page: {page}" in done.out


def test_a_page_goes_where_it_can_be_written(tmp_path: Path) -> None:
    run = a_run(tmp_path / "runs")
    taken = tmp_path / "file"
    taken.write_bytes(b"")
    with pytest.raises(UsageError, match=f"Cannot write to {taken}: File exists; choose another"):
        report(run.run_id, to=taken, runs=str(tmp_path / "runs"))


def test_a_run_without_report_is_told_so(tmp_path: Path) -> None:
    run = a_run(tmp_path / "runs", with_report=False)
    with pytest.raises(NotFoundError, match=f"^Stage preprocess of run {run.run_id} wrote no repo"):
        report(run.run_id, runs=str(tmp_path / "runs"))
