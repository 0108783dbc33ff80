"""Input for whole runs: a slice of the real Online Retail lines, or a look-alike where they lack.

The lines are those of UCI "Online Retail" (D. Chen, CC BY 4.0), one row an invoice line, with
cancellations (invoices that start with C), lines without a customer, codes that are no products
and gifts, all of which the job must count. They are not part of the repository: the file
`all_lines.parquet` is looked for where HYPERREC_ONLINE_RETAIL says (the file or its folder) and in
`shared/data/online-retail` beside the repository.
"""

from __future__ import annotations

import os
import zlib
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.synthesise import CatalogueConfig, interactions, items_table

NAME = "all_lines.parquet"
# One customer in so many, by a hash of the id, and as large a share of the lines without one.
_SHARE = 7
_SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "timestamp": pa.int64(),
        "quantity": pa.int64(),
        "unit_price": pa.float64(),
        "invoice": pa.string(),
        "description": pa.string(),
        "country": pa.string(),
    }
)


def real_lines() -> Path | None:
    """The real file, where this machine has it."""
    named = os.environ.get("HYPERREC_ONLINE_RETAIL")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "online-retail"
    for place in (Path(named) if named else beside, beside):
        path = place / NAME if place.is_dir() else place
        if path.is_file():
            return path
    return None


def kind() -> str:
    """What `online_retail` gives on this machine, in words."""
    if (path := real_lines()) is None:
        return "a look-alike of Online Retail (set HYPERREC_ONLINE_RETAIL for the real lines)"
    return f"a slice of the real Online Retail lines in {path}"


def online_retail(folder: Path) -> Path:
    """Write some 70,000 lines of about 600 customers, real where they can be found.

    Returns:
        The file, with the columns of the real one.
    """
    path = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    real = real_lines()
    pq.write_table(_slice(real) if real else look_alike(), path)
    return path


def _slice(path: Path) -> pa.Table:
    """Whole customers with all they bought and cancelled, and a share of the other lines."""
    table = pq.read_table(path, columns=_SCHEMA.names).cast(_SCHEMA)
    users = table["user_id"].to_pylist()
    invoices = table["invoice"].to_pylist()
    chosen = [
        zlib.crc32((user or invoice).encode()) % _SHARE == 0
        for user, invoice in zip(users, invoices, strict=True)
    ]
    return table.filter(pa.array(chosen))


def look_alike(seed: int = 1) -> pa.Table:
    """A synthetic wholesaler with the same columns and the same oddities in like proportion."""
    config = CatalogueConfig(
        users=600, items=900, interactions=40_000, days=120, last_day=date(2011, 12, 9), seed=seed
    )
    titles = {row["item_id"]: row["title"] for row in items_table(config).to_pylist()}
    bought = [
        {
            "user_id": f"{12000 + int(row['user_id'].lstrip('u'))}",
            "item_id": f"{10000 + int(row['item_id'].lstrip('i'))}",
            "timestamp": _minute(row["event_time"]),
            "quantity": row["quantity"] or 1,
            "unit_price": row["price"],
            "invoice": "",
            "description": titles[row["item_id"]],
            "country": "United Kingdom",
        }
        for _, day in interactions(config)
        for row in day.to_pylist()
        if row["event_type"] == "purchase"
    ]
    rng = np.random.default_rng(seed)
    lines = []
    for line, chance in zip(bought, rng.random(len(bought)), strict=True):
        # One invoice is one customer's basket of one minute.
        basket = f"{line['user_id']} {line['timestamp']}"
        line["invoice"] = f"{zlib.crc32(basket.encode()):010d}"
        lines.append(line)
        if chance < 0.02:
            hour_later = line["timestamp"] + 3600
            cancelled = {"invoice": f"C{line['invoice']}", "timestamp": hour_later}
            lines.append(line | cancelled | {"quantity": -line["quantity"]})
        elif chance < 0.22:
            line["user_id"] = ""
        elif chance < 0.23:
            line |= {"item_id": "POST", "description": "POSTAGE"}
        elif chance < 0.235:
            line["unit_price"] = 0.0
    return pa.Table.from_pylist(lines, schema=_SCHEMA)


def _minute(time: datetime) -> int:
    return int(time.timestamp()) // 60 * 60
