"""From judged rows to a day's parts and counts, on the workers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict
from pyspark import TaskContext
from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812  Spark's own documentation calls it F

from pipelines.preprocess.quality import judge
from pipelines.preprocess.sink import to_parquet
from pipelines.preprocess.source import day_of
from pipelines.preprocess.tables import ARROW_TYPES, INTERACTIONS
from pipelines.storage import open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Kind = Literal["rows", "returns", "ahead", "quarantine"]

_RAW = [pa.field(name, ARROW_TYPES[kind]) for name, kind in INTERACTIONS.columns.items()]
ROWS = pa.schema(
    [
        *(pa.field(name, ARROW_TYPES[INTERACTIONS.columns[name]]) for name in
          ("user_id", "item_id", "event_type", "event_time", "quantity")),
        ("fingerprint", pa.int64()),
    ]
)  # fmt: skip
AHEAD = pa.schema([*_RAW, ("source_file", pa.string()), ("fingerprint", pa.int64())])
QUARANTINE = pa.schema(
    [
        *_RAW,
        ("source_file", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
    ]
)
SCHEMAS: dict[Kind, pa.Schema] = {
    "rows": ROWS,
    "returns": ROWS,
    "ahead": AHEAD,
    "quarantine": QUARANTINE,
}

_OPTIONAL = ("quantity", "price", "rating", "market")

# A day of more rows is written in several parts, so that a task's memory stays bounded.
_PART_ROWS = 1 << 20


class Part(BaseModel):
    """Some rows of a day, as one Parquet file."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    name: str
    bytes: int
    sha256: str
    rows: int
    first: datetime | None = None
    """The earliest event, of parts that have times."""


