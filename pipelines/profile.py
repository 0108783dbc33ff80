"""A profile: every setting of a run in one TOML file, checked as a whole before anything starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperrec_core.fit import TrainConfig
from pipelines.errors import UsageError
from pipelines.gate_limits import GateConfig
from pipelines.preprocess.config import PreprocessConfig

_FOLDER = Path(__file__).parent / "profiles"


class EvaluateConfig(BaseModel):
    """How a model is judged, and what it must reach before it may be published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    negatives: int = Field(
        default=100, ge=1, description="drawn uniformly a label, as in the paper"
    )
    exclude_seen: bool = Field(
        default=False,
        description="leave the items of a history out of its full ranking: nobody buys twice",
    )
    recent_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="recent popularity counts the newest so many of the training interactions",
    )
    minimum_ratio: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="gate: HR@10 and NDCG@10 must exceed popularity's times this",
    )
    gates: GateConfig = Field(default_factory=GateConfig)


class ExportConfig(BaseModel):
    """What is published beside the vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    similar: int = Field(default=20, ge=0, le=200, description="similar live items kept an item")
    live_only: bool = Field(
        default=False,
        description="leave out items that are not live; a history is then read without them",
    )


class Profile(BaseModel):
    """All settings of a run. Two runs with equal profiles and inputs are the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=0)
    warm_start: str | None = Field(
        default=None, description="id of a trained run whose items' points training starts from"
    )
    preprocess: PreprocessConfig = Field(default_factory=PreprocessConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_profile(name: str, overrides: list[str] | None = None) -> Profile:
    """The profile of that name, or of a TOML file's path, with single settings replaced.

    Args:
        name: `default`, another name that comes with the package, or the path of a `.toml` file.
        overrides: `section.setting=value`, the value written as in TOML.

    Raises:
        UsageError: no such profile, not TOML, or a setting that is unknown or out of range.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    try:
        settings = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        known = ", ".join(profile_names())
        raise UsageError(
            f"There is no profile {name}; choose one of {known}, or give the path of a .toml file."
        ) from error
    except OSError as error:
        raise UsageError(f"Cannot read the profile {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The profile {path} is not TOML: {error}.") from error
    for override in overrides or []:
        _replace(settings, override)
    return parse_profile(settings, source=f"the profile {name}")


def parse_profile(settings: dict[str, Any], *, source: str) -> Profile:
    """A profile from plain values; raises `UsageError` naming the first wrong setting."""
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its settings"
        problem = first["msg"].removeprefix("Value error, ").rstrip(".")
        if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            problem = "there is no such setting"
        raise UsageError(f"In {source}, {place}: {problem}.") from error


def _replace(settings: dict[str, Any], override: str) -> None:
    place, equals, text = override.partition("=")
    if not equals or not place:
        raise UsageError(f"{override} is no setting: write section.setting=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = place.strip().split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UsageError(f"{override} names no setting: {section} is not a section.")
    settings[key] = value
