"""The data report of a run: the last counts for it, and what it says of going on."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.errors import PipelineError
from pipelines.preprocess import report_page
from pipelines.preprocess.accounts import Accounts
from pipelines.preprocess.bots import bots
from pipelines.preprocess.facts import BOTS, DEGREES, BadFile, DayFacts, Facts
from pipelines.preprocess.report import Report, build, earlier_of
from pipelines.runs import Attempt, Run, last_published

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.preprocess.config import PreprocessConfig

log = logging.getLogger(__name__)


def reported(
    books: Accounts,
    assigned: DataFrame,
    vocabulary: pa.Table,
    as_of: date,
    config: PreprocessConfig,
    source_url: str,
    attempt: Attempt,
    catalogue_files: int,
) -> Report:
    """Write `report.json` and `report.html`, and keep to what their limits say.

    Popularity and event mix are compared with those of the last run before this one that was
    published from the same storage.

    Args:
        books: closed accounts.
        assigned: frame of `splits.assign_splits`.
        vocabulary: of the run.
        as_of: its last day.
        config: limits and window.
        source_url: of the raw layout.
        attempt: where the report goes.
        catalogue_files: how many the input has.

    Raises:
        PipelineError: a limit's level `stop` is crossed.
    """
    degrees = (
        assigned.where("is_newest")
        .groupBy(F.col("interactions").cast("long").alias("interactions"))
        .agg(F.count("*").alias("users"))
    )
    left_out = bots(assigned.withColumn("event_time", F.timestamp_seconds("seconds")))
    kept = books.events
    facts = Facts(
        run_id=attempt.run.run_id,
        as_of=as_of,
        source=source_url,
        first_day=config.first_day(as_of),
        days=[
            DayFacts(day=day.day, **day.counts.model_dump(exclude={"bad_files"}))
            for day in books.days
        ],
        bad_files=[
            BadFile(name=name, rule=rule, detail=detail)
            for name, (rule, detail) in books.all_bad_files.items()
        ],
        rows_read=books.read,
        quarantined=books.quarantined,
        dropped=books.dropped,
        interactions=sum(kept["rows"].to_pylist()),
        first_event=books.first_event,
        last_event=books.last_event,
        events=kept,
        vocabulary=vocabulary,
        catalogue_files=catalogue_files,
        degrees=degrees.toArrow().cast(DEGREES).sort_by("interactions"),
        bots=left_out.toArrow().cast(BOTS).sort_by("user_id")
        if "bot" in books.dropped
        else BOTS.empty_table(),
        maximum_quarantined_share=config.maximum_quarantined_share,
    )
    published = last_published(attempt.run.storage, as_of)
    earlier = earlier_of(Run.open(attempt.run.storage, published)) if published else None
    report = build(facts, config.limits, earlier)
    attempt.write("report.json", report.to_json())
    attempt.write("report.html", report_page.render(report))
    for verdict in report.verdicts:
        if verdict.level != "ok":
            log.warning("Data report, %s: %s", verdict.name, verdict.sentence)
    if (sentence := report.stopped()) is not None:
        raise PipelineError(
            f"{sentence} The report is {attempt.run.storage.url}/{attempt.folder}/report.html."
        )
    return report