class Counts(BaseModel):
    """What became of a day's rows; a row for quarantine counts under its first reason."""

    model_config = ConfigDict(frozen=True)

    files: int = 0
    read: int = 0
    valid: int = 0
    quarantined: dict[str, int] = {}
    dropped: dict[str, int] = {}
    event_types: dict[str, int] = {}
    nulls: dict[str, int] = {}
    bad_files: dict[str, tuple[str, str]] = {}
    """Name of the file, its rule and what is wrong with it."""

    def plus(self, other: Counts) -> Counts:
        """The counts of both."""

        def add(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
            return dict(sorted((Counter(a) + Counter(b)).items()))

        return Counts(
            files=self.files + other.files,
            read=self.read + other.read,
            valid=self.valid + other.valid,
            quarantined=add(self.quarantined, other.quarantined),
            dropped=add(self.dropped, other.dropped),
            event_types=add(self.event_types, other.event_types),
            nulls=add(self.nulls, other.nulls),
            bad_files=dict(sorted((self.bad_files | other.bad_files).items())),
        )


def judged_rows(raw: DataFrame, drop: Mapping[str, str]) -> DataFrame:
    """Raw rows judged by everything but a run's date, with the columns that `write_days` takes."""
    return judge(raw, None, drop).select(
        *INTERACTIONS.columns,
        "source_file",
        "file_rule",
        F.coalesce("file_error", "row_error").alias("detail"),
        "dropped_by",
        "reasons",
        fingerprint().alias("fingerprint"),
    )


def fingerprint() -> Column:
    """Of the columns that two deliveries of one event have in common, but for its id columns."""
    # The hash passes over nulls, so (null, 1) and (1, null) differ only by the flags.
    return F.xxhash64(*_OPTIONAL, *(F.isnull(name) for name in _OPTIONAL))


def write_days(
    url: str, folders: Mapping[str, str], attempt: str
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A task for `mapInArrow` that writes judged rows as parts of their days.

    Args:
        url: storage of the parts.
        folders: of each day.
        attempt: name of this try, in the parts' names.

    Returns:
        For each part, and for each batch and day without one, a row of `day`, `part` (JSON or
        null) and `counts` (JSON; of the rows since the last).
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None  # noqa: S101  runs in a task
        task = f"{attempt}-{context.partitionId():05d}-{context.attemptNumber()}"
        storage, numbers = open_storage(url), iter(range(1 << 30))
        waiting: dict[tuple[str, Kind], list[pa.Table]] = {}

        def flush(day: str, kind: Kind) -> pa.RecordBatch:
            table = pa.concat_tables(waiting.pop((day, kind)))
            name = f"{folders[day]}/{task}-{next(numbers):03d}-{kind}.parquet"
            data = to_parquet(table)
            storage.write(name, data)
            first = pc.min(table["event_time"]).as_py() if kind in {"rows", "returns"} else None
            part = Part(
                kind=kind,
                name=name,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                rows=table.num_rows,
                first=first,
            )
            return _answer(day, part, Counts())

        for batch in batches:
            for day, rows in _split_by_day(pa.Table.from_batches([batch])):
                yield _answer(day, None, _count(rows))
                for kind, table in _sort_out(day, rows):
                    tables = waiting.setdefault((day, kind), [])
                    tables.append(table)
                    if sum(len(each) for each in tables) >= _PART_ROWS:
                        yield flush(day, kind)
        for day, kind in list(waiting):
            yield flush(day, kind)

    return write


def _answer(day: str, part: Part | None, counts: Counts) -> pa.RecordBatch:
    text = None if part is None else part.model_dump_json()
    return pa.RecordBatch.from_pylist(
        [{"day": day, "part": text, "counts": counts.model_dump_json()}],
        schema=pa.schema([(name, pa.string()) for name in ("day", "part", "counts")]),
    )


def _split_by_day(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    names = rows["source_file"].combine_chunks().dictionary_encode()
    days = [day_of(name) or "unknown" for name in names.dictionary.to_pylist()]
    if len(set(days)) == 1:
        yield days[0], rows
        return
    for day in sorted(set(days)):
        own = pa.array([i for i, other in enumerate(days) if other == day], names.indices.type)
        yield day, rows.filter(pc.is_in(names.indices, own))


def _sort_out(day: str, rows: pa.Table) -> Iterator[tuple[Kind, pa.Table]]:
    broken = pc.greater(pc.list_value_length(rows["reasons"]), 0)
    goes_on = pc.and_kleene(pc.is_null(rows["dropped_by"]), pc.invert(broken))
    if day == "unknown":
        late = goes_on
    else:
        end = datetime.combine(
            date.fromisoformat(day) + timedelta(days=1), datetime.min.time(), UTC
        )
        late = pc.and_kleene(goes_on, pc.greater_equal(rows["event_time"], pa.scalar(end)))
    now, back = pc.and_not_kleene(goes_on, late), pc.equal(rows["event_type"], "return")
    chosen: dict[Kind, pa.ChunkedArray] = {
        "rows": pc.and_not_kleene(now, back),
        "returns": pc.and_kleene(now, back),
        "ahead": late,
        "quarantine": broken,
    }
    for kind, mask in chosen.items():
        if pc.any(mask).as_py():
            yield kind, rows.filter(mask).select(SCHEMAS[kind].names).cast(SCHEMAS[kind])


def _count(rows: pa.Table) -> Counts:
    files = rows.filter(pc.is_valid(rows["file_rule"]))
    read = rows.filter(pc.is_null(rows["file_rule"]))
    broken = pc.greater(pc.list_value_length(read["reasons"]), 0)
    first = pc.list_element(read.filter(broken)["reasons"], 0)
    valid = read.filter(pc.and_not_kleene(pc.is_null(read["dropped_by"]), broken))
    nulls = {name: valid[name].null_count for name in _OPTIONAL}
    return Counts(
        read=read.num_rows,
        valid=valid.num_rows,
        quarantined=_values(first),
        dropped=_values(read["dropped_by"].drop_null()),
        event_types=_values(valid["event_type"]),
        nulls={name: count for name, count in nulls.items() if count},
        bad_files={
            row["source_file"]: (row["file_rule"], row["detail"])
            for row in files.select(["source_file", "file_rule", "detail"]).to_pylist()
        },
    )


def _values(column: pa.ChunkedArray) -> dict[str, int]:
    return {each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()}
