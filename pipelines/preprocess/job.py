"""The preprocess job: raw listing in, vocabulary, histories, quarantine and a data report out.

Every day's files are judged once and kept (`compact`); the rows that go on are shuffled once, by
user, and all that follows works on the one cached frame, in place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.errors import PipelineError
from pipelines.preprocess.accounts import Accounts
from pipelines.preprocess.bots import mark_bots
from pipelines.preprocess.compact import Day, compacted
from pipelines.preprocess.compact_rows import AHEAD, QUARANTINE, ROWS, Kind, Part
from pipelines.preprocess.features import read_features, write_features
from pipelines.preprocess.histories import histories, write_histories
from pipelines.preprocess.parts import read_parts
from pipelines.preprocess.quality import after, check_drop_rules
from pipelines.preprocess.reporting import reported
from pipelines.preprocess.returns import settle
from pipelines.preprocess.rules import FILE_RULES, QUARANTINE_RULES
from pipelines.preprocess.session import spark_failures
from pipelines.preprocess.sink import to_parquet, write_parts
from pipelines.preprocess.source import read_raw
from pipelines.preprocess.splits import assign_splits, below_minimum
from pipelines.preprocess.tables import INTERACTIONS, ITEMS
from pipelines.preprocess.vocabulary import to_table, vocabulary
from pipelines.progress import bar
from pipelines.storage import open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.preprocess.config import PreprocessConfig
    from pipelines.runs import Attempt
    from pipelines.storage import Blob

log = logging.getLogger(__name__)

# A partition of the one shuffle holds about this much of the input, whatever the machine: the
# number of partitions decides how histories fall into files, and a rerun must find them equal.
_PARTITION_BYTES = 8 << 20
_PARTITIONS_AT_LEAST = 2

_IS_RETURN = "event_type = 'return'"

_STEPS = 5


def preprocess(
    spark: SparkSession,
    source_url: str,
    listing: Sequence[Blob],
    as_of: date,
    config: PreprocessConfig,
    seed: int,
    attempt: Attempt,
) -> dict[str, Any]:
    """Turn the raw blobs of a listing into labelled histories, written through the attempt.

    Outputs: ``vocabulary.parquet``, ``histories/{train,validation,test}/part-*.parquet``,
    ``quarantine/part-*.parquet``, ``report.json`` and ``report.html``, and ``features.parquet``
    where the catalogue has a column of them. The same listing,
    configuration and seed give equal outputs, whatever the order of rows and files, and whichever
    days are kept from earlier runs.

    Args:
        spark: the session.
        source_url: storage of the raw layout.
        listing: what `source.raw_listing` found there.
        as_of: last day, UTC, that the run may know.
        config: rules, limits and split.
        seed: of ties in time and of the validation draw.
        attempt: where outputs go.

    Returns:
        Metrics: counts of rows by what became of them (``rows_read`` is exactly ``rows_kept`` +
        ``rows_quarantined`` + ``rows_dropped``), of users, items and labels, and the unreadable
        files with their reasons.

    Raises:
        UsageError: a drop rule is no condition over the raw columns, or the catalogue has no such
            column of features.
        PipelineError: a feature that is none, no readable file, too large a quarantined share, a
            limit crossed, or nothing left.
    """
    storage = attempt.run.storage
    with spark_failures(), bar("preprocessing") as move:
        move(0, _STEPS, f"{len(listing):,} files")
        check_drop_rules(spark.createDataFrame([], INTERACTIONS.spark_schema), config.drop)
        features = None
        if config.feature_column is not None:
            features = read_features(open_storage(source_url), listing, config.feature_column)
        days = compacted(spark, source_url, listing, config.drop, storage)
        books = Accounts(days)
        move(1, _STEPS, f"{books.read:,} rows of {len(days):,} days read")
        events, returns = _events(spark, storage.url, days, as_of, config, books)
        catalogue, unread = _catalogue(spark, source_url, listing, books)
        _write_quarantine(spark, days, as_of, unread, attempt, books)
        books.require_readable(config, source_url, f"{storage.url}/{attempt.folder}/quarantine")
        partitions = max(
            _PARTITIONS_AT_LEAST, -(-sum(blob.size for blob in listing) // _PARTITION_BYTES)
        )
        settled = mark_bots(settle(events, returns, partitions, seed), config)
        assigned = _assign(settled, config, as_of, seed)
        try:
            metrics = books.settle(assigned)
            move(2, _STEPS, f"{metrics['rows_kept']:,} rows kept")
            items, table = _write_vocabulary(spark, assigned, catalogue, attempt)
            metrics["items"] = table.num_rows
            if features is not None:
                metrics |= write_features(features, table, attempt)
            metrics["items_without_interactions"] = table["count"].to_pylist().count(0)
            move(3, _STEPS, f"{table.num_rows:,} items")
            files = len(_catalogue_files(listing))
            report = reported(books, assigned, table, as_of, config, source_url, attempt, files)
            metrics["report"] = report.level
            move(4, _STEPS, "the data report is written")
            metrics |= write_histories(
                histories(assigned, items), attempt, metrics.pop("assigned_labels")
            )
            move(_STEPS, _STEPS, f"histories of {metrics['users']:,} users")
        finally:
            assigned.unpersist()
            if catalogue is not None:
                catalogue.unpersist()
    return metrics


def _events(
    spark: SparkSession,
    url: str,
    days: Sequence[Day],
    as_of: date,
    config: PreprocessConfig,
    books: Accounts,
) -> tuple[DataFrame, DataFrame | None]:
    """The valid rows of all days up to the end of `as_of` but the returns, and the returns, if any.

    Those before the window are counted out.
    """

    def of(kind: Kind) -> list[Part]:
        return [part for day in days for part in day.of(kind)]

    events, returns = (read_parts(spark, url, of(kind), ROWS) for kind in ("rows", "returns"))
    if of("ahead"):
        punctual = read_parts(spark, url, of("ahead"), AHEAD).where(~after(as_of))
        events = events.unionByName(punctual.where(f"NOT {_IS_RETURN}").select(*ROWS.names))
        returns = returns.unionByName(punctual.where(_IS_RETURN).select(*ROWS.names))
    start = config.first_day(as_of)
    if start is not None:
        begin = datetime.combine(start, time(), UTC)
        seen = [part.first for kind in ("rows", "returns") for part in of(kind)]
        if of("ahead") or any(first is not None and first < begin for first in seen):
            early = F.col("event_time") < F.lit(begin)
            for frame in (events, returns):
                books.drop("outside_window", frame.where(early).count())
            events, returns = events.where(~early), returns.where(~early)
    return events, returns if of("returns") or of("ahead") else None


def _write_quarantine(
    spark: SparkSession,
    days: Sequence[Day],
    as_of: date,
    unread: DataFrame,
    attempt: Attempt,
    books: Accounts,
) -> None:
    """The rows of all days that break a rule, or break one because of this run's date.

    Beside them what cannot be read of the catalogue, which no account of interactions counts.
    """
    url = attempt.run.storage.url
    broken = read_parts(
        spark, url, [part for day in days for part in day.of("quarantine")], QUARANTINE
    )
    too_late, rule = F.coalesce(after(as_of), F.lit(False)), "event_time_after_as_of"
    reasons = F.filter(
        F.array(*map(F.lit, QUARANTINE_RULES)),
        lambda each: F.array_contains("reasons", each) | (each == rule),
    )
    broken = broken.withColumn("reasons", F.when(too_late, reasons).otherwise(F.col("reasons")))
    ahead = [part for day in days for part in day.of("ahead")]
    if ahead:
        late = read_parts(spark, url, ahead, AHEAD).where(after(as_of)).drop("fingerprint")
        broken = broken.unionByName(
            late.withColumns(
                {"reasons": F.array(F.lit(rule)), "detail": F.lit(None).cast("string")}
            )
        )
    # They are few enough to be read twice: to be counted and to be written.
    first = broken.groupBy(F.element_at("reasons", 1).alias("rule")).count().collect()
    books.quarantine({row["rule"]: row["count"] for row in first})
    broken = broken.unionByName(unread, allowMissingColumns=True)
    write_parts(broken, attempt, "quarantine", QUARANTINE)


def _assign(settled: DataFrame, config: PreprocessConfig, as_of: date, seed: int) -> DataFrame:
    if config.minimum_user_interactions > 1 or config.minimum_item_interactions > 1:
        settled = below_minimum(settled.persist(StorageLevel.MEMORY_AND_DISK), config)
    return assign_splits(settled, config, as_of, seed).persist(StorageLevel.MEMORY_AND_DISK)


def _catalogue_files(listing: Sequence[Blob]) -> list[Blob]:
    return [blob for blob in listing if blob.name.startswith(f"{ITEMS.folder}/")]


def _catalogue(
    spark: SparkSession, url: str, listing: Sequence[Blob], books: Accounts
) -> tuple[DataFrame | None, DataFrame]:
    """The rows of the catalogue, if there is one, and those for quarantine, entered in the books.

    A row is quarantined, too, when only its `is_live` cannot be read: the rest of it counts.
    """
    rows = read_raw(spark, url, listing, ITEMS).persist(StorageLevel.MEMORY_AND_DISK)
    unread = rows.where("file_rule IS NOT NULL OR row_error IS NOT NULL").select(
        "item_id",
        "source_file",
        F.array(F.coalesce("file_rule", F.lit("row_unreadable"))).alias("reasons"),
        F.coalesce("file_error", "row_error").alias("detail"),
    )
    if not _catalogue_files(listing):
        return None, unread
    rule = F.element_at("reasons", 1).alias("rule")
    counts = (F.count("*").alias("rows"), F.min("detail").alias("detail"))
    found = unread.groupBy("source_file", rule).agg(*counts).collect()
    files = [each for each in found if each["rule"] in FILE_RULES]
    books.catalogue(
        {each["source_file"]: (each["rule"], each["detail"]) for each in files},
        {each["source_file"]: each["rows"] for each in found if each not in files},
    )
    return rows, unread


def _write_vocabulary(
    spark: SparkSession, assigned: DataFrame, catalogue: DataFrame | None, attempt: Attempt
) -> tuple[DataFrame, pa.Table]:
    table = to_table(vocabulary(assigned, catalogue))
    trained = table.filter(pc.greater(table["count"], 0))
    if trained.num_rows == 0:
        raise PipelineError(
            "No interaction is left to train on: every one lies in the test days; choose a later "
            "as_of, fewer test_days, or the split leave_last_out."
        )
    attempt.write("vocabulary.parquet", to_parquet(table), rows=table.num_rows)
    # What training rows do not have stands in no history.
    return spark.createDataFrame(trained.select(["item_id", "item"])), table
