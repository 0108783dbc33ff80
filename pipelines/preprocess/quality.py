"""Row rules: what is dropped by configuration, what goes to quarantine, and why.

`judge` marks rows and removes none: `dropped_by` holds the first drop rule of the configuration
that is true, `reasons` every quarantine rule the row breaks. A row with `dropped_by` has no
reasons, so that a fee without customer counts as a fee and not as dirt.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F
from pyspark.sql.types import BooleanType

from pipelines.errors import UsageError
from pipelines.preprocess.rules import EVENT_TYPES, QUARANTINE_RULES
from pipelines.preprocess.tables import INTERACTIONS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_LONGEST_ID = 255

# All that Unicode counts as white space: an id of these alone is no id.
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))

_CONTROL_CHARACTER = r"\p{Cc}"


def judge(raw: DataFrame, as_of: date | None, drop: Mapping[str, str]) -> DataFrame:
    """Mark every raw row with `dropped_by` (string, null) and `reasons` (array of strings).

    Args:
        raw: columns of `INTERACTIONS.spark_schema`.
        as_of: last day, UTC, of which events may be; None leaves the rule
            ``event_time_after_as_of`` to the caller, see `after`.
        drop: the configuration's drop rules; see `check_drop_rules`.
    """
    dropped_by = F.coalesce(
        F.lit(None).cast("string"), *(F.when(F.expr(e), F.lit(name)) for name, e in drop.items())
    )
    no_row = F.coalesce("file_rule", F.when(F.col("row_error").isNotNull(), "row_unreadable"))
    broken = [F.when(condition, rule) for rule, condition in _conditions(as_of).items()]
    # The first name decides whether there are any, and only then all are gathered: gathering no
    # names would cost every good row more than the rules themselves.
    is_broken = F.col("dropped_by").isNull() & F.coalesce(*broken).isNotNull()
    names = F.coalesce("no_row", F.when(is_broken, F.concat_ws(",", *broken)))
    none = F.array().cast("array<string>")
    return (
        raw.withColumn("no_row", no_row)
        .withColumn("dropped_by", F.when(F.col("no_row").isNull(), dropped_by))
        .withColumn("names", names)
        .withColumn(
            "reasons", F.when(F.col("names").isNull(), none).otherwise(F.split("names", ","))
        )
        .drop("no_row", "names")
    )


def after(as_of: date) -> Column:
    """Whether an event is of a later day, UTC, than `as_of`; null where its time is missing."""
    end = as_of + timedelta(days=1)
    return F.col("event_time") >= F.lit(f"{end.isoformat()} 00:00:00 UTC").cast("timestamp")


def _conditions(as_of: date | None) -> dict[str, Column]:
    """What a row that can be read must not be, in the order of `QUARANTINE_RULES`."""
    time, quantity, kind, price = map(F.col, ("event_time", "quantity", "event_type", "price"))
    start = F.lit("2000-01-01 00:00:00 UTC").cast("timestamp")
    conditions = {
        "user_id_missing": _blank("user_id"),
        "item_id_missing": _blank("item_id"),
        "user_id_too_long": F.length("user_id") > _LONGEST_ID,
        "item_id_too_long": F.length("item_id") > _LONGEST_ID,
        "user_id_unprintable": _unprintable("user_id"),
        "item_id_unprintable": _unprintable("item_id"),
        "event_type_unknown": ~kind.isin(*EVENT_TYPES),
        "event_time_missing": time.isNull(),
        "event_time_before_2000": time < start,
        "event_time_after_as_of": F.lit(False) if as_of is None else after(as_of),
        # A return's quantity may be written with either sign.
        "quantity_not_positive": (kind == "purchase") & (quantity <= 0) & _finite("quantity"),
        "quantity_not_finite": ~_finite("quantity"),
        "price_negative": (price < 0) & _finite("price"),
        "price_not_finite": ~_finite("price"),
        "rating_not_finite": ~_finite("rating"),
    }
    return {rule: conditions[rule] for rule in QUARANTINE_RULES if rule in conditions}


def is_item_id(name: str) -> Column:
    """Whether a column holds what the rules let pass as an item id; never null."""
    return ~_blank(name) & (F.length(name) <= _LONGEST_ID) & ~_unprintable(name)


def _blank(name: str) -> Column:
    return F.col(name).isNull() | (_starts_oddly(name) & (F.btrim(name, F.lit(_BLANKS)) == ""))


def _starts_oddly(name: str) -> Column:
    """Whether the first character is none of ASCII's visible ones, as almost every id's is.

    It spares those the look at their characters, which costs ten times as much.
    """
    return (F.col(name) < "!") | (F.col(name) >= "\x7f")


def _unprintable(name: str) -> Column:
    return F.col(name).rlike(_CONTROL_CHARACTER) & ~_blank(name)


def _finite(name: str) -> Column:
    """Null for null. To Spark a NaN is larger than infinity."""
    return F.abs(F.col(name)) < float("inf")


def check_drop_rules(raw: DataFrame, drop: Mapping[str, str]) -> None:
    """See that every drop rule is a condition over the raw columns, before any row is read.

    Raises:
        UsageError: an expression that Spark does not understand, or that is no condition.
    """
    columns = ", ".join(INTERACTIONS.columns)
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
