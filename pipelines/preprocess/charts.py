"""Small charts as inline SVG: bars over days, degrees on logarithmic axes, pairs of shares.

Every text goes through `Markup.format`, which escapes it. Coordinates are in pixels of the
chart's own box; the page scales it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from markupsafe import Markup

from pipelines.preprocess.degrees import Degrees, survival
from pipelines.preprocess.drift import Shift

# Okabe and Ito's colours, which every kind of colour vision tells apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7f00", "#555555")
_INK, _GRID = "#4a5560", "#dde3e8"

_WIDE = 920
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 30
# Narrower bars than this are weeks, and then months.
_BARS_AT_MOST = 430
_FEW = 40
_MARKS_AT_LEAST, _MARKS_AT_MOST = 3, 11

_LINE = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}"/>')
_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="11" fill="{}">{}</text>')
_RECT = Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}">{}</rect>')
_TITLE = Markup("<title>{}</title>")


@dataclass(frozen=True)
class Chart:
    """A chart and what its colours mean: (name, colour) in the order of the stack."""

    svg: Markup
    colours: tuple[tuple[str, str], ...]
    note: str


def bars_by_day(
    volumes: Mapping[date, Mapping[str, int]],
    unit: str,
    colours: Mapping[str, str] | None = None,
) -> Chart:
    """Stacked bars, one a day, or one a week or month where days would be too many.

    Args:
        volumes: rows by day and kind; days that are not there have none.
        unit: what is counted, for the words under the pointer.
        colours: of the kinds, in the order of the stack; by default the kind with most rows lies
            at the bottom, where heights are compared with ease.
    """
    totals: Counter[str] = Counter()
    for rows in volumes.values():
        totals.update(rows)
    if colours is None:
        kinds = sorted(totals, key=lambda kind: (-totals[kind], kind))
        colours = {kind: COLOURS[n % len(COLOURS)] for n, kind in enumerate(kinds)}
    stack = [(kind, colour) for kind, colour in colours.items() if totals[kind]]
    step, bars = _grouped(volumes)
    height = 230
    highest = max((sum(rows.values()) for rows in bars.values()), default=0)
    parts, scale = _value_axis(highest, height)
    width = (_WIDE - _LEFT - _RIGHT) / max(len(bars), 1)
    drawn = width * (0.8 if len(bars) <= _FEW else 1.0)
    floor = height - _BOTTOM
    for place, (start, rows) in enumerate(bars.items()):
        x, y = _LEFT + place * width + (width - drawn) / 2, float(floor)
        told = ", ".join(f"{kind} {rows[kind]:,}" for kind, _ in stack if rows.get(kind))
        title = _TITLE.format(f"{step} {start}: {told or 'no'} {unit}")
        for kind, colour in stack:
            if many := rows.get(kind, 0):
                tall = many * scale
                y -= tall
                parts.append(_RECT.format(x, y, drawn, tall, colour, title))
    parts.extend(_date_axis(list(bars), width, floor))
    note = "" if step == "day" else f"One bar is a {step}."
    return Chart(_svg(parts, _WIDE, height), tuple(stack), note)


def _grouped(
    volumes: Mapping[date, Mapping[str, int]],
) -> tuple[str, dict[date, dict[str, int]]]:
    """Volumes by day, week or month, gaps filled with nothing."""
    if not volumes:
        return "day", {}
    first, last = min(volumes), max(volumes)
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    step = "day"
    starts = days
    if len(days) > _BARS_AT_MOST:
        step, starts = "week", [day - timedelta(day.weekday()) for day in days]
    if len(days) > 7 * _BARS_AT_MOST:
        step, starts = "month", [day.replace(day=1) for day in days]
    bars: dict[date, dict[str, int]] = {}
    for day, start in zip(days, starts, strict=True):
        bar = bars.setdefault(start, {})
        for kind, rows in volumes.get(day, {}).items():
            bar[kind] = bar.get(kind, 0) + rows
    return step, bars


def _value_axis(highest: int, height: int) -> tuple[list[Markup], float]:
    """Grid lines with their values, and pixels a row."""
    floor = height - _BOTTOM
    step = _round_step(max(highest, 1) / 4)
    # Counts are whole: a line at half a row would say nothing.
    step = max(step, 1.0)
    top = step * math.ceil(max(highest, 1) / step)
    scale = (floor - _TOP) / top
    parts = []
    for n in range(round(top / step) + 1):
        y = floor - n * step * scale
        parts.append(_LINE.format(_LEFT, y, _WIDE - _RIGHT, y, _GRID))
        parts.append(_TEXT.format(_LEFT - 6, y + 4, "end", _INK, short(n * step)))
    return parts, scale


def _date_axis(starts: Sequence[date], width: float, floor: int) -> list[Markup]:
    """Marks at the first bar of each month, or of some; at single bars where months are few."""
    first_of = {f"{start:%Y-%m}": place for place, start in reversed([*enumerate(starts)])}
    marks = [(place, month) for month, place in first_of.items()][::-1]
    # The first bar seldom begins its month.
    marks = marks[1:] if starts and starts[0].day > 1 else marks
    if len(marks) < _MARKS_AT_LEAST:
        marks = [(place, start.isoformat()) for place, start in enumerate(starts)]
    parts = []
    for place, words in marks[:: max(1, math.ceil(len(marks) / _MARKS_AT_MOST))]:
        x = _LEFT + (place + 0.5) * width
        parts.append(_LINE.format(x, floor, x, floor + 4, _INK))
        parts.append(_TEXT.format(x, floor + 18, "middle", _INK, words))
    return parts


def degree_plot(degrees: Degrees, colour: str) -> Markup:
    """The share with at least so many interactions, and the fitted law, both axes logarithmic."""
    width, height = 450, 290
    right, floor = width - _RIGHT, height - _BOTTOM - 12
    decades_x = max(1, math.ceil(math.log10(degrees.largest + 1)))
    decades_y = max(1, math.ceil(math.log10(degrees.n)))

    def x_of(value: float) -> float:
        return _LEFT + math.log10(value) / decades_x * (right - _LEFT)

    def y_of(share: float) -> float:
        return _TOP - math.log10(share) / decades_y * (floor - _TOP)

    parts = []
    for n in range(decades_x + 1):
        parts.append(_LINE.format(x_of(10**n), _TOP, x_of(10**n), floor, _GRID))
        parts.append(_TEXT.format(x_of(10**n), floor + 16, "middle", _INK, short(10**n)))
    for n in range(decades_y + 1):
        y = y_of(10.0**-n)
        parts.append(_LINE.format(_LEFT, y, right, y, _GRID))
        parts.append(_TEXT.format(_LEFT - 6, y + 4, "end", _INK, f"{10.0**-n:.{max(n - 2, 0)}%}"))
    left = degrees.n
    for band in degrees.bands:
        told = f"{left:,} of {degrees.n:,} have at least {band.low:,}"
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" fill="{}">{}</circle>')
        centre = (x_of(band.low), y_of(left / degrees.n))
        parts.append(dot.format(*centre, colour, _TITLE.format(told)))
        left -= band.n
    if (law := degrees.law) is not None:
        ends = [law.x_min, degrees.largest]
        shares = [law.tail / degrees.n * float(s) for s in survival(law, ends)]
        # The line may leave the box below, where there are no degrees any more.
        points = [x_of(ends[0]), y_of(shares[0])]
        lowest = max(shares[1], 10.0**-decades_y)
        reach = math.log(lowest / shares[0]) / math.log(shares[1] / shares[0])
        points += [x_of(ends[0] * (ends[1] / ends[0]) ** reach), y_of(lowest)]
        line = Markup(
            '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" '
            'stroke-width="1.5" stroke-dasharray="5 4"/>'
        )
        parts.append(line.format(*points, COLOURS[5]))
    middle = (_LEFT + right) / 2
    parts.append(_TEXT.format(middle, height - 6, "middle", _INK, "at least so many interactions"))
    return _svg(parts, width, height)


def shift_plot(shift: Shift) -> Markup:
    """Each bin's share then (grey) and now (blue), side by side."""
    height, floor = 220, 220 - _BOTTOM - 4
    highest = max(max(each.earlier, each.now) for each in shift.bins)
    step = _round_step(highest / 3)
    top = step * math.ceil(highest / step)
    scale = (floor - _TOP) / top
    parts = []
    for n in range(round(top / step) + 1):
        y = floor - n * step * scale
        parts.append(_LINE.format(_LEFT, y, _WIDE - _RIGHT, y, _GRID))
        parts.append(_TEXT.format(_LEFT - 6, y + 4, "end", _INK, f"{100 * n * step:.3g}%"))
    width = (_WIDE - _LEFT - _RIGHT) / len(shift.bins)
    bar = min(width * 0.35, 40)
    for place, each in enumerate(shift.bins):
        middle = _LEFT + (place + 0.5) * width
        told = f"{each.name}: {each.earlier:.2%} then, {each.now:.2%} now, PSI {each.psi:.4f}"
        title = _TITLE.format(told)
        for share, x, colour in (
            (each.earlier, middle - bar, "#9aa5ae"),
            (each.now, middle, COLOURS[0]),
        ):
            parts.append(_RECT.format(x, floor - share * scale, bar, share * scale, colour, title))
        # "800 to 1,233" is wider than its bars: two lines.
        for line, words in enumerate(each.name.replace(" to ", " to\n").split("\n")):
            parts.append(_TEXT.format(middle, floor + 14 + 13 * line, "middle", _INK, words))
    return _svg(parts, _WIDE, height)


def short(value: float) -> str:
    """A number in at most five letters: 950, 12 k, 3.5 M."""
    for limit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def _round_step(step: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def _svg(parts: Sequence[Markup], width: int, height: int) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" xmlns="http://www.w3.org/2000/svg">')
    return head.format(width, height) + Markup("").join(parts) + Markup("</svg>")
