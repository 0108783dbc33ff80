"""The deliveries of the nights, and what is made of their results; no service is started."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests import data
from tests.benchmarks.nights_data import Shop, misjoined
from tests.benchmarks.nights_report import Night, Report, Stage, publish


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(data.look_alike(), nights=3)


def test_deliveries_follow_each_other_and_leave_no_line_out(shop: Shop) -> None:
    assert shop.as_of(3) == shop.last
    assert [shop.as_of(3) - shop.as_of(night) for night in (1, 2)] == [
        timedelta(days=2),
        timedelta(days=1),
    ]
    assert len(shop.before(3)) == len(shop.lines)
    assert 0 < len(shop.before(2)) < len(shop.lines)
    # What two nights bring beside what the first one knew.
    new = len(shop.before(3)) - len(shop.before(1))
    later = shop.between(shop.as_of(2), shop.as_of(3))
    assert len(later) == new
    assert len(shop.delivery(3)) > new


def test_a_wrong_join_keeps_each_column_and_loses_what_belongs_together(shop: Shop) -> None:
    right = shop.delivery(3)
    first = shop.as_of(3) - timedelta(days=2)
    wrong = misjoined(right, first)
    assert wrong.schema == right.schema
    kept = ("user_id", "timestamp", "quantity", "invoice")
    assert wrong.select(kept).equals(right.select(kept))
    items, before = (table["item_id"].to_pylist() for table in (wrong, right))
    assert Counter(items) == Counter(before)
    struck = (
        np.asarray(right["timestamp"]) >= datetime(*first.timetuple()[:3], tzinfo=UTC).timestamp()
    )
    same = np.asarray(items) == np.asarray(before)
    assert same[~struck].all()
    assert same[struck].mean() < 0.2


def _night(number: int, *, published: bool) -> Night:
    scheduled = datetime(2011, 12, number, 2, tzinfo=UTC)

    def after(seconds: float) -> datetime:
        return scheduled + timedelta(seconds=seconds)

    values = {"hr_at_10": (0.5, 0.4, 0.6), "ndcg_at_10": (0.3, 0.2, 0.4)}
    return Night(
        number=number,
        as_of=date(2011, 12, number),
        run_id=f"2011-12-0{number}-0a1b2c3d4e",
        start=None if number == 1 else "2011-12-01-0a1b2c3d4e",
        outcome="published" if published else "refused",
        published=published,
        active="2011-12-01-0a1b2c3d4e",
        metrics={"model": values, "popularity": values}
        | ({} if number == 1 else {"active": values}),
        scheduled=scheduled,
        began=after(5),
        ended=after(100),
        stages=[
            Stage(name="preprocess", began=after(8), seconds=30),
            Stage(name="train", began=after(40), seconds=50),
        ],
        said="" if published else "it is worse",
    )


def test_a_page_gets_tables_and_a_picture_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    begin, end = "<!-- nights: begin -->", "<!-- nights: end -->"
    page.write_text(f"before\n{begin}\nold figures\n{end}\nafter\n")
    report = Report([_night(1, published=True), _night(2, published=False)], ["data: none"])
    report.keep(tmp_path / "nights.json")
    for each in (report, Report.kept(tmp_path / "nights.json")):
        publish(each, page)
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "old figures" not in text
    assert "| **refused** |" in text
    assert "0.5000 (0.4000-0.6000)" in text
    # To the process, to the first stage, between stages, overhead, stages, whole.
    assert text.count("| 5.0 | 8.0 | 12.0 | 20.0 | 80.0 | 100.0 |") == 3
    assert imread(tmp_path / "nights.png").std() > 0


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks"):
        publish(Report([_night(1, published=True)], []), page)
    assert page.read_text() == "no marks"
