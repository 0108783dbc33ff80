"""The data report: what a night's input held, and whether it may go on to training.

The job counts and hands over `facts.Facts`; everything here is plain values and Arrow tables,
without Spark::

    facts = Facts(...)                                   # facts.py: counted by the job
    earlier = earlier_of(promoted)                       # the last promoted run, if there is one
    report = build(facts, config.limits, earlier)        # limits.py: ReportConfig
    attempt.write("report.json", report.to_json())
    attempt.write("report.html", report_page.render(report))
    if (sentence := report.stopped()) is not None:       # a limit's level `stop` is crossed
        raise PipelineError(sentence)

The report of a run that stops is worth most: write both files before raising.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import CorruptOutputError, NotFoundError, UsageError
from pipelines.preprocess import verdicts
from pipelines.preprocess.degrees import Degrees, describe
from pipelines.preprocess.drift import Shift, event_mix, popularity
from pipelines.preprocess.facts import BOTS, UNDATED, BadFile, DayFacts, Facts
from pipelines.preprocess.limits import Level, ReportConfig, Verdict, worst

if TYPE_CHECKING:
    from pipelines.runs import Run

log = logging.getLogger(__name__)

_TOP_ITEMS = 20
_GRAVITY: tuple[Level, ...] = ("stop", "warn", "ok")


@dataclass(frozen=True)
class Earlier:
    """The last promoted run, to compare with: its report and its `vocabulary.parquet`."""

    report: Report
    vocabulary: pa.Table


class Volume(BaseModel):
    """Interactions of one UTC day, by event type."""

    model_config = ConfigDict(frozen=True)

    day: date
    rows: dict[str, int]


class TopItem(BaseModel):
    """One of the items with most interactions, and its share of all of them."""

    model_config = ConfigDict(frozen=True)

    item_id: str
    title: str | None
    category: tuple[str, ...]
    is_live: bool
    count: int
    share: float


class Bot(BaseModel):
    """A user that was left out, with all events and those of the busiest UTC day."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    events: int
    most_in_a_day: int


class Report(BaseModel):
    """What `report.json` holds. Counts of rows are those of the manifest.

    Attributes:
        earlier_run: id of the last promoted run, None where there is none to compare with.
        verdicts: one a limit, the gravest first.
        volumes: by day of event.
        event_types: interactions by event type.
        distinct: number of different values by column.
        valid_rows: rows of all days that no rule of a single row took away; `nulls` are of these.
        top_items: counted, as the vocabulary, over training rows.
        item_degrees: likewise; None without any interaction.
        user_degrees: over all interactions.

    The other attributes are those of `Facts`.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    run_id: str
    as_of: date
    source: str
    first_day: date | None
    earlier_run: str | None
    verdicts: tuple[Verdict, ...]
    rows_read: int
    interactions: int
    quarantined: dict[str, int]
    dropped: dict[str, int]
    first_event: str | None
    last_event: str | None
    days: tuple[DayFacts, ...]
    volumes: tuple[Volume, ...]
    event_types: dict[str, int]
    distinct: dict[str, int]
    valid_rows: int
    nulls: dict[str, int]
    items_without_interactions: int
    items_without_category: int
    top_items: tuple[TopItem, ...]
    item_degrees: Degrees | None
    user_degrees: Degrees | None
    popularity: Shift | None
    event_mix: Shift | None
    bad_files: tuple[BadFile, ...]
    bots: tuple[Bot, ...]

    @property
    def level(self) -> Level:
        """The gravest of the verdicts."""
        return worst(self.verdicts)

    def stopped(self) -> str | None:
        """Why the run must end before training, in one sentence; None when it may go on."""
        reasons = [each.sentence.rstrip(".") for each in self.verdicts if each.level == "stop"]
        if not reasons:
            return None
        return f"Run {self.run_id} stops before training: {'; '.join(reasons)}."

    def to_json(self) -> bytes:
        """`report.json`."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """The report that `to_json` wrote.

        Raises:
            CorruptOutputError: it is of another version or damaged.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptOutputError(
                "A report.json cannot be read: it is of another version of hyperrec or damaged; "
                "give the preprocess stage of a new run."
            ) from error


def earlier_of(run: Run) -> Earlier | None:
    """What a run is compared with; None, and a line in the log, where that run has no report.

    Args:
        run: the last promoted one.

    Raises:
        CorruptOutputError: its outputs are damaged.
    """
    try:
        data = run.read("preprocess", "report.json")
        table = run.read("preprocess", "vocabulary.parquet")
    except (UsageError, NotFoundError) as error:
        log.warning("There is no drift in the report: %s", error)
        return None
    return Earlier(Report.from_json(data), pq.read_table(pa.BufferReader(table)))


