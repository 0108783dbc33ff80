"""What an operator may ask of each flow: the forms that Prefect's UI shows and its API checks.

A field's range and choices stand in the JSON schema, and so does each rule between two fields that
a schema can say (`_rule`), so the API refuses such a form before anything runs. The rest, such as
the order of two dates, is checked when the flow begins. Both say what is wrong in a sentence.

A profile is one of those that come with the package: a path would be one of a worker, which an
operator cannot see. A shop's own settings come in `settings`, which the deployment fills in. Only
the command, which runs where its user is, takes a path.
"""

# No `from __future__ import annotations` here: Prefect reads these types when it loads a flow.

from datetime import date
from typing import Annotated, Any, Literal, Self, TypeVar

from prefect.input import RunInput
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from pipelines.errors import UsageError
from pipelines.profile import profile_names
from pipelines.runs import StageName

NIGHTS_AT_MOST = 400

_Address = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^((az|abfss|file)://|/)\S(.*\S)?$")
]
_RunId = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^\d{4}-\d{2}-\d{2}-[0-9a-f]{10}$"),
]
_Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]
# What `load_profile` takes as a setting: in TOML there may be spaces around the sign.
_Setting = Annotated[str, StringConstraints(pattern=r"^\s*[^=\s][^=]*=")]

_Day = Annotated[
    date, WithJsonSchema({"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}"})
]

Source = Annotated[
    _Address,
    Field(
        title="Raw interactions",
        description="Address of the raw layout, such as az://raw: the folder that holds "
        "interactions/dt=YYYY-MM-DD/.",
    ),
]
ProfileName = Annotated[
    str,
    Field(
        title="Profile",
        description="Settings of the shop that come with the package.",
        json_schema_extra={"enum": [*profile_names()]},
    ),
]
Settings = Annotated[
    list[_Setting],
    Field(
        title="Settings",
        description="Single settings over the profile's, one a line: section.setting=value, such "
        "as train.epochs=5.",
    ),
]
Runs = Annotated[
    _Address | None,
    Field(
        title="Where runs are kept",
        description="Address of the storage of runs, such as az://runs. Empty: that of the worker.",
    ),
]
RunId = Annotated[
    _RunId,
    Field(title="Run", description="Id of a run, such as 2026-11-21-0a1b2c3d4e."),
]
_WHY = "The reason, in a few words; it is kept in the history of the published versions."
_WHO = "Your name; it is kept in the history of the published versions."
Why = Annotated[_Words, Field(title="Why", description=_WHY)]
MaybeWhy = Annotated[_Words | None, Field(title="Why", description=_WHY)]
Who = Annotated[_Words, Field(title="Who you are", description=_WHO)]
MaybeWho = Annotated[_Words | None, Field(title="Who you are", description=_WHO)]


def _rule(field: str, value: Any, *needed: str, **others: Any) -> dict[str, Any]:
    """A rule of JSON Schema: with this value of a field, others must be given, or be so.

    It stands under `dependentSchemas`, which the UI leaves to the API.
    """
    then: dict[str, Any] = {name: {"type": "string"} for name in needed}
    then |= {name: {"const": other} for name, other in others.items()}
    return {
        field: {
            "if": {"properties": {field: {"const": value}}},
            "then": {"required": [*needed], "properties": then},
        }
    }


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetrainForm(_Form):
    """Retrain on the interactions up to a day and publish the result when it passes the gates."""

    model_config = ConfigDict(
        title="Retrain",
        json_schema_extra={
            "dependentSchemas": _rule("force", True, "why", "who", dry_run=False)
            | _rule("start", "run", "start_run")
        },
    )

    source: Source
    as_of: Annotated[
        _Day | None,
        Field(
            title="Last day",
            description="The last day (UTC) whose interactions count. Empty: the day before the "
            "scheduled one, so that a late or repeated run does the night it was made for.",
        ),
    ] = None
    profile: ProfileName = "default"
    settings: Settings = []
    start: Annotated[
        Literal["warm", "cold", "run"],
        Field(
            title="Training starts",
            description="warm: from the points of the version that is active, where it is of an "
            "earlier day and of the same kind. cold: from nothing. run: from the run named below. "
            "A setting warm_start goes before all of these.",
        ),
    ] = "warm"
    start_run: Annotated[
        _RunId | None,
        Field(title="Run to start from", description="Only for a training that starts from a run."),
    ] = None
    train_on: Annotated[
        Literal["here", "gpu"],
        Field(
            title="Train on",
            description="here: on this worker. gpu: on a worker of the pool hyperrec-gpu.",
        ),
    ] = "here"
    dry_run: Annotated[
        bool,
        Field(
            title="Dry run",
            description="Preprocess, train and judge, and say what publishing would cost; publish "
            "nothing.",
        ),
    ] = False
    force: Annotated[
        bool,
        Field(
            title="Force",
            description="Publish in spite of gates that warn or refuse, but those that no version "
            "may break. Needs a reason and your name.",
        ),
    ] = False
    why: MaybeWhy = None
    who: MaybeWho = None
    runs: Runs = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.force and (self.why is None or self.who is None):
            raise ValueError("Force needs a reason (why) and a name (who)")
        if self.force and self.dry_run:
            raise ValueError("A dry run publishes nothing, so it cannot be forced")
        if self.start == "run" and self.start_run is None:
            raise ValueError("A training that starts from a run needs that run's id (start_run)")
        if self.start != "run" and self.start_run is not None:
            raise ValueError("A run to start from (start_run) goes with start=run alone")
        return self


