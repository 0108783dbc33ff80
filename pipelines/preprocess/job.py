"""The preprocess job: raw listing in, vocabulary, histories and quarantine out.

Two passes over the raw files: the first judges every row, writes the quarantine and stops the run
when too much of it is bad; the second shuffles the valid rows once, by user. Everything after
that works on the one cached frame, in place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import Observation
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.errors import PipelineError
from pipelines.preprocess.histories import HISTORIES, SPLITS, Split, histories
from pipelines.preprocess.quality import (
    RowCounts,
    check_drop_rules,
    judge,
    observe_rows,
    quarantined,
    read_counts,
    valid,
)
from pipelines.preprocess.returns import settle
from pipelines.preprocess.session import spark_failures
from pipelines.preprocess.sink import to_parquet, write_parts
from pipelines.preprocess.source import read_raw
from pipelines.preprocess.splits import assign_splits, below_minimum
from pipelines.preprocess.tables import ARROW_TYPES, INTERACTIONS, ITEMS
from pipelines.preprocess.vocabulary import to_table, vocabulary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.preprocess.config import PreprocessConfig
    from pipelines.runs import Attempt
    from pipelines.storage import Blob

log = logging.getLogger(__name__)

QUARANTINE = pa.schema(
    [
        *((name, ARROW_TYPES[kind]) for name, kind in INTERACTIONS.columns.items()),
        ("source_file", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
    ]
)

# A partition of the one shuffle holds about this much of the input, whatever the machine: the
# number of partitions decides how histories fall into files, and a rerun must find them equal.
_PARTITION_BYTES = 8 << 20
_PARTITIONS_AT_LEAST = 2


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

    Outputs: ``vocabulary.parquet``, ``histories/{train,validation,test}/part-*.parquet`` and
    ``quarantine/part-*.parquet``. The same listing, configuration and seed give equal outputs,
    whatever the order of rows and files.

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
        UsageError: a drop rule is no condition over the raw columns.
        PipelineError: no readable file, too large a quarantined share, or nothing left.
    """
    with spark_failures():
        raw = read_raw(spark, source_url, listing, INTERACTIONS)
        check_drop_rules(raw, config.drop)
        judged = judge(raw, as_of, config.drop)
        rows = _write_quarantine(judged, config, attempt)
        _require_readable(rows, config, source_url, attempt)
        partitions = max(
            _PARTITIONS_AT_LEAST, -(-sum(blob.size for blob in listing) // _PARTITION_BYTES)
        )
        assigned = _assign(valid(judged), partitions, config, as_of, seed)
        try:
            metrics = _row_metrics(rows, assigned)
            catalogue = _catalogue(spark, source_url, listing)
            items, table = _write_vocabulary(spark, assigned, catalogue, attempt)
            metrics["items"] = table.num_rows
            metrics["items_without_interactions"] = table["count"].to_pylist().count(0)
            metrics |= _write_histories(assigned, items, attempt, metrics.pop("assigned_labels"))
        finally:
            assigned.unpersist()
    return metrics


def _write_quarantine(judged: DataFrame, config: PreprocessConfig, attempt: Attempt) -> RowCounts:
    observed, observation = observe_rows(judged, config.drop)
    write_parts(quarantined(observed), attempt, "quarantine", QUARANTINE)
    rows = read_counts(observation)
    log.info("Read %d rows; quarantined: %s.", rows.read, rows.quarantined or "none")
    for name, reason in rows.bad_files.items():
        log.warning("Quarantined the file %s: %s.", name, reason)
    return rows


def _require_readable(
    rows: RowCounts, config: PreprocessConfig, source_url: str, attempt: Attempt
) -> None:
    if rows.read == 0 and rows.bad_files:
        name, reason = next(iter(rows.bad_files.items()))
        raise PipelineError(
            f"None of the files of interactions in {source_url} can be read, "
            f"{len(rows.bad_files)} in all; the first, {name}: {reason}."
        )
    if rows.read == 0:
        raise PipelineError(
            f"The files of interactions in {source_url} hold no rows: deliver them again."
        )
    bad = sum(rows.quarantined.values())
    if bad / rows.read > config.maximum_quarantined_share:
        worst = sorted(rows.quarantined.items(), key=lambda reason: (-reason[1], reason[0]))[:3]
        raise PipelineError(
            f"{bad / rows.read:.1%} of {rows.read} rows are quarantined and the limit is "
            f"{config.maximum_quarantined_share:.1%} "
            f"({', '.join(f'{name} {count}' for name, count in worst)}): see "
            f"{attempt.run.storage.url}/{attempt.folder}/quarantine, then mend the input, add a "
            "drop rule or raise maximum_quarantined_share."
        )


def _assign(
    events: DataFrame, partitions: int, config: PreprocessConfig, as_of: date, seed: int
) -> DataFrame:
    settled = settle(events.repartition(partitions, "user_id"))
    if config.minimum_user_interactions > 1 or config.minimum_item_interactions > 1:
        settled = below_minimum(settled.persist(StorageLevel.MEMORY_AND_DISK), config)
    return assign_splits(settled, config, as_of, seed).persist(StorageLevel.MEMORY_AND_DISK)


def _row_metrics(rows: RowCounts, assigned: DataFrame) -> dict[str, Any]:
    groups = (
        assigned.groupBy("dropped_by", "label")
        .agg(
            F.count("*").alias("rows"),
            F.min("seconds").alias("first"),
            F.max("seconds").alias("last"),
            F.sum(F.col("is_newest").cast("long")).alias("users"),
            F.sum((F.col("is_newest") & F.col("train_only")).cast("long")).alias("train_only"),
        )
        .collect()
    )
    kept = [group for group in groups if group.dropped_by is None]
    dropped = dict(rows.dropped)
    for group in groups:
        if group.dropped_by is not None:
            dropped[group.dropped_by] = dropped.get(group.dropped_by, 0) + group.rows
    metrics = {
        "rows_read": rows.read,
        "rows_kept": sum(group.rows for group in kept),
        "rows_quarantined": sum(rows.quarantined.values()),
        "rows_dropped": sum(dropped.values()),
        "quarantined": rows.quarantined,
        "dropped": dict(sorted(dropped.items())),
        "files_quarantined": rows.bad_files,
    }
    counted = metrics["rows_kept"] + metrics["rows_quarantined"] + metrics["rows_dropped"]
    if metrics["rows_read"] != counted:
        raise PipelineError(
            f"{metrics['rows_read']} rows were read but {counted} are accounted for: the input "
            "changed during the run, or this is a fault of hyperrec; give the same command again."
        )
    if not kept:
        raise PipelineError(
            f"Nothing is left of {rows.read} rows: {metrics['rows_quarantined']} are quarantined "
            f"({rows.quarantined}) and {metrics['rows_dropped']} dropped ({dropped}); look at the "
            "rules and limits of the profile."
        )
    return metrics | {
        "interactions": metrics["rows_kept"],
        "users": sum(group.users for group in kept),
        "users_train_only": sum(group.train_only for group in kept),
        "first_event": _iso(min(group["first"] for group in kept)),
        "last_event": _iso(max(group["last"] for group in kept)),
        "assigned_labels": {
            split: sum(group.rows for group in kept if group.label == split) for split in SPLITS
        },
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _catalogue(spark: SparkSession, url: str, listing: Sequence[Blob]) -> DataFrame | None:
    if not any(blob.name.startswith(f"{ITEMS.folder}/") for blob in listing):
        return None
    return read_raw(spark, url, listing, ITEMS)


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


def _write_histories(
    assigned: DataFrame, items: DataFrame, attempt: Attempt, labels: dict[str, int]
) -> dict[str, Any]:
    written: dict[str, int] = {}
    unseen: dict[str, int] = {}
    lonely: dict[str, int] = {}
    for split in SPLITS:
        observation = Observation(split)
        rows = histories(assigned, items, split).observe(
            observation,
            F.sum("unseen_labels").alias("unseen"),
            F.sum("lonely_labels").alias("lonely"),
        )
        rows = rows.where(_belongs(split)).sortWithinPartitions("user_id")
        write_parts(rows.select(*HISTORIES.names), attempt, f"histories/{split}", HISTORIES)
        found = observation.get
        unseen[split], lonely[split] = int(found["unseen"] or 0), int(found["lonely"] or 0)
        written[split] = labels[split] - unseen[split] - lonely[split]
        log.info("Wrote the %s histories: %d labels.", split, written[split])
    return {
        "labels": written,
        "labels_unseen_item": unseen,
        "labels_without_history": lonely,
    }


def _belongs(split: Split) -> Any:
    """Every user is trained on, as context at least; only users with labels are evaluated."""
    return F.size("items") > 0 if split == "train" else F.exists("is_label", lambda label: label)
