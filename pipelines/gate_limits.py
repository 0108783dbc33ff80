"""Limits of the gates: the section `evaluate.gates` of a profile.

Every limit has two levels: past `warn` a person has to approve the run before it is published, past
`refuse` it is not published. This module imports nothing heavy, so that a profile is read at once.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.preprocess.limits import Bound, ReportConfig, over_defaults, require_beyond

Outcome = Literal["pass", "warn", "refuse"]

_FLOORS = ("labels", "hr_at_10", "ndcg_at_10")


class Limits(BaseModel):
    """Two levels of one quantity; None (in TOML "off") is no level."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warn: Bound = None
    refuse: Bound = None

    def floor(self, value: float) -> Outcome:
        """What a value means that must not be below the levels."""
        if self.refuse is not None and not value >= self.refuse:
            return "refuse"
        return "pass" if self.warn is None or value >= self.warn else "warn"

    def ceiling(self, value: float) -> Outcome:
        """What a value means that must not be above the levels."""
        if self.refuse is not None and not value <= self.refuse:
            return "refuse"
        return "pass" if self.warn is None or value <= self.warn else "warn"


class GateConfig(BaseModel):
    """What a model must hold before it may be published. A level not given keeps its default.

    The value at the level itself is still allowed. That it must beat popularity is
    `evaluate.minimum_ratio`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Limits = Field(
        default=Limits(warn=200, refuse=50),
        description="floor of the number of test labels; fewer judge a model by chance, as where "
        "most of the test days are missing",
    )
    hr_at_10: Limits = Field(
        default=Limits(), description="floor of HR@10 among the sampled negatives, on the test set"
    )
    ndcg_at_10: Limits = Field(default=Limits(), description="floor of NDCG@10, likewise")
    recent_ratio: Bound = Field(
        default=None,
        description="HR@10 and NDCG@10 must exceed recent popularity's times this, or a person "
        "approves; minimum_ratio unless given",
    )
    against_active: bool = Field(
        default=True,
        description="hold the model against the version that is active; false where one account "
        "serves now this shop and now that one, as in development",
    )
    tolerance: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the active version's HR@10 and NDCG@10 by which the model may be "
        "below it on the same labels: refused when the whole 95 % interval of the difference lies "
        "beyond, approved by a person when the difference itself does",
    )
    shrink: Limits = Field(
        default=Limits(warn=0.1, refuse=0.5),
        description="share of the active version's number of items by which there are fewer",
    )
    off_sheet: float = Field(
        default=1e-5,
        gt=0,
        allow_inf_nan=False,
        description="ceiling of |<x, x> + 1| / x0^2 of every published point of the hyperboloid; "
        "rounding to float32 leaves about 1e-7",
    )
    largest_radius: Limits = Field(
        default=Limits(warn=8.0),
        description="hyperbolic distance to the origin of the farthest item; float32 carries about "
        "8; not of flat models",
    )
    at_origin: Limits = Field(
        default=Limits(warn=0.05, refuse=0.5),
        description="share of the items at the origin, which any history is as near to",
    )
    quarantine_rise: Limits = Field(
        default=Limits(warn=0.02),
        description="share of rows in quarantine less that of the active version's run",
    )
    approve_input: tuple[str, ...] = Field(
        default=("popularity_psi", "event_mix_psi", "without_category"),
        description="limits of the data report whose warning needs a person's approval; the other "
        "warnings are told and no more, since half a day's data makes no worse model",
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults(cls, given: Any) -> Any:
        return over_defaults(cls, given)

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        unknown = set(self.approve_input) - set(ReportConfig.model_fields)
        if unknown:
            raise ValueError(
                f"approve_input names {', '.join(sorted(unknown))}, which is no limit of the data "
                f"report; those are {', '.join(ReportConfig.model_fields)}"
            )
        for name in type(self).model_fields:
            limits = getattr(self, name)
            if isinstance(limits, Limits):
                floor = name in _FLOORS
                require_beyond(name, limits.warn, "refuse", limits.refuse, floor=floor)
        return self
