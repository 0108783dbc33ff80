"""The data report as a whole: what it takes from the facts, and that it comes back from JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipelines.errors import CorruptOutputError
from pipelines.preprocess.facts import BOTS, EVENTS, BadFile, DayFacts, Facts
from pipelines.preprocess.limits import Level, Limit, ReportConfig
from pipelines.preprocess.report import Earlier, Report, build, earlier_of
from pipelines.preprocess.sink import to_parquet
from pipelines.runs import Attempt, Run, RunRecord
from pipelines.storage import Folder
from tests.pipelines.report_support import AS_OF, HOSTILE, day, empty, facts, vocabulary

LIMITS = ReportConfig(
    volume_at_least=Limit(warn=0.5, stop=0.1), volume_at_most=Limit(warn=2.0, stop=10.0)
)


def levels(report: Report) -> dict[str, Level]:
    return {each.name: each.level for each in report.verdicts}


def sentence(report: Report, name: str) -> str:
    return next(each.sentence for each in report.verdicts if each.name == name)


def undated() -> Facts:
    """One file without a day; its events lie on forty."""
    files = DayFacts(day="unknown", files=1, read=4000, valid=4000, nulls={"price": 1})
    return facts([files], events=facts().events, interactions=4000, dropped={})


def one_day() -> Facts:
    return facts([day(0)])


def hostile() -> Facts:
    bots = BOTS.empty_table().from_pylist(
        [{"user_id": HOSTILE, "events": 9, "most_in_a_day": 5}], BOTS
    )
    return facts(
        vocabulary=vocabulary({HOSTILE: 5}, [HOSTILE]),
        bots=bots,
        bad_files=[BadFile(name=HOSTILE, rule="file_unreadable", detail=HOSTILE)],
        quarantined={HOSTILE: 1},
    )


@pytest.mark.parametrize("make", [facts, empty, undated, one_day, hostile])
def test_a_report_comes_back_from_its_json(make: Callable[[], Facts]) -> None:
    some = make()
    report = build(some, LIMITS, Earlier(build(facts(), LIMITS), facts().vocabulary))
    assert Report.from_json(report.to_json()) == report
    assert build(some, LIMITS).to_json() == build(some, LIMITS).to_json()


def test_a_damaged_report_is_told_in_one_sentence() -> None:
    with pytest.raises(CorruptOutputError, match="of another version of hyperrec or damaged"):
        Report.from_json(b'{"format": 2}')


def test_an_even_feed_crosses_nothing() -> None:
    report = build(facts(), LIMITS)
    assert (set(levels(report).values()), report.level, report.stopped()) == ({"ok"}, "ok", None)
    assert [item.item_id for item in report.top_items] == ["a", "b", "c"]
    assert report.top_items[0].share == 0.5
    assert (report.distinct["item_id"], report.items_without_interactions) == (3, 1)
    assert report.distinct["user_id"] == 35
    assert report.event_types == {"purchase": 2000, "view": 2000}
    assert report.nulls == {"price": 0, "rating": 4000}
    assert [volume.rows for volume in report.volumes] == [{"purchase": 50, "view": 50}] * 40


def test_what_stops_comes_first_and_is_one_sentence() -> None:
    days = [day(0, rows=9), *(day(number) for number in range(2, 40))]
    report = build(facts(days), LIMITS)
    assert [each.name for each in report.verdicts][:2] == ["volume_at_least", "missing_days"]
    assert report.level == "stop"
    assert report.stopped() == (
        "Run 2024-03-31-0123456789 stops before training: 2024-03-31 has 9 rows, 0.09 times the "
        "median of the 4 Sundays before it, 100; see whether its delivery is whole and deliver it "
        "again, or set preprocess.limits.volume_at_least."
    )


def test_an_empty_newest_day_warns() -> None:
    days = [day(0, rows=0), *(day(number) for number in range(1, 40))]
    report = build(facts(days), LIMITS)
    assert levels(report)["days_behind"] == "warn"
    assert sentence(report, "days_behind").startswith(
        "The newest day with rows is 2024-03-30; rows were due on 2024-03-31; see why"
    )
    assert report.level == "warn"


def test_undated_files_are_judged_by_the_days_of_their_events() -> None:
    some = undated()
    assert set(levels(build(some, LIMITS)).values()) == {"ok"}
    short = some.events.filter([row["day"] != AS_OF for row in some.events.to_pylist()])
    few = EVENTS.empty_table().from_pylist(
        [*short.to_pylist(), {"day": AS_OF, "event_type": "view", "rows": 30}], EVENTS
    )
    report = build(facts(some.days, events=few, dropped={}), LIMITS)
    assert levels(report)["volume_at_least"] == "warn"


def test_quarantine_is_held_against_its_own_limit() -> None:
    report = build(facts(quarantined={"user_id_missing": 300, "price_negative": 1}), LIMITS)
    assert levels(report)["maximum_quarantined_share"] == "stop"
    assert "301 of 4,000 rows, 7.52%" in sentence(report, "maximum_quarantined_share")


def test_a_catalogue_that_loses_its_categories_warns_one_that_never_had_any_does_not() -> None:
    bare = facts(vocabulary=vocabulary({"a": 30, "b": 20, "c": 10}, []))
    for earlier, level in ((None, "ok"), (bare.vocabulary, "ok"), (facts().vocabulary, "warn")):
        compared = None if earlier is None else Earlier(build(facts(), LIMITS), earlier)
        assert levels(build(bare, LIMITS, compared))["without_category"] == level


def test_drift_is_judged_against_the_earlier_run() -> None:
    earlier = Earlier(build(facts(), LIMITS), vocabulary({"a": 10, "b": 20, "z": 30}))
    report = build(facts(), LIMITS, earlier)
    assert report.earlier_run == "2024-03-31-0123456789"
    assert report.popularity is not None
    assert report.popularity.psi > 0.25
    assert report.event_mix is not None
    assert report.event_mix.psi == 0
    assert levels(report)["popularity_psi"] == "warn"
    assert "a major shift" in sentence(report, "popularity_psi")
    strict = ReportConfig(popularity_psi=Limit(warn=0.1, stop=0.25))
    assert "Item popularity has a PSI of" in str(build(facts(), strict, earlier).stopped())


def test_the_earlier_run_is_read_from_its_outputs(tmp_path: Path) -> None:
    storage = Folder(tmp_path)
    record = RunRecord.identify(
        as_of=AS_OF, source="az://raw", listing=[], configuration={"seed": 1}
    )
    run = Run.start(storage, record)
    assert earlier_of(run) is None
    report = build(facts(), LIMITS)

    def work(attempt: Attempt) -> dict[str, int]:
        attempt.write("report.json", report.to_json())
        attempt.write("vocabulary.parquet", to_parquet(facts().vocabulary), rows=4)
        return {}

    run.finish("preprocess", work)
    earlier = earlier_of(run)
    assert earlier is not None
    assert earlier.report == report
    assert earlier.vocabulary.equals(facts().vocabulary)


def test_days_of_many_years_are_all_there() -> None:
    old = [day(number, rows=2) for number in range(0, 3000, 2)]
    report = build(facts(old), LIMITS)
    assert len(report.days) == len(report.volumes) == 1500
    assert report.days[0].day == (AS_OF - timedelta(2998)).isoformat()
    assert report.volumes[-1].day == date(2024, 3, 31)
