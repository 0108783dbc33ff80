"""The preprocess job's transform in DuckDB's SQL, on local files: the peer it is measured against.

Rules, duplicates, bots, cap, splits, vocabulary and histories as the job has them, for input of
Parquet without returns and without a catalogue's cold items. What is left out is what such input
does not need: lenient casts, other formats, returns, kept days, the report. The draw of validation
labels and the order of ties take DuckDB's own hash, so those differ by the draw.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

_SQL = """
CREATE TABLE judged AS
SELECT user_id, item_id, event_type, event_time, quantity, price, market,
    CASE
        WHEN user_id IS NULL OR trim(user_id) = '' THEN 'user_id_missing'
        WHEN item_id IS NULL OR trim(item_id) = '' THEN 'item_id_missing'
        WHEN length(user_id) > 255 THEN 'user_id_too_long'
        WHEN length(item_id) > 255 THEN 'item_id_too_long'
        WHEN regexp_matches(user_id, '\\p{Cc}') THEN 'user_id_unprintable'
        WHEN regexp_matches(item_id, '\\p{Cc}') THEN 'item_id_unprintable'
        WHEN event_type NOT IN ('purchase', 'view', 'add_to_bag', 'save', 'rating', 'return')
            THEN 'event_type_unknown'
        WHEN event_time IS NULL THEN 'event_time_missing'
        WHEN event_time < TIMESTAMPTZ '2000-01-01 00:00:00+00' THEN 'event_time_before_2000'
        WHEN event_time >= $end THEN 'event_time_after_as_of'
        WHEN event_type = 'purchase' AND quantity <= 0 THEN 'quantity_not_positive'
        WHEN NOT isfinite(quantity::DOUBLE) THEN 'quantity_not_finite'
        WHEN price < 0 THEN 'price_negative'
        WHEN NOT isfinite(price) THEN 'price_not_finite'
    END AS reason
FROM read_parquet($files);

CREATE TABLE ordered AS
WITH distinct_events AS (
    SELECT user_id, item_id, event_type, event_time
    FROM judged WHERE reason IS NULL
    GROUP BY ALL
), days AS (
    SELECT user_id, max(n) AS most FROM (
        SELECT user_id, event_time::DATE AS day, count(*) AS n FROM distinct_events GROUP BY ALL
    ) GROUP BY user_id
)
SELECT user_id, item_id, event_type, epoch_us(event_time) // 1000000 AS seconds,
    hash(user_id, item_id, event_type, event_time, 'validation') AS draw,
    row_number() OVER (
        PARTITION BY user_id
        ORDER BY event_time DESC, hash(user_id, item_id, event_type), item_id, event_type
    ) - 1 AS newer
FROM distinct_events JOIN days USING (user_id) WHERE most <= $bot;

CREATE TABLE marked AS
SELECT *,
    seconds >= $test_start AS in_window,
    event_type = 'purchase' AND seconds > min(seconds) OVER (PARTITION BY user_id) AS is_label,
    NOT in_window AND (draw % 4294967296) < $share * 4294967296 AND event_type = 'purchase' AS drawn
FROM ordered WHERE newer < $cap;

CREATE TABLE vocabulary AS
SELECT (row_number() OVER (ORDER BY count DESC, item_id) - 1)::INT AS item, item_id, count FROM (
    SELECT item_id, count(*) AS count FROM marked
    WHERE NOT in_window AND NOT (drawn AND is_label) GROUP BY item_id
);
COPY vocabulary TO '{out}/vocabulary.parquet' (FORMAT parquet, COMPRESSION zstd);

CREATE TABLE positions AS
SELECT user_id, newer, item, seconds, event_type, in_window, drawn, is_label,
    min(newer) FILTER (in_window AND event_type = 'purchase') OVER one AS last_test,
    min(newer) FILTER (drawn) OVER one AS last_drawn
FROM marked JOIN vocabulary USING (item_id)
WINDOW one AS (PARTITION BY user_id);
"""

_HISTORIES = """
COPY (
    SELECT * FROM (
        SELECT user_id,
            list(item ORDER BY newer DESC) AS items,
            list(seconds ORDER BY newer DESC) AS times,
            list(label ORDER BY newer DESC) AS is_label,
            list(event_type ORDER BY newer DESC) AS events
        FROM (SELECT *, {label} AS label FROM positions WHERE {rows}) GROUP BY user_id
    ) WHERE {belongs}
) TO '{out}/{split}.parquet' (FORMAT parquet, COMPRESSION zstd);
"""

_SPLITS = {
    "train": ("is_label", "NOT in_window AND NOT (drawn AND is_label)", "true"),
    "validation": ("is_label AND drawn", "newer >= last_drawn", "list_bool_or(is_label)"),
    "test": ("is_label AND in_window", "newer >= last_test", "list_bool_or(is_label)"),
}


def transform(folder: Path, out: Path, *, as_of: date, memory: str, threads: int) -> dict[str, Any]:
    """Do it.

    Args:
        folder: of the raw layout.
        out: where vocabulary and histories go.
        as_of: last day.
        memory: limit, such as 8GB.
        threads: how many.

    Returns:
        rows, users, items, and labels of the test split.
    """
    out.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(out / "work.duckdb")) as database:
        database.execute(f"SET memory_limit = '{memory}'; SET threads = {threads}")
        database.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        values = {
            "files": f"'{folder}/interactions/*/*.parquet'",
            "end": f"TIMESTAMPTZ '{as_of + timedelta(days=1)} 00:00:00+00'",
            "test_start": f"epoch(TIMESTAMPTZ '{as_of - timedelta(days=6)} 00:00:00+00')",
            "share": "0.02",
            "bot": "1000",
            "cap": "1000",
        }
        script = _SQL.replace("{out}", str(out))
        for name, value in values.items():
            script = script.replace(f"${name}", value)
        database.execute(script)
        for split, (label, rows, belongs) in _SPLITS.items():
            database.execute(
                _HISTORIES.format(label=label, rows=rows, belongs=belongs, out=out, split=split)
            )
        found = database.execute(
            "SELECT count(*), count(DISTINCT user_id), (SELECT count(*) FROM vocabulary), "
            "(SELECT count(*) FROM positions WHERE is_label AND in_window) FROM marked"
        ).fetchone()
    assert found is not None
    return dict(zip(("rows_kept", "users", "items", "test_labels"), found, strict=True))
