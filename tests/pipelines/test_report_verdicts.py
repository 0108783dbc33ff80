"""Limits: their levels, what they are compared with, and what a profile may say of them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.preprocess import verdicts
from pipelines.preprocess.limits import Level, Limit, ReportConfig, verdict, worst

LIMITS = ReportConfig(
    volume_at_least=Limit(warn=0.5, stop=0.1), volume_at_most=Limit(warn=2.0, stop=10.0)
)
SUNDAY = date(2024, 3, 31)


def feed(weekend: int = 100, weekday: int = 100, days: int = 60) -> dict[date, int]:
    """Rows by day up to the day before `SUNDAY`."""
    every = [SUNDAY - timedelta(n) for n in range(1, days)]
    return {day: weekend if day.weekday() >= 5 else weekday for day in every}


@pytest.mark.parametrize(
    ("rows", "least", "most"),
    [
        (9, "stop", "ok"),
        (10, "warn", "ok"),
        (49, "warn", "ok"),
        (50, "ok", "ok"),
        (200, "ok", "ok"),
        (201, "ok", "warn"),
        (1000, "ok", "warn"),
        (1001, "ok", "stop"),
    ],
)
def test_the_volume_of_the_newest_day(rows: int, least: Level, most: Level) -> None:
    low, high = verdicts.volumes(feed() | {SUNDAY: rows}, LIMITS)
    assert (low.level, high.level) == (least, most)
    assert low.value == high.value == rows / 100


def test_a_sunday_is_compared_with_sundays() -> None:
    low, _ = verdicts.volumes(feed(weekend=20) | {SUNDAY: 20}, LIMITS)
    assert (low.value, low.level) == (1.0, "ok")
    assert "the 4 Sundays before it, 20" in low.sentence


def test_too_few_sundays_are_compared_with_all_days() -> None:
    daily = feed(weekend=0) | {SUNDAY: 20} | {SUNDAY - timedelta(7): 20}
    low, _ = verdicts.volumes(daily, LIMITS)
    assert (low.value, low.level) == (0.2, "warn")
    assert "the 21 days before it, 100" in low.sentence


@pytest.mark.parametrize("days", [{}, {SUNDAY: 5}, {SUNDAY: 0}, feed(days=7) | {SUNDAY: 1}])
def test_too_little_is_not_judged(days: dict[date, int]) -> None:
    for each in verdicts.volumes(days, LIMITS):
        assert (each.value, each.level) == (None, "ok")


def test_a_day_without_rows_is_missing_only_where_rows_are_usual() -> None:
    daily = feed(weekend=0)
    closed = date(2024, 3, 13)
    behind, missing = verdicts.gaps(daily | {closed: 0}, SUNDAY, LIMITS)
    assert (behind.value, behind.level) == (0, "ok")
    assert (missing.value, missing.level) == (1, "warn")
    assert missing.sentence.startswith(
        "Between 2024-02-01 and 2024-03-29, rows are missing for 2024-03-13; deliver them again"
    )
    behind, _ = verdicts.gaps(daily, SUNDAY + timedelta(2), LIMITS)
    assert (behind.value, behind.level) == (2, "warn")
    assert "rows were due on 2 days: 2024-04-01, 2024-04-02" in behind.sentence


def test_days_that_come_once_a_month_are_not_due_in_between() -> None:
    monthly = {date(2023, month, 1): 10 for month in range(1, 13)}
    for each in verdicts.gaps(monthly, date(2023, 12, 31), LIMITS):
        assert (each.value, each.level) == (0, "ok")


def test_no_day_cannot_be_missing() -> None:
    assert [each.value for each in verdicts.gaps({}, SUNDAY, LIMITS)] == [None, None]


def test_a_bad_file_is_named() -> None:
    found = verdicts.bad_files([f"{n}.csv" for n in range(7)], 700, LIMITS)
    assert (found.value, found.level) == (0.01, "warn")
    assert "0.csv, 1.csv, 2.csv, 3.csv, 4.csv and 2 more" in found.sentence
    assert verdicts.bad_files([], 0, LIMITS).value is None


def test_the_column_whose_nulls_rise_is_named() -> None:
    usual = {"price": 0.01, "rating": 0.9}
    shares = {SUNDAY - timedelta(n): usual for n in range(1, 20)}
    found = verdicts.nulls(shares | {SUNDAY: {"price": 0.5, "rating": 0.95}}, LIMITS)
    assert found.level == "warn"
    assert found.value == pytest.approx(0.49)
    assert found.sentence.startswith("On 2024-03-31, 50.0% of price are null, usually 1.0%; see")
    assert verdicts.nulls(shares | {SUNDAY: {"price": 0.0, "rating": 0.0}}, LIMITS).value == 0
    assert verdicts.nulls({SUNDAY: usual}, LIMITS).value is None


def test_a_few_items_without_category_are_allowed() -> None:
    def judged(without: int) -> Level:
        return verdicts.without_category(
            100, without, has_catalogue=True, had_categories=False, limits=LIMITS
        ).level

    assert [judged(n) for n in (0, 20, 21, 99)] == ["ok", "ok", "warn", "warn"]


@given(st.none() | st.floats(0, 100), st.sampled_from(["volume_at_least", "missing_days"]))
def test_without_levels_nothing_is_crossed(value: float | None, name: str) -> None:
    assert verdict(name, value, Limit(), found="x", advice="y").level == "ok"


def test_the_gravest_level() -> None:
    assert worst([]) == "ok"
    judged = [
        verdict("missing_days", value, Limit(warn=1, stop=5), found="x", advice="y")
        for value in (0, 2, 6)
    ]
    assert [each.level for each in judged] == ["ok", "warn", "stop"]
    assert [each.sentence for each in judged[:2]] == ["x.", "x; y."]
    assert (worst(judged[:2]), worst(judged)) == ("warn", "stop")


def test_a_profile_that_sets_one_level_keeps_the_other() -> None:
    config = ReportConfig.model_validate({"volume_at_least": {"stop": 0.2}})
    assert config.volume_at_least == Limit(warn=0.5, stop=0.2)
    off = ReportConfig.model_validate({"volume_at_least": {"stop": "off"}, "bad_files": {}})
    assert (off.volume_at_least, off.bad_files) == (Limit(warn=0.5), Limit(warn=0))
    assert ReportConfig.model_validate_json(off.model_dump_json()) == off


@pytest.mark.parametrize(
    ("given_limits", "reason"),
    [
        ({"volume_at_least": {"stop": 0.6}}, "volume_at_least.stop must lie below"),
        ({"popularity_psi": {"stop": 0.05}}, "popularity_psi.stop must lie above"),
        ({"missing_days": {"warn": -1}}, "greater than or equal to 0"),
        ({"missing_days": {"warn": float("nan")}}, "finite number"),
        ({"missing_day": {}}, "Extra inputs"),
        ({"missing_days": {"wran": 1}}, "Extra inputs"),
        ({"missing_days": 3}, "instance of Limit"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(given_limits: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ReportConfig.model_validate(given_limits)
