"""A small shop with dirt, and a reading of its files of its own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.dirt.kinds import KINDS

SHARE = 0.01
SHOP = CatalogueConfig(
    users=300, items=250, interactions=6000, days=60, last_day=date(2024, 6, 30), seed=5
)
ROWS, FILES = 60, 1  # that share of its interactions and of its days
END = datetime(2024, 7, 1, tzinfo=UTC)

Row = dict[str, Any]
DRIFT = [name for name, kind in KINDS.items() if kind.plant is None]


def read(path: Path) -> list[Row]:
    """The rows of a file that can be read, with Python's own readers where there are any."""
    if path.name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    if ".csv" in path.name:
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    return [typed(row) for row in rows]


def typed(row: Row) -> Row:
    numbers = {"quantity": int, "price": float}
    row = {
        name: None if value in {"", None} else numbers.get(name, str)(value)
        for name, value in row.items()
    }
    try:
        return row | {"event_time": datetime.fromisoformat(row["event_time"])}
    except ValueError:
        return row


def is_sound(row: Row) -> bool:
    """A reading of the contract of raw rows."""
    ids = [row["user_id"], row["item_id"]]
    numbers = [row[name] for name in ("quantity", "price", "rating") if name in row]
    return (
        all(isinstance(text, str) and text.isprintable() for text in ids)
        and all(text.strip() and len(text) <= 255 for text in ids)
        and row["event_type"] in {"purchase", "view", "add_to_bag", "save", "rating", "return"}
        and isinstance(row["event_time"], datetime)
        and datetime(2000, 1, 1, tzinfo=UTC) <= row["event_time"] < END
        and all(math.isfinite(number) for number in numbers)
        and row["quantity"] > 0
        and row["price"] >= 0
    )
