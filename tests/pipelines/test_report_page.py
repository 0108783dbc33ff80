"""The page: whole and harmless whatever the input holds, and its charts to scale."""

from __future__ import annotations

import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.preprocess import charts
from pipelines.preprocess.degrees import describe
from pipelines.preprocess.facts import BOTS, BadFile, DayFacts, Facts
from pipelines.preprocess.limits import Limit, ReportConfig
from pipelines.preprocess.report import Earlier, build
from pipelines.preprocess.report_page import render, visible
from tests.pipelines.report_support import AS_OF, HOSTILE, day, empty, facts, vocabulary

LIMITS = ReportConfig(
    volume_at_least=Limit(warn=0.5, stop=0.1), volume_at_most=Limit(warn=2.0, stop=10.0)
)
EARLIER = Earlier(build(facts(), LIMITS), facts().vocabulary)
_VOID = {"meta"}


class Page(HTMLParser):
    """A page's elements and text; every element must be closed in its place."""

    def __init__(self, facts: Facts, earlier: Earlier | None = EARLIER) -> None:
        super().__init__()
        self.source = render(build(facts, LIMITS, earlier)).decode()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def hostile() -> Facts:
    return facts(
        source=f"az://{HOSTILE}",
        vocabulary=vocabulary({HOSTILE: 5}, [HOSTILE, HOSTILE]),
        bots=BOTS.empty_table().from_pylist(
            [{"user_id": HOSTILE, "events": 9, "most_in_a_day": 5}], BOTS
        ),
        bad_files=[BadFile(name=HOSTILE, rule=HOSTILE, detail=HOSTILE)],
        quarantined={HOSTILE: 1},
        dropped={HOSTILE: 1},
        days=[day(0, event_types={HOSTILE: 100}, nulls={HOSTILE: 3})],
        distinct={HOSTILE: 2},
    )


def undated() -> Facts:
    files = DayFacts(day="unknown", files=2, read=1234, valid=1234)
    return facts([files], rows_read=1234)


@pytest.mark.parametrize("make", [facts, empty, undated, hostile, lambda: facts([day(0)])])
@pytest.mark.parametrize("earlier", [EARLIER, None])
def test_a_page_is_whole_and_alone(make: Callable[[], Facts], earlier: Earlier | None) -> None:
    page = Page(make(), earlier)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "form", "a", "base"})
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in {"src", "href", "xlink:href", "action"}
        assert "url(" not in (value or "")
    for drawn in re.findall(r"<svg.*?</svg>", page.source, re.DOTALL):
        ET.fromstring(drawn)  # noqa: S314  our own
    assert "nan" not in page.text.lower().split()


def test_foreign_words_are_shown_as_they_are_and_do_nothing() -> None:
    page = Page(hostile())
    assert "<script" not in page.source
    assert (
        page.text.count("<script>alert(1)</script>\"'&{{ 7*7 }}\\u001b[31m\\u202egnp.\\u0000") > 5
    )
    assert not set(page.source) & {"\x00", "\x1b", "\u202e"}


@given(st.text())
def test_no_hidden_character_stays_hidden(text: str) -> None:
    assert not {unicodedata.category(each) for each in visible(text)} & {"Cc", "Cf", "Co", "Zl"}
    if text.isprintable():
        assert visible(text) == text


def test_the_page_tells_what_the_report_holds() -> None:
    late = facts([day(0, rows=5), *(day(number) for number in range(1, 30))])
    text = Page(late).text
    for words in (
        "Data report stop",
        "0.05 times the median of the 4 Sundays before it",
        "title of a",
        "Item popularity: PSI 0.0000",
        "exponent too few to fit",
        "rating 2,905 100.00 % –",
    ):
        assert words in text
    bots = [{"user_id": f"u{n:02}", "events": 99 - n, "most_in_a_day": 1} for n in range(60)]
    text = Page(facts(bots=BOTS.empty_table().from_pylist(bots, BOTS))).text
    assert "u49" in text
    assert "u50" not in text
    assert "The first 50 of 60; report.json has all of them." in text


def rects(drawn: str) -> list[ET.Element]:
    return [each for each in ET.fromstring(drawn) if each.tag.endswith("rect")]  # noqa: S314


def test_bars_are_as_tall_as_their_rows() -> None:
    volumes = {AS_OF: {"view": 30, "purchase": 10}, AS_OF - timedelta(2): {"purchase": 5}}
    chart = charts.bars_by_day(volumes, "rows")
    assert [kind for kind, _ in chart.colours] == ["view", "purchase"]
    heights = [float(each.attrib["height"]) for each in rects(chart.svg)]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 6, 2], rel=0.01)
    places = [float(each.attrib["x"]) for each in rects(chart.svg)]
    assert places[0] < places[1] == places[2]


@pytest.mark.parametrize(("days", "step"), [(430, "day"), (431, "week"), (3011, "month")])
def test_many_days_become_weeks_and_months(days: int, step: str) -> None:
    chart = charts.bars_by_day({AS_OF - timedelta(n): {"view": 1} for n in range(days)}, "rows")
    assert chart.note == ("" if step == "day" else f"One bar is a {step}.")
    bars = rects(chart.svg)
    assert len(bars) <= 432
    assert f"{step} " in "".join(bars[0].itertext())


def test_one_item_and_one_user_can_be_drawn() -> None:
    alone = describe([1], [1])
    assert alone is not None
    ET.fromstring(charts.degree_plot(alone, "#000000"))  # noqa: S314
    assert rects(charts.bars_by_day({date(2024, 1, 1): {"view": 1}}, "rows").svg)
    assert not rects(charts.bars_by_day({}, "rows").svg)


def test_short_numbers() -> None:
    shown = [charts.short(value) for value in (0, 950, 12_000, 3_500_000, 2e9)]
    assert shown == ["0", "950", "12 k", "3.5 M", "2 G"]
