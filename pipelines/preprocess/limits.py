"""Limits on a night's input, and what they say of it.

`ReportConfig` is the section `preprocess.limits` of a profile. Every limit has two levels: past
`warn` the run goes on and the report says so, past `stop` it ends before training. This module
imports nothing heavy, so that a profile is read at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Level = Literal["ok", "warn", "stop"]


def _off(value: Any) -> Any:
    """TOML has no null: the word off stands for it."""
    return None if value == "off" else value


Bound = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, BeforeValidator(_off)]


class Limit(BaseModel):
    """Two levels of one quantity; None (in TOML "off") is no level."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warn: Bound = None
    stop: Bound = None


class ReportConfig(BaseModel):
    """What a night's input may look like. A level that is not given keeps its default.

    `at_least` in a name is a floor, every other limit is a ceiling; the value at the level itself
    is still allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume_at_least: Limit = Field(
        default=Limit(warn=0.5),
        description="rows of the newest day over the median of the trailing 28 days, of the same "
        "weekday where at least three of those have rows",
    )
    volume_at_most: Limit = Field(
        default=Limit(warn=2.0), description="the same quotient from above"
    )
    days_behind: Limit = Field(
        default=Limit(warn=0),
        description="days up to as_of on which rows were due and that have none, after the newest "
        "day that has some; a weekday on which rows seldom come is not due",
    )
    missing_days: Limit = Field(
        default=Limit(warn=0), description="such days before the newest day, within the window"
    )
    bad_files: Limit = Field(
        default=Limit(warn=0),
        description="share of the files in quarantine, of interactions and of the catalogue",
    )
    null_rise: Limit = Field(
        default=Limit(warn=0.2),
        description="share of nulls in an optional column on the newest day less its median over "
        "the trailing 28 days, for the column with the largest rise",
    )
    without_category: Limit = Field(
        default=Limit(warn=0.2),
        description="share of the items without category, where the catalogue has categories",
    )
    popularity_psi: Limit = Field(
        default=Limit(warn=0.1),
        description="population stability index of item popularity against the last promoted run; "
        "0.1 is commonly a moderate shift, 0.25 a major one",
    )
    event_mix_psi: Limit = Field(
        default=Limit(warn=0.1), description="the same of the shares of the event types"
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults(cls, given: Any) -> Any:
        return over_defaults(cls, given)

    @model_validator(mode="after")
    def _stop_lies_beyond_warn(self) -> ReportConfig:
        for name in type(self).model_fields:
            limit: Limit = getattr(self, name)
            require_beyond(name, limit.warn, "stop", limit.stop, floor=is_floor(name))
        return self


def is_floor(name: str) -> bool:
    """Whether a limit of that name is crossed from above."""
    return name.endswith("_at_least")


def over_defaults(config: type[BaseModel], given: Any) -> Any:
    """What is given, with the levels of a limit that are not given from the limit's default.

    So `volume_at_least.stop` alone does not turn the warning off.
    """
    if not isinstance(given, dict):
        return given
    defaults = {name: field.default for name, field in config.model_fields.items()}
    return {
        name: {**defaults[name].model_dump(), **value}
        if isinstance(defaults.get(name), BaseModel) and isinstance(value, dict)
        else value
        for name, value in given.items()
    }


def require_beyond(name: str, warn: Bound, word: str, graver: Bound, *, floor: bool) -> None:
    """Raise `ValueError` unless the graver level of a limit lies beyond its warning, or at it."""
    if warn is None or graver is None or warn == graver or (graver < warn) == floor:
        return
    side = "below" if floor else "above"
    raise ValueError(f"{name}.{word} must lie {side} {name}.warn: {graver:g}, {warn:g}")


class Verdict(BaseModel):
    """What one limit says of the input.

    Attributes:
        name: of the limit.
        value: what was found; None when there was nothing to judge it by.
        limit: the levels it was held against.
        level: ok, warn or stop.
        sentence: what was found, where, and, unless ok, what to do.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    limit: Limit
    level: Level
    sentence: str


def verdict(name: str, value: float | None, limit: Limit, *, found: str, advice: str) -> Verdict:
    """Hold a value against its limit.

    Args:
        name: of the limit; `is_floor` says from which side it is crossed.
        value: None when there is nothing to judge, which is ok.
        limit: its levels.
        found: what was found and where, a sentence without its full stop.
        advice: what to do, added when a level is crossed.
    """
    level = _level(value, limit, floor=is_floor(name))
    sentence = f"{found}." if level == "ok" else f"{found}; {advice}."
    return Verdict(name=name, value=value, limit=limit, level=level, sentence=sentence)


def _level(value: float | None, limit: Limit, *, floor: bool) -> Level:
    if value is None:
        return "ok"

    def crossed(level: float | None) -> bool:
        return level is not None and (value < level if floor else value > level)

    if crossed(limit.stop):
        return "stop"
    return "warn" if crossed(limit.warn) else "ok"


def worst(verdicts: Iterable[Verdict]) -> Level:
    """The gravest level among some verdicts; ok of none."""
    levels = {each.level for each in verdicts}
    return next((level for level in ("stop", "warn") if level in levels), "ok")
