"""The data report as a page that a person reads: one file, no scripts, nothing from elsewhere.

Ids, titles, file names and details are others' words. The template escapes them all, shows
control characters as what they are, keeps each from turning the text around it (`<bdi>`), and the
page's own policy forbids scripts and loads.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from pipelines.preprocess import charts
from pipelines.preprocess.facts import UNDATED
from pipelines.preprocess.report import Report

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_LONGEST_TEXT, _LONGEST_WORD = 160, 24
_ROWS_SHOWN = 50

# Control, format (among them the marks that turn text around), private and unassigned characters.
_HIDDEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}


def render(report: Report) -> bytes:
    """`report.html`, UTF-8."""
    page = _template().render(
        report=report,
        shown=_ROWS_SHOWN,
        fates=_fates(report),
        delivered=_delivered(report),
        by_event_type=charts.bars_by_day({v.day: v.rows for v in report.volumes}, "interactions"),
        undated=next((day for day in report.days if day.day == UNDATED), None),
        columns=_columns(report),
        degrees=[
            (name, told, charts.degree_plot(told, charts.COLOURS[place]))
            for place, (name, told) in enumerate(
                (("items", report.item_degrees), ("users", report.user_degrees))
            )
            if told is not None
        ],
        shifts=[
            (name, shift, charts.shift_plot(shift))
            for name, shift in (
                ("Item popularity", report.popularity),
                ("Mix of event types", report.event_mix),
            )
            if shift is not None
        ],
    )
    # The whole page at once, so that no place can be forgotten; its own lines stay lines.
    return "\n".join(visible(line) for line in page.split("\n")).encode()


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "foreign": _foreign,
        "visible": visible,
        "count": lambda number: f"{number:,}",
    }
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def visible(text: str) -> str:
    """Text with its hidden characters written out: they can do nothing to a page or terminal."""
    return "".join(
        f"\\u{ord(each):04x}" if unicodedata.category(each) in _HIDDEN else each for each in text
    )


def _foreign(text: str) -> Markup:
    """Somebody else's words: shortened, and alone in their direction of writing."""
    if len(text) > _LONGEST_TEXT:
        text = text[: _LONGEST_TEXT - 1] + "…"
    # Only a word too long for its column may be broken anywhere: ids should stay in one piece.
    long = any(len(word) > _LONGEST_WORD for word in text.split())
    return Markup("<bdi{}>{}</bdi>").format(Markup(' class="long"') if long else "", text)


def _fates(report: Report) -> list[tuple[str, str, int]]:
    """(fate, rule, rows), the largest first within a fate."""

    def sorted_rules(rules: Mapping[str, int]) -> list[tuple[str, int]]:
        return sorted(rules.items(), key=lambda rule: (-rule[1], rule[0]))

    return [
        ("kept", "", report.interactions),
        *(("dropped", rule, rows) for rule, rows in sorted_rules(report.dropped)),
        *(("quarantined", rule, rows) for rule, rows in sorted_rules(report.quarantined)),
    ]


def _delivered(report: Report) -> charts.Chart:
    rows = {
        date.fromisoformat(day.day): {
            "valid": day.valid,
            "dropped": sum(day.dropped.values()),
            "quarantined": sum(day.quarantined.values()),
        }
        for day in report.days
        if day.day != UNDATED
    }
    return charts.bars_by_day(
        rows, "rows", {"valid": "#00734f", "dropped": "#e69f00", "quarantined": "#b3261e"}
    )


def _columns(report: Report) -> list[tuple[str, int | None, int | None]]:
    """(column, nulls, distinct values), None where it is not counted."""
    names = [*report.distinct, *(name for name in report.nulls if name not in report.distinct)]
    return [(name, report.nulls.get(name), report.distinct.get(name)) for name in names]
