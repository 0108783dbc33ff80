"""What the preprocess job hands to the data report: counts as plain values and Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

UNDATED = "unknown"
"""The day of files whose path has no `dt=YYYY-MM-DD`, or one that the calendar does not have."""

EVENTS = pa.schema([("day", pa.date32()), ("event_type", pa.string()), ("rows", pa.int64())])
DEGREES = pa.schema([("interactions", pa.int64()), ("users", pa.int64())])
BOTS = pa.schema([("user_id", pa.string()), ("events", pa.int64()), ("most_in_a_day", pa.int64())])


class DayFacts(BaseModel):
    """What the files of one day held, as they were delivered.

    Attributes:
        day: `dt` of the files as YYYY-MM-DD, or `UNDATED`.
        files: how many, quarantined ones among them.
        read: rows.
        valid: rows neither quarantined nor dropped by a rule of the configuration.
        quarantined: rows by rule, each under its first.
        dropped: rows by drop rule of the configuration.
        event_types: valid rows by event type.
        nulls: valid rows without a value, by optional column (quantity, price, rating, market).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: str
    files: int
    read: int
    valid: int
    quarantined: dict[str, int] = {}
    dropped: dict[str, int] = {}
    event_types: dict[str, int] = {}
    nulls: dict[str, int] = {}


class BadFile(BaseModel):
    """A file that went to quarantine as a whole: its name in the input, the rule, the detail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rule: str
    detail: str


@dataclass(frozen=True)
class Facts:
    """What the job has counted: `rows_read` is `interactions` + all of `quarantined` and `dropped`.

    Attributes:
        run_id: the run.
        as_of: its last day.
        source: URL of the input.
        first_day: first day of the window; None for a run over everything there is.
        days: one for each day of files, in any order.
        bad_files: files in quarantine.
        rows_read: rows of all readable files.
        quarantined: rows by rule, over the whole run.
        dropped: rows by rule, over the whole run: drop rules of the configuration, duplicates,
            returns, bots and so on.
        interactions: rows kept.
        first_event: time of the oldest interaction, ISO 8601; None when there is none.
        last_event: likewise of the newest.
        events: schema `EVENTS`; interactions by UTC day of the event and event type.
        vocabulary: schema `vocabulary.VOCABULARY`; items without interactions have count 0.
        catalogue_files: how many files of items the input has, quarantined ones among them.
        degrees: schema `DEGREES`; how many users have so many interactions.
        bots: schema `BOTS`; the users that were left out.
        maximum_quarantined_share: the limit of the configuration.
        distinct: number of different values by further column, where the job has counted them;
            users, items and event types are counted here.
    """

    run_id: str
    as_of: date
    source: str
    first_day: date | None
    days: Sequence[DayFacts]
    bad_files: Sequence[BadFile]
    rows_read: int
    quarantined: Mapping[str, int]
    dropped: Mapping[str, int]
    interactions: int
    first_event: str | None
    last_event: str | None
    events: pa.Table
    vocabulary: pa.Table
    catalogue_files: int
    degrees: pa.Table
    bots: pa.Table
    maximum_quarantined_share: float
    distinct: Mapping[str, int] = field(default_factory=dict)
