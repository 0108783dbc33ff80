"""Row rules: what is dropped by configuration, what goes to quarantine, and why.

`judge` marks rows and removes none: `dropped_by` holds the first drop rule of the configuration
that is true, `reasons` every quarantine rule the row breaks. A row with `dropped_by` has no
reasons, so that a fee without customer counts as a fee and not as dirt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, Observation
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F
from pyspark.sql.types import BooleanType

from pipelines.errors import UsageError
from pipelines.preprocess.rules import EVENT_TYPES, QUARANTINE_RULES
from pipelines.preprocess.tables import INTERACTIONS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LONGEST_ID = 255

_FILE_UNREADABLE = "file_unreadable"


@dataclass(frozen=True)
class RowCounts:
    """What one pass over the raw rows found; `quarantined` counts a row under its first reason."""

    read: int
    quarantined: dict[str, int]
    dropped: dict[str, int]
    bad_files: dict[str, str]


def judge(raw: DataFrame, as_of: date | None, drop: Mapping[str, str]) -> DataFrame:
    """Mark every raw row with `dropped_by` (string, null) and `reasons` (array of strings).

    Args:
        raw: columns of `INTERACTIONS.spark_schema`.
        as_of: last day, UTC, of which events may be.
        drop: the configuration's drop rules; see `check_drop_rules`.
    """
    dropped_by = F.coalesce(
        F.lit(None).cast("string"), *(F.when(F.expr(e), F.lit(name)) for name, e in drop.items())
    )
    conditions = _conditions(as_of)
    reasons = F.array_compact(
        F.array(*(F.when(conditions[rule], F.lit(rule)) for rule in QUARANTINE_RULES))
    )
    unreadable = F.when(F.col("file_error").isNotNull(), F.array(F.lit(_FILE_UNREADABLE))).when(
        F.col("row_error").isNotNull(), F.array(F.lit("row_unreadable"))
    )
    return raw.withColumn("dropped_by", F.when(unreadable.isNull(), dropped_by)).withColumn(
        "reasons",
        F.coalesce(
            unreadable,
            F.when(F.col("dropped_by").isNotNull(), F.array().cast("array<string>")),
            reasons,
        ),
    )


def after(as_of: date) -> Column:
    """Whether an event is later than the end of a day; null where it has no time."""
    return F.col("event_time") >= F.lit((as_of + timedelta(days=1)).isoformat()).cast("timestamp")


def _conditions(as_of: date | None) -> dict[str, Column]:
    time, quantity, kind = F.col("event_time"), F.col("quantity"), F.col("event_type")
    return {
        "row_unreadable": F.lit(False),
        "user_id_missing": _blank("user_id"),
        "item_id_missing": _blank("item_id"),
        "user_id_too_long": F.length("user_id") > _LONGEST_ID,
        "item_id_too_long": F.length("item_id") > _LONGEST_ID,
        "event_type_unknown": ~kind.isin(*EVENT_TYPES),
        "event_time_missing": time.isNull(),
        "event_time_before_2000": time < F.lit("2000-01-01").cast("timestamp"),
        "event_time_after_as_of": F.lit(False) if as_of is None else after(as_of),
        # A return's quantity may be written with either sign.
        "quantity_not_positive": (kind == "purchase") & (quantity <= 0),
        "price_negative": F.col("price") < 0,
    }


def is_item_id(name: str) -> Column:
    """Whether a column holds what the rules let pass as an item id; never null."""
    return ~_blank(name) & (F.length(name) <= _LONGEST_ID)


def _blank(name: str) -> Column:
    return F.col(name).isNull() | (F.trim(name) == "")


def quarantined(judged: DataFrame) -> DataFrame:
    """The rows for `quarantine/`: the raw columns, `source_file`, `reasons` and `detail`."""
    return judged.where(F.size("reasons") > 0).select(
        *INTERACTIONS.columns,
        "source_file",
        "reasons",
        F.coalesce("file_error", "row_error").alias("detail"),
    )


def valid(judged: DataFrame) -> DataFrame:
    """The rows that go on: neither dropped nor quarantined; raw columns only."""
    return judged.where(F.col("dropped_by").isNull() & (F.size("reasons") == 0)).select(
        *INTERACTIONS.columns
    )


def observe_rows(judged: DataFrame, drop: Mapping[str, str]) -> tuple[DataFrame, Observation]:
    """Count rows as they pass; `read_counts` reads the observation once an action has run.

    Counts are exact where the frame runs into its action without a shuffle in between.
    """
    first = F.element_at("reasons", F.when(F.size("reasons") > 0, 1))
    observation = Observation("rows")
    observed = judged.observe(
        observation,
        F.sum(F.col("file_error").isNull().cast("long")).alias("read"),
        *(_count(first == rule, f"quarantined.{rule}") for rule in QUARANTINE_RULES),
        *(_count(F.col("dropped_by") == rule, f"dropped.{rule}") for rule in drop),
        F.collect_set(
            F.when(F.col("file_error").isNotNull(), F.struct("source_file", "file_error"))
        ).alias("bad_files"),
    )
    return observed, observation


def _count(condition: Column, name: str) -> Column:
    return F.sum(F.coalesce(condition, F.lit(False)).cast("long")).alias(name)


def read_counts(observation: Observation) -> RowCounts:
    """The counts of a frame of `observe_rows` after its action."""
    found: dict[str, Any] = observation.get

    def group(prefix: str) -> dict[str, int]:
        named = {
            k.removeprefix(prefix): int(v or 0) for k, v in found.items() if k.startswith(prefix)
        }
        return {name: count for name, count in named.items() if count}

    bad_files = sorted((row[0], row[1]) for row in found["bad_files"] or [])
    return RowCounts(
        read=int(found["read"] or 0),
        quarantined=group("quarantined."),
        dropped=group("dropped."),
        bad_files=dict(bad_files),
    )


def check_drop_rules(spark: SparkSession, drop: Mapping[str, str]) -> None:
    """See that every drop rule is a condition over the raw columns, before any row is read.

    Raises:
        UsageError: an expression that Spark does not understand, or that is no condition.
    """
    columns = ", ".join(INTERACTIONS.columns)
    raw = spark.createDataFrame([], INTERACTIONS.spark_schema)
    for name, expression in drop.items():
        try:
            kind = raw.select(F.expr(expression)).schema[0].dataType
            if isinstance(kind, BooleanType):
                _ = raw.where(F.expr(expression)).schema  # sees aggregates and the like
        except (AnalysisException, ParseException) as error:
            reason = next(line.strip() for line in str(error).splitlines() if line.strip())
            raise UsageError(
                f"The drop rule {name} is not a Spark SQL condition over the columns {columns}: "
                f"{expression!r}: {reason}"
            ) from error
        if not isinstance(kind, BooleanType):
            raise UsageError(
                f"The drop rule {name} gives {kind.simpleString()} and not true or false: "
                f"{expression!r}."
            )