def build(facts: Facts, limits: ReportConfig, earlier: Earlier | None = None) -> Report:
    """The report of a run's input. Pure: equal facts give an equal report.

    Args:
        facts: what the job counted; tables may have rows in any order.
        limits: levels of the verdicts.
        earlier: the last promoted run, None where there is none.
    """
    days = tuple(sorted(facts.days, key=lambda each: each.day))
    volumes = _volumes(facts.events)
    event_types = _sums(each.rows for each in volumes)
    vocabulary = facts.vocabulary
    counts = vocabulary["count"].to_numpy()
    uncategorised = _uncategorised(vocabulary)
    bought = counts[counts > 0]
    user_degrees = describe(facts.degrees["interactions"], facts.degrees["users"])
    shift = mix = None
    if earlier is not None:
        shift = popularity(earlier.vocabulary, vocabulary)
        mix = event_mix(earlier.report.event_types, event_types)
    earlier_run = None if earlier is None else earlier.report.run_id
    judged = [
        verdicts.quarantined(facts.rows_read, facts.quarantined, facts.maximum_quarantined_share),
        *verdicts.volumes(_daily(facts), limits),
        *verdicts.gaps(_daily(facts), facts.as_of, limits),
        verdicts.bad_files(
            [file.name for file in facts.bad_files],
            sum(day.files for day in days) + facts.catalogue_files,
            limits,
        ),
        verdicts.nulls(_null_shares(days), limits),
        verdicts.without_category(
            len(vocabulary),
            uncategorised,
            has_catalogue=facts.catalogue_files > 0,
            had_categories=earlier is not None
            and _uncategorised(earlier.vocabulary) < len(earlier.vocabulary),
            limits=limits,
        ),
        *verdicts.drift(shift, mix, earlier_run, limits),
    ]
    return Report(
        run_id=facts.run_id,
        as_of=facts.as_of,
        source=facts.source,
        first_day=facts.first_day,
        earlier_run=earlier_run,
        verdicts=tuple(sorted(judged, key=lambda each: _GRAVITY.index(each.level))),
        rows_read=facts.rows_read,
        interactions=facts.interactions,
        quarantined=dict(facts.quarantined),
        dropped=dict(facts.dropped),
        first_event=facts.first_event,
        last_event=facts.last_event,
        days=days,
        volumes=volumes,
        event_types=event_types,
        distinct={
            "user_id": user_degrees.n if user_degrees else 0,
            "item_id": len(bought),
            "event_type": len(event_types),
            **facts.distinct,
        },
        valid_rows=sum(day.valid for day in days),
        nulls=_sums(day.nulls for day in days),
        items_without_interactions=len(counts) - len(bought),
        items_without_category=uncategorised,
        top_items=_top_items(vocabulary),
        item_degrees=describe(*np.unique(bought, return_counts=True)),
        user_degrees=user_degrees,
        popularity=shift,
        event_mix=mix,
        bad_files=tuple(sorted(facts.bad_files, key=lambda file: file.name)),
        bots=tuple(
            Bot(**row)
            for row in facts.bots.sort_by([("events", "descending"), ("user_id", "ascending")])
            .select(BOTS.names)
            .to_pylist()
        ),
    )


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts added up by name, names in order."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _dated(days: Sequence[DayFacts]) -> dict[date, DayFacts]:
    return {date.fromisoformat(day.day): day for day in days if day.day != UNDATED}


def _daily(facts: Facts) -> dict[date, int]:
    """Rows by day of delivery; interactions by day of event where no file has a day."""
    dated = _dated(facts.days)
    if dated:
        return {day: each.read for day, each in dated.items()}
    return {each.day: sum(each.rows.values()) for each in _volumes(facts.events)}


def _null_shares(days: Sequence[DayFacts]) -> dict[date, dict[str, float]]:
    return {
        day: {column: nulls / each.valid for column, nulls in each.nulls.items()}
        for day, each in _dated(days).items()
        if each.valid
    }


def _volumes(events: pa.Table) -> tuple[Volume, ...]:
    by_day: dict[date, dict[str, int]] = {}
    ordered = events.sort_by([("day", "ascending"), ("event_type", "ascending")])
    for row in ordered.to_pylist():
        rows = by_day.setdefault(row["day"], {})
        rows[row["event_type"]] = rows.get(row["event_type"], 0) + row["rows"]
    return tuple(Volume(day=day, rows=rows) for day, rows in by_day.items())


def _uncategorised(vocabulary: pa.Table) -> int:
    levels = pc.fill_null(pc.list_value_length(vocabulary["category"]), 0)
    return int(pc.sum(pc.equal(levels, 0)).as_py() or 0)


def _top_items(vocabulary: pa.Table) -> tuple[TopItem, ...]:
    total = pc.sum(vocabulary["count"]).as_py() or 0
    order = [("count", "descending"), ("item_id", "ascending")]
    top = vocabulary.filter(pc.greater(vocabulary["count"], 0)).sort_by(order).slice(0, _TOP_ITEMS)
    return tuple(
        TopItem(
            item_id=row["item_id"],
            title=row["title"],
            category=tuple(row["category"] or ()),
            is_live=row["is_live"],
            count=row["count"],
            share=row["count"] / total,
        )
        for row in top.to_pylist()
    )
