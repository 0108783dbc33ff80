"""What a preprocess stage may be told: rules, limits and the split."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipelines.preprocess.limits import ReportConfig
from pipelines.preprocess.rules import DROP_RULES, FILE_RULES, QUARANTINE_RULES

EventType = Literal["purchase", "view", "add_to_bag", "save", "rating"]


class PreprocessConfig(BaseModel):
    """Configuration of the preprocess stage; part of what identifies a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["last_week", "leave_last_out"] = Field(
        default="last_week",
        description="last_week: the last days are the test set, validation is drawn at random from "
        "the rest; leave_last_out: a user's last purchase is test, the one before validation",
    )
    test_days: int = Field(
        default=7, ge=1, description="last_week: days up to as_of whose purchases are test labels"
    )
    validation_share: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        description="last_week: share of the labels before the test days drawn for validation",
    )
    minimum_user_interactions: int = Field(
        default=1, ge=1, description="users with fewer interactions are dropped, judged once"
    )
    minimum_item_interactions: int = Field(
        default=1, ge=1, description="items with fewer interactions are dropped, judged once"
    )
    maximum_history: int = Field(
        default=1000, ge=2, description="interactions kept of one user, the newest ones"
    )
    maximum_quarantined_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of the rows read above which quarantine stops the run",
    )
    bot_events_per_day: int = Field(
        default=1000,
        ge=0,
        description="a user with more events than this in one UTC day, duplicates not counted, is "
        "a bot and left out wholly; 0: no such limit",
    )
    bot_events: int = Field(
        default=0,
        ge=0,
        description="a user with more events than this in all, duplicates not counted, is a bot "
        "and left out wholly; 0: no such limit",
    )
    limits: ReportConfig = Field(
        default=ReportConfig(), description="what the input may look like; see the data report"
    )
    drop: dict[str, str] = Field(
        default_factory=dict,
        description="name of a rule and a Spark SQL expression over the raw columns; rows for "
        "which it is true are dropped and counted under the name, before quarantine",
    )
    label_events: tuple[EventType, ...] = Field(
        default=("purchase",), min_length=1, description="event types that can be labels"
    )

    feature_column: str | None = Field(
        default=None,
        min_length=1,
        description="column of the catalogue with a vector an item, for a model that learns from "
        "features",
    )
    window_days: int | None = Field(
        default=None, ge=2, description="days up to as_of that are read; by default all there are"
    )

    def first_day(self, as_of: date) -> date | None:
        """The first day of the window, None where there is no window."""
        return None if self.window_days is None else as_of - timedelta(days=self.window_days - 1)

    @field_validator("drop")
    @classmethod
    def _names_are_free(cls, drop: dict[str, str]) -> dict[str, str]:
        for name in drop:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(
                    f"the drop rule {name!r} needs a name of small letters, digits and underscores"
                )
            if name in (*FILE_RULES, *QUARANTINE_RULES, *DROP_RULES):
                raise ValueError(f"{name} is a built-in rule: give the drop rule another name")
        return drop
