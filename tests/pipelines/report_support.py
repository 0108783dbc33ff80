"""Facts as a job would count them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from pipelines.preprocess.facts import BOTS, DEGREES, EVENTS, DayFacts, Facts
from pipelines.preprocess.vocabulary import VOCABULARY

AS_OF = date(2024, 3, 31)
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\x1b[31m\u202egnp.\x00"


def vocabulary(counts: Mapping[str, int], category: Sequence[str] = ("women",)) -> pa.Table:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        {
            "item": number,
            "item_id": item,
            "count": count,
            "category": list(category),
            "is_live": True,
            "title": f"title of {item}",
        }
        for number, (item, count) in enumerate(ordered)
    ]
    return pa.Table.from_pylist(rows, VOCABULARY)


def day(number: int, rows: int = 100, **rest: Any) -> DayFacts:
    """So many days before `AS_OF`."""
    valid = rows - sum(rest.get("quarantined", {}).values()) - sum(rest.get("dropped", {}).values())
    when = (AS_OF - timedelta(number)).isoformat()
    full = {"event_types": {"purchase": valid}, "nulls": {"price": 0, "rating": valid}, "files": 1}
    return DayFacts(**{"day": when, "read": rows, "valid": valid, **full, **rest})


def facts(days: Sequence[DayFacts] | None = None, **other: Any) -> Facts:
    """Forty even days that hold two event types, with whatever else is said."""
    if days is None:
        days = [day(number) for number in range(40)]
    rows: list[dict[str, Any]] = [
        {"day": date.fromisoformat(each.day), "event_type": kind, "rows": each.valid // 2}
        for each in days
        if each.day != "unknown"
        for kind in ("purchase", "view")
    ]
    interactions = sum(row["rows"] for row in rows)
    known: dict[str, Any] = {
        "run_id": "2024-03-31-0123456789",
        "as_of": AS_OF,
        "source": "az://raw",
        "first_day": None,
        "days": days,
        "bad_files": [],
        "rows_read": sum(each.read for each in days),
        "quarantined": {},
        "dropped": {"duplicate": sum(each.read for each in days) - interactions},
        "interactions": interactions,
        "first_event": "2024-02-21T00:00:01+00:00",
        "last_event": "2024-03-31T23:59:59+00:00",
        "events": pa.Table.from_pylist(rows, EVENTS),
        "vocabulary": vocabulary({"a": 30, "b": 20, "c": 10, "never": 0}),
        "catalogue_files": 1,
        "degrees": pa.table({"interactions": [2, 8], "users": [30, 5]}, DEGREES),
        "bots": BOTS.empty_table(),
        "maximum_quarantined_share": 0.05,
    }
    return Facts(**(known | other))


def empty() -> Facts:
    """An input in which there is nothing at all."""
    return facts(
        [],
        dropped={},
        first_event=None,
        last_event=None,
        vocabulary=VOCABULARY.empty_table(),
        catalogue_files=0,
        degrees=DEGREES.empty_table(),
    )
