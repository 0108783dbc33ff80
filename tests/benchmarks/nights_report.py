"""What came of some nights: tables, a picture, and both on the page of the flows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from statistics import mean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import TypeAdapter

from hyperrec_core.analysis.report import write_between
from pipelines.gates import METRICS

PAGE = Path(__file__).parents[2] / "pipelines" / "flows" / "README.md"
PICTURE = "nights.png"

_SCORERS = {
    "model": ("the night's model", "#1f77b4", "o-"),
    "active": ("the version active before", "#2ca02c", "s--"),
    "popularity": ("popularity", "#7f7f7f", "^:"),
}

Estimate = tuple[float, float, float]
"""A mean and the ends of its 95 % interval over users."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage by its manifest: when it began and how many seconds it worked."""

    name: str
    began: datetime
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Night:
    """One run of daily-retrain.

    Attributes:
        number: from 1.
        as_of: the last day it knows.
        run_id: the run that it made.
        start: the run whose points training started from; None for a cold start.
        outcome: how it ended, in words.
        published: whether its own version was active afterwards.
        active: the version that was.
        metrics: by scorer (`model`, `active`, `popularity`) and metric.
        scheduled: when it was to begin.
        began: when its process did.
        ended: its end.
        stages: those that were done, in order.
        said: why it was not published.
        alert: what people were told.
    """

    number: int
    as_of: date
    run_id: str
    start: str | None
    outcome: str
    published: bool
    active: str
    metrics: Mapping[str, Mapping[str, Estimate]]
    scheduled: datetime
    began: datetime
    ended: datetime
    stages: Sequence[Stage]
    said: str = ""
    alert: str = ""

    @property
    def whole(self) -> float:
        """Seconds from the scheduled time to the end."""
        return (self.ended - self.scheduled).total_seconds()

    @property
    def to_process(self) -> float:
        """Seconds until a worker has taken it and its process has imported what it needs."""
        return (self.began - self.scheduled).total_seconds()

    @property
    def to_first_stage(self) -> float:
        """Seconds from the scheduled time until the first stage begins to work."""
        return (self.stages[0].began - self.scheduled).total_seconds()

    @property
    def in_stages(self) -> float:
        """Seconds that the stages worked."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def overhead(self) -> float:
        """Seconds of all that is no stage."""
        return self.whole - self.in_stages


@dataclass(frozen=True)
class Report:
    """Some nights, and what is to be known of how they were done."""

    nights: Sequence[Night]
    facts: Sequence[str]

    def keep(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_bytes(TypeAdapter(Report).dump_json(self, indent=1))

    @classmethod
    def kept(cls, path: Path) -> Report:
        """What `keep` wrote."""
        return TypeAdapter(cls).validate_json(path.read_bytes())


def outcomes(nights: Sequence[Night]) -> str:
    """What each night made, as a table in markdown."""
    rows = []
    for night in nights:
        row = [
            f"{night.number}",
            f"{night.as_of}",
            f"`{night.run_id}`",
            f"`{night.start}`" if night.start else "cold",
            night.outcome if night.published else f"**{night.outcome}**",
            f"`{night.active}`",
        ]
        for metric in METRICS:
            for scorer in _SCORERS:
                found = night.metrics.get(scorer, {}).get(metric)
                row.append(_interval(found) if found else "")
        rows.append(row)
    heads = ["night", "as_of", "run", "trained from", "outcome", "active afterwards"]
    heads += [f"{title}, {scorer}" for title in METRICS.values() for scorer in _SCORERS]
    return _table(heads, rows)


def times(nights: Sequence[Night]) -> str:
    """Where each night's time went, in seconds, as a table in markdown."""
    rows = [[f"{night.number}", *_seconds(night)] for night in nights]
    mean_of = [f"{mean(column):.1f}" for column in zip(*map(_numbers, nights), strict=True)]
    heads = [
        "night", "scheduled to process", "scheduled to first stage", "between and after stages",
        "overhead", "stages", "scheduled to end",
    ]  # fmt: skip
    return _table(heads, [*rows, ["mean", *mean_of]])


def _numbers(night: Night) -> list[float]:
    between = night.overhead - night.to_first_stage
    return [
        night.to_process, night.to_first_stage, between, night.overhead, night.in_stages,
        night.whole,
    ]  # fmt: skip


def _seconds(night: Night) -> list[str]:
    return [f"{value:.1f}" for value in _numbers(night)]


def _interval(found: Estimate) -> str:
    return f"{found[0]:.4f} ({found[1]:.4f}-{found[2]:.4f})"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(nights: Sequence[Night], path: Path) -> None:
    """Write a PNG of the metrics over the nights; those that were not published are marked."""
    figure = Figure(figsize=(12.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    at = [night.number for night in nights]
    for number, (metric, title) in enumerate(METRICS.items(), start=1):
        axes = figure.add_subplot(1, len(METRICS), number)
        for place, (scorer, (label, colour, style)) in enumerate(_SCORERS.items()):
            seen = [(n.number, n.metrics[scorer][metric]) for n in nights if scorer in n.metrics]
            axes.errorbar(
                # Beside each other, so that no interval hides another.
                [where + 0.08 * (place - 1) for where, _ in seen],
                [found[0] for _, found in seen],
                yerr=[
                    [found[0] - found[1] for _, found in seen],
                    [found[2] - found[0] for _, found in seen],
                ],
                fmt=style, color=colour, label=label, capsize=3, markersize=5,
            )  # fmt: skip
        for night in nights:
            if not night.published:
                axes.axvspan(night.number - 0.4, night.number + 0.4, color="#d62728", alpha=0.15)
                axes.annotate(
                    night.outcome, (night.number, 0.02), xycoords=("data", "axes fraction"),
                    ha="center", color="#d62728",
                )  # fmt: skip
        axes.set_xticks(at, [f"{night.number}\n{night.as_of:%d %b}" for night in nights])
        axes.set(title=f"{title} among 100 negatives, 95 % over users", xlabel="night, last day")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.08), fontsize=9)
    figure.savefig(path, dpi=110)


def publish(report: Report, page: Path = PAGE) -> None:
    """Put tables and picture on the page, in place of those there."""
    draw(report.nights, page.parent / PICTURE)
    told = "\n".join(f"- {fact}" for fact in report.facts)
    body = (
        f"{told}\n\n![Metrics over the nights]({PICTURE})\n\n{outcomes(report.nights)}\n\n"
        f"Seconds:\n\n{times(report.nights)}\n"
    )
    write_between(page, "nights", body)
