"""Log lines for programs: one JSON object a line when `HYPERREC_LOG` is json.

Each says which run and stage it is about, so that a collector of logs can put the nights apart.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_TEXT = "%(asctime)s %(message)s"

# What this process is at work on, the latest last. Not a context variable, which its threads would
# not see; a list, since stages begun side by side need not end in the opposite order.
_about: list[dict[str, str]] = []


@contextmanager
def about(run_id: str, stage: str) -> Iterator[None]:
    """Say in every line of JSON meanwhile that it is about a stage of a run."""
    entry = {"run_id": run_id, "stage": stage}
    _about.append(entry)
    try:
        yield
    finally:
        _about[:] = [other for other in _about if other is not entry]


def are_json() -> bool:
    """Whether the environment asks for lines of JSON."""
    return os.environ.get("HYPERREC_LOG") == "json"


def formatter() -> logging.Formatter:
    """How lines are written: for people, or as JSON when the environment asks for it."""
    return JsonLines() if are_json() else logging.Formatter(_TEXT, "%H:%M:%S")


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC, ISO 8601), level, logger, message, run_id, stage, error."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(_about[-1] if _about else {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
