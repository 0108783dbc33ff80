"""Each limit of `ReportConfig` held against plain values: volumes, gaps, nulls, files, drift.

Days are compared with what this feed usually does. A shop that delivers nothing on Saturdays has
no Saturday missing, and a Monday is compared with Mondays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from statistics import median
from typing import TypeVar

from pipelines.preprocess.drift import Shift
from pipelines.preprocess.limits import Limit, ReportConfig, Verdict, verdict

_Value = TypeVar("_Value")

TRAILING_DAYS = 28
_TRAILING_AT_LEAST = 7
"""Fewer days with rows say nothing of what is usual."""

_LIKE_AT_LEAST = 3
"""So many days of a weekday are a base of their own."""

_SHOWN = 5
_MODERATE_PSI, _MAJOR_PSI = 0.1, 0.25


def quarantined(rows_read: int, by_rule: Mapping[str, int], maximum: float) -> Verdict:
    """The share of the rows in quarantine against `maximum_quarantined_share`.

    Args:
        rows_read: rows of all readable files.
        by_rule: rows in quarantine.
        maximum: above it, the run stops.
    """
    bad = sum(by_rule.values())
    share = bad / rows_read if rows_read else None
    worst = sorted(by_rule.items(), key=lambda rule: (-rule[1], rule[0]))
    rules = f" ({_some(f'{name} {rows:,}' for name, rows in worst)})" if worst else ""
    return verdict(
        "maximum_quarantined_share",
        share,
        Limit(stop=maximum),
        found="No row was read"
        if share is None
        else f"{bad:,} of {rows_read:,} rows, {share:.2%}, are in quarantine{rules}",
        advice="see the stage's quarantine folder, then mend the input, add a drop rule or raise "
        "preprocess.maximum_quarantined_share",
    )


def volumes(daily: Mapping[date, int], limits: ReportConfig) -> list[Verdict]:
    """The newest day's rows against the median of those before it.

    Args:
        daily: rows by day; a day without rows may be there with 0.
        limits: `volume_at_least` and `volume_at_most`.
    """
    present = {day: rows for day, rows in daily.items() if rows > 0}
    quotient, found = None, "No day has rows, so there is no volume to compare"
    if present:
        newest = max(present)
        before = _trailing(present, newest)
        alike = [rows for day, rows in before.items() if day.weekday() == newest.weekday()]
        if len(before) < _TRAILING_AT_LEAST:
            found = (
                f"{newest} has {present[newest]:,} rows; of the {TRAILING_DAYS} days before it "
                f"{len(before)} have rows, too few to compare with"
            )
        else:
            own = len(alike) >= _LIKE_AT_LEAST
            base = median(alike if own else before.values())
            days = f"{len(alike)} {newest:%A}s" if own else f"{len(before)} days"
            quotient = present[newest] / base
            found = (
                f"{newest} has {present[newest]:,} rows, {quotient:.2f} times the median of the "
                f"{days} before it, {base:,.0f}"
            )
    least, most = (
        "see whether its delivery is whole and deliver it again",
        "see whether it holds more than one day or was delivered twice",
    )
    return [
        verdict(name, quotient, limit, found=found, advice=f"{what}, or set {_setting(name)}")
        for name, limit, what in (
            ("volume_at_least", limits.volume_at_least, least),
            ("volume_at_most", limits.volume_at_most, most),
        )
    ]


def gaps(daily: Mapping[date, int], as_of: date, limits: ReportConfig) -> list[Verdict]:
    """Days without rows on which rows were due: since the newest day with rows, and before it.

    A weekday is due when it has rows more often than not since the first day with rows; one that
    has come less than three times is judged like all days together.

    Args:
        daily: rows by day.
        as_of: last day of the run.
        limits: `days_behind` and `missing_days`.
    """
    present = {day for day, rows in daily.items() if rows > 0 and day <= as_of}
    if not present:
        nothing = "No day has rows, so none can be missing"
        return [
            verdict(name, None, limit, found=nothing, advice="")
            for name, limit in (
                ("days_behind", limits.days_behind),
                ("missing_days", limits.missing_days),
            )
        ]
    newest = max(present)
    due = _due(present)
    behind = [day for day in _days(newest + timedelta(1), as_of) if day.weekday() in due]
    missing = [
        day for day in _days(min(present), newest) if day.weekday() in due and day not in present
    ][::-1]
    late = (
        f"The newest day with rows is {newest}; rows were due on {_listed(behind)}"
        if behind
        else f"The newest day with rows is {newest}, and none were due since, up to {as_of}"
    )
    return [
        verdict(
            "days_behind",
            len(behind),
            limits.days_behind,
            found=late,
            advice="see why the delivery is late and run again when it is there, or set "
            + _setting("days_behind"),
        ),
        verdict(
            "missing_days",
            len(missing),
            limits.missing_days,
            found=f"Between {min(present)} and {newest}, rows are missing for {_listed(missing)}"
            if missing
            else f"No day on which rows were due is missing between {min(present)} and {newest}",
            advice="deliver them again if the shop was open, or set " + _setting("missing_days"),
        ),
    ]


def bad_files(bad: Iterable[str], files: int, limits: ReportConfig) -> Verdict:
    """The share of the files that could not be used.

    Args:
        bad: their names.
        files: how many files there are, these among them.
        limits: `bad_files`.
    """
    names = sorted(bad)
    return verdict(
        "bad_files",
        len(names) / files if files else None,
        limits.bad_files,
        found=f"{len(names):,} of {files:,} files are in quarantine: {_some(names)}"
        if names
        else f"None of the {files:,} files is in quarantine",
        advice="deliver them again, or set " + _setting("bad_files"),
    )


def nulls(shares: Mapping[date, Mapping[str, float]], limits: ReportConfig) -> Verdict:
    """The largest rise of an optional column's share of nulls on the newest day.

    Args:
        shares: by day that has valid rows, the share of nulls by column.
        limits: `null_rise`.
    """
    value, found = None, "No day has valid rows, so no share of nulls can rise"
    if shares:
        newest = max(shares)
        before = _trailing(shares, newest)
        if len(before) < _TRAILING_AT_LEAST:
            found = (
                f"Of the {TRAILING_DAYS} days before {newest}, {len(before)} have valid rows, too "
                "few to compare nulls with"
            )
        elif not shares[newest]:
            found = f"No optional column is counted on {newest}"
        else:
            usual = {
                column: median(day.get(column, 0.0) for day in before.values())
                for column in shares[newest]
            }
            rises = {column: share - usual[column] for column, share in shares[newest].items()}
            column = max(sorted(rises), key=lambda name: rises[name])
            value = max(0.0, rises[column])
            found = (
                f"On {newest}, {shares[newest][column]:.1%} of {column} are null, usually "
                f"{usual[column]:.1%}"
            )
    return verdict(
        "null_rise",
        value,
        limits.null_rise,
        found=found,
        advice="see whether the column was renamed or is no longer filled, or set "
        + _setting("null_rise"),
    )


def without_category(
    items: int, without: int, *, has_catalogue: bool, had_categories: bool, limits: ReportConfig
) -> Verdict:
    """The share of the items without category.

    Args:
        items: of the vocabulary.
        without: how many of them have none.
        has_catalogue: whether the input has a catalogue.
        had_categories: whether items of the last promoted run had categories: a catalogue that
            never had any is not at fault.
        limits: `without_category`.
    """
    share = None
    if not has_catalogue:
        found = "The input has no catalogue, so no item has a category"
    elif not items:
        found = "There is no item"
    elif without == items and not had_categories:
        found = "The catalogue has no categories"
    else:
        share = without / items
        found = f"{without:,} of {items:,} items, {share:.1%}, have no category"
    return verdict(
        "without_category",
        share,
        limits.without_category,
        found=found,
        advice="see whether the catalogue is whole and of the same day, or set "
        + _setting("without_category"),
    )


def drift(
    popularity: Shift | None, event_mix: Shift | None, earlier: str | None, limits: ReportConfig
) -> list[Verdict]:
    """The stability indices against the last promoted run.

    Args:
        popularity: of the items; None without an earlier run.
        event_mix: of the event types; likewise.
        earlier: id of the last promoted run.
        limits: `popularity_psi` and `event_mix_psi`.
    """
    kinds = (
        ("popularity_psi", popularity, limits.popularity_psi, "Item popularity"),
        ("event_mix_psi", event_mix, limits.event_mix_psi, "The mix of event types"),
    )
    return [
        verdict(
            name,
            None if shift is None else shift.psi,
            limit,
            found=_moved(what, shift, earlier),
            advice="see the drift in the report; publish on purpose if the change is real, or set "
            + _setting(name),
        )
        for name, shift, limit, what in kinds
    ]


def _moved(what: str, shift: Shift | None, earlier: str | None) -> str:
    if shift is None:
        against = f"run {earlier} cannot be" if earlier else "there is no promoted run to be"
        return f"{what} is compared with nothing: {against} compared with"
    found = f"{what} has a PSI of {shift.psi:.3f} against run {earlier}"
    if shift.psi <= _MODERATE_PSI:
        return f"{found}, which is no shift"
    most = max(shift.bins, key=lambda each: each.psi)
    return (
        f"{found}, a {'major' if shift.psi > _MAJOR_PSI else 'moderate'} shift, most of it in the "
        f"bin {most.name} ({most.earlier:.1%} of the interactions then, {most.now:.1%} now)"
    )


def _trailing(days: Mapping[date, _Value], newest: date) -> dict[date, _Value]:
    first = newest - timedelta(TRAILING_DAYS)
    return {day: value for day, value in days.items() if first <= day < newest}


def _due(present: set[date]) -> set[int]:
    """Weekdays on which rows come more often than not."""
    every = _days(min(present), max(present))
    usually = 2 * len(present) > len(every)
    due = set()
    for weekday in range(7):
        own = [day in present for day in every if day.weekday() == weekday]
        if 2 * sum(own) > len(own) if len(own) >= _LIKE_AT_LEAST else usually:
            due.add(weekday)
    return due


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(step) for step in range((last - first).days + 1)]


def _listed(days: list[date]) -> str:
    many = f"{len(days):,} days: " if len(days) > 1 else ""
    return many + _some(day.isoformat() for day in days)


def _some(words: Iterable[str]) -> str:
    """The first few of a list."""
    every = list(words)
    rest = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _setting(name: str) -> str:
    return f"preprocess.limits.{name}"
