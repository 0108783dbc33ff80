"""Small inputs for the preprocess tests."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from pipelines.preprocess.compact_rows import ROWS, fingerprint
from pipelines.preprocess.job import preprocess
from pipelines.preprocess.returns import settle
from pipelines.preprocess.source import raw_listing
from pipelines.preprocess.tables import INTERACTIONS
from pipelines.runs import Attempt, Run, RunRecord
from pipelines.storage import Folder, open_storage

AS_OF = date(2024, 3, 31)

SETTLED = (
    "user_id string, item_id string, event_type string, event_time timestamp, dropped_by string"
)


def at(seconds: int = 0, *, day: int = 1) -> datetime:
    return datetime.fromtimestamp(datetime(2024, 3, day, tzinfo=UTC).timestamp() + seconds, UTC)


def event(user: str | None, item: str | None, time: datetime | None, **rest: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "event_type": "purchase", "event_time": time, **rest}


def raw_frame(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    names = [*INTERACTIONS.columns, "source_file", "row_error", "file_error", "file_rule"]
    full = [tuple(row.get(name) for name in names) for row in rows]
    return spark.createDataFrame(full, INTERACTIONS.spark_schema)


def settle_all(raw: DataFrame) -> DataFrame:
    """What `settle` makes of raw rows, as the job hands them over."""
    rows = raw.select("*", fingerprint().alias("fingerprint")).select(*ROWS.names)
    is_return = "event_type = 'return'"
    return settle(rows.where(f"NOT {is_return}"), rows.where(is_return), partitions=2, seed=1)


def parquet(rows: list[dict[str, Any]] | pa.Table, **options: Any) -> bytes:
    names = (
        list(dict.fromkeys(name for row in rows for name in row)) if isinstance(rows, list) else []
    )
    table = (
        rows
        if isinstance(rows, pa.Table)
        else pa.table({n: [r.get(n) for r in rows] for n in names})
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def put_days(folder: Folder, rows: list[dict[str, Any]], *, name: str = "part-0.parquet") -> None:
    days: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        time = row["event_time"]
        days.setdefault("unknown" if time is None else f"{time:%Y-%m-%d}", []).append(row)
    for day, some in days.items():
        folder.write(f"interactions/dt={day}/{name}", parquet(some))


def attempt_in(runs: Folder, source: Folder) -> Attempt:
    record = RunRecord.identify(
        as_of=AS_OF, source=source.url, listing=source.list(), configuration={"seed": 1}
    )
    return Attempt(Run.start(runs, record), "preprocess")


def run_job(spark, source: Folder, runs: Folder, config, *, seed: int = 1):
    """The metrics and the outputs by name, as Arrow tables."""
    storage = open_storage(source.url)
    attempt = attempt_in(runs, source)
    metrics = preprocess(
        spark, source.url, raw_listing(storage, AS_OF), AS_OF, config, seed, attempt
    )
    tables = {
        output.name: pq.read_table(
            pa.BufferReader(runs.read(f"{attempt.run.run_id}/{output.path}"))
        )
        for output in attempt.outputs
        if output.name.endswith(".parquet")
    }
    return metrics, tables, attempt


def rows_of(tables: dict[str, pa.Table], prefix: str) -> list[dict[str, Any]]:
    return [
        row
        for name in sorted(tables)
        if name.startswith(prefix)
        for row in tables[name].to_pylist()
    ]
