"""The benchmark at its smallest: every measurement runs, and every table has its row."""

import io
from statistics import harmonic_mean

import pytest
from rich.console import Console

from hyperrec_core.analysis.report import write_between
from tests.benchmarks import case, measure, tables
from tests.benchmarks.__main__ import bench, show
from tests.benchmarks.case import Case
from tests.benchmarks.cases import SIZES


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    to = tmp_path_factory.mktemp("bench")
    console = Console(file=io.StringIO())
    # In this process: a process each would take longer than all that is measured.
    return bench(SIZES["tiny"], only=[], to=to, folder=to, console=console, measure=measure.here)


def test_every_table_has_its_rows(raw):
    report = tables.report(case.read(raw))
    assert "### Failed" not in report
    for row in (
        "| random | hyperrec, learned |",
        "| ASOS-like, 5,600 | hyperrec, uniform |",
        "| geoopt RiemannianSGD |",
        "| geoopt SparseRiemannianAdam |",
        "| hyperrec, 2 epochs, 1 thread |",
        "| implicit ALS (",
        "| implicit BPR (",
        "| 2,800 | cpu |",
        "### Items",
        "### Dimensions and threads",
        "### Where the time goes",
        "| ranking 100 labels of ",
        "| top 20 similar items of 60",
        "| none kept |",
    ):
        assert row in report, row
    assert "no GPU here" in report or "| cuda |" in report


def test_the_report_is_made_again_from_raw_numbers(raw):
    shown = io.StringIO()
    show([raw], raw.parent, Console(file=shown, width=200), publish=False)
    written = (raw.parent / "report.md").read_text("utf-8")
    assert tables.report(case.read(raw)) in written
    assert "RiemannianAdam" in shown.getvalue()
    assert (raw.parent / f"{raw.stem}.png").read_bytes().startswith(b"\x89PNG")


def test_ratios_are_of_the_numbers_they_stand_for(raw):
    run = case.read(raw)
    fits = [m.result for m in run.of("fit")]
    assert all(
        r["floor_to_fit"] * r["examples_per_second"] == pytest.approx(harmonic_mean(r["floors"]))
        for r in fits
    )
    assert {len(r["epoch_seconds"]) for r in fits} == {2}


def test_a_measurement_has_a_process_of_its_own(tmp_path):
    asked = Case(group="scoring", kind="similar", options={"items": 300, "dimensions": 4})
    found = measure.in_process(asked, folder=tmp_path, made=tmp_path)
    assert found.case == asked
    assert found.error == ""
    assert found.result["seconds"] > 0
    assert found.peak_bytes > 10_000_000


def test_a_failure_becomes_a_line_and_the_run_goes_on(tmp_path):
    asked = Case(group="fit", kind="fit", data="ml-100k", options={"aggregator": "learned"})
    found = measure.in_process(asked, folder=tmp_path, made=tmp_path)
    assert "interactions.parquet is not there" in found.error
    report = tables.report(case.Run({}, [found]))
    assert "### Failed" in report
    assert "### Fit" not in report


def test_what_was_published_is_replaced(tmp_path):
    path = tmp_path / "README.md"
    begin, end = "<!-- figures: begin -->", "<!-- figures: end -->"
    path.write_text(f"above\n{begin}\nold\n{end}\nbelow\n", "utf-8")
    write_between(path, "figures", "new\n")
    assert path.read_text("utf-8") == f"above\n{begin}\nnew\n{end}\nbelow\n"
    path.write_text("no marks", "utf-8")
    with pytest.raises(ValueError, match="lacks the lines"):
        write_between(path, "figures", "new\n")


def test_a_threshold_that_is_never_reached_is_never():
    curve = [{"seconds": 1.0, "ndcg_at_10": 0.3}, {"seconds": 2.0, "ndcg_at_10": 0.5}]
    assert tables.reached(curve, 0.4) == 2.0
    assert tables.reached(curve, 0.6) is None
