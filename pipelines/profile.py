"""A profile: every setting of a run in one TOML file, checked as a whole before anything starts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hyperrec_core.fit import TrainConfig
from hyperrec_core.models import CONFIGS, PointsConfig
from pipelines.errors import UsageError
from pipelines.gate_limits import GateConfig
from pipelines.preprocess.config import PreprocessConfig

if TYPE_CHECKING:
    from pipelines.runs import RunRecord

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


def _with_named_model(train: object) -> object:
    """The section `train` with its model's name, so that one kind of settings alone fits."""
    model = train.get("model") if isinstance(train, Mapping) else None
    if not isinstance(train, Mapping) or not isinstance(model, Mapping):
        return train
    name = model.get("name", PointsConfig.name)
    if name not in list(CONFIGS):
        raise ValueError(f"model.name is {name}; it must be one of {', '.join(CONFIGS)}.")
    return {**train, "model": {**model, "name": name}}


class Profile(BaseModel):
    """All settings of a run. Two runs with equal profiles and inputs are the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=0)
    warm_start: str | None = Field(
        default=None, description="id of a trained run whose items' points training starts from"
    )
    preprocess: PreprocessConfig = Field(default_factory=PreprocessConfig)
    train: Annotated[TrainConfig, BeforeValidator(_with_named_model)] = Field(
        default_factory=TrainConfig
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_profile(name: str, overrides: list[str] | None = None) -> Profile:
    """The profile of that name, or of a TOML file's path, with single settings replaced.

    Args:
        name: `default`, another name that comes with the package, or the path of a `.toml` file.
        overrides: `section.setting=value`, the value written as in TOML; spaces around the sign
            do not count.

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


def profile_of(record: RunRecord) -> Profile:
    """The profile that a run was started with; raises `UsageError` as `parse_profile`."""
    return parse_profile(record.configuration, source=f"run {record.run_id}")


def parse_profile(settings: dict[str, Any], *, source: str) -> Profile:
    """A profile from plain values; raises `UsageError` naming the first wrong setting."""
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        first, loc = _first_error(error)
        place = ".".join(loc) or "its settings"
        problem = first["msg"].removeprefix("Value error, ").rstrip(".")
        if first["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            problem = "there is no such setting"
        raise UsageError(f"In {source}, {place}: {problem}.") from error


def _first_error(error: ValidationError) -> tuple[Any, list[str]]:
    """The first error and its place.

    Settings of a model are held against every kind of model; the kinds whose name is wrong do not
    count.
    """
    kinds = {kind.__name__ for kind in CONFIGS.values()}
    found = [(each, [str(part) for part in each["loc"]]) for each in error.errors()]
    others = {kind for _, loc in found if loc[-1:] == ["name"] for kind in kinds.intersection(loc)}
    first, loc = next(one for one in found if not others.intersection(one[1]))
    return first, [part for part in loc if part not in kinds]


def _replace(settings: dict[str, Any], override: str) -> None:
    place, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not place:
        raise UsageError(f"{override} is no setting: write section.setting=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = place.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UsageError(f"{override} names no setting: {section} is not a section.")
    settings[key] = value