class BackfillForm(_Form):
    """Do the nights of a range of dates, in order."""

    model_config = ConfigDict(
        title="Backfill", json_schema_extra={"dependentSchemas": _rule("until", "export", "why")}
    )

    source: Source
    first: Annotated[
        _Day, Field(title="First night", description="Its last day whose interactions count (UTC).")
    ]
    last: Annotated[
        _Day, Field(title="Last night", description=f"At most {NIGHTS_AT_MOST} nights in all.")
    ]
    until: Annotated[
        StageName,
        Field(
            title="Up to the stage",
            description="The last stage of each night. Only export publishes, every night in "
            "turn; it needs a reason.",
        ),
    ] = "evaluate"
    warm: Annotated[
        bool,
        Field(
            title="Warm",
            description="Each night's training starts from the points of the night before.",
        ),
    ] = False
    profile: ProfileName = "default"
    settings: Settings = []
    why: MaybeWhy = None
    runs: Runs = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.last < self.first:
            raise ValueError(
                f"There is no night from {self.first} to {self.last}: the first comes after it"
            )
        if (self.last - self.first).days >= NIGHTS_AT_MOST:
            raise ValueError(
                f"From {self.first} to {self.last} are more than {NIGHTS_AT_MOST} nights: give "
                "several back-fills"
            )
        if self.until == "export" and self.why is None:
            raise ValueError("A back-fill that publishes (until=export) needs a reason (why)")
        return self


class PromoteForm(_Form):
    """Publish a judged run: approve of one that waits, or force one that was refused."""

    model_config = ConfigDict(title="Promote")

    run_id: RunId
    why: Why
    who: Who
    force: Annotated[
        bool,
        Field(
            title="Force",
            description="Also in spite of a gate that refuses, but those that no version may "
            "break, and over a later version.",
        ),
    ] = False
    runs: Runs = None


class RollbackForm(_Form):
    """Make the previous version active again; a second time undoes the first."""

    model_config = ConfigDict(title="Roll back")

    why: Why
    who: Who


class ExportForm(_Form):
    """Publish a judged run that passed its gates, or only say what that would cost."""

    model_config = ConfigDict(
        title="Export", json_schema_extra={"dependentSchemas": _rule("dry_run", False, "why")}
    )

    run_id: RunId
    dry_run: Annotated[
        bool,
        Field(title="Dry run", description="Say what it would cost, and publish nothing."),
    ] = True
    why: MaybeWhy = None
    runs: Runs = None

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if not self.dry_run and self.why is None:
            raise ValueError("Publishing by hand needs a reason (why)")
        return self


class EvaluateForm(_Form):
    """Judge the trained model of a run; publish nothing."""

    model_config = ConfigDict(title="Evaluate")

    run_id: RunId
    runs: Runs = None


class StageForm(_Form):
    """One stage of a run, which another flow run waits for."""

    model_config = ConfigDict(title="Stage")

    runs: Annotated[
        _Address,
        Field(title="Where runs are kept", description="Address of the storage of runs."),
    ]
    run_id: RunId
    stage: Annotated[
        StageName,
        Field(title="Stage", description="The stage to do; those before it are done."),
    ]


class Decision(RunInput):
    """What an operator says of a run that waits for approval."""

    model_config = ConfigDict(title="Decision")

    decision: Annotated[
        Literal["approve", "decline"],
        Field(title="Decision", description="approve: publish it. decline: the run ends here."),
    ]
    who: Who
    why: Why


FormType = TypeVar("FormType", bound=BaseModel)


def checked(kind: type[FormType], given: Any) -> FormType:
    """The form that was filled in.

    Args:
        kind: which form.
        given: one, or its plain values.

    Raises:
        UsageError: it does not check; the message says what is wrong first.
    """
    try:
        return given if isinstance(given, kind) else kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ").rstrip(".")
        known = ", ".join(kind.model_fields)
        if first["type"] == "extra_forbidden":
            problem = f"there is no such field; there are {known}"
        told = f"The field {place} of the form: {problem}" if place else problem
        raise UsageError(f"{told}; nothing was run, correct it and start again.") from error
