"""What hyperrec wants to find at a Prefect server, as data: pools, deployments, automations.

`apply.py` compares it with what is there and makes it so. Fields that are not here are the
operators': a schedule or deployment they paused stays paused, an alert they muted stays mute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Any, Literal

from infra.local.prefect_services import CPU_POOL, GPU_POOL
from pipelines.flows.alerts import RESUMES, TAG

PoolType = Literal["process", "kubernetes"]

# Every deployment's name; that of the stage that runs on a GPU is its pool's.
NAME = "hyperrec"

# Looked at between the nights, at minutes when no night begins.
_HEALTH_CRON = "30 * * * *"


@dataclass(frozen=True)
class Target:
    """What differs between one place and another.

    Attributes:
        source: URL of the raw layout.
        runs: URL under which runs are kept.
        profile: name of a profile.
        settings: single settings over the profile's.
        train_on: where the nightly training runs.
        cron: when the nightly run begins.
        timezone: of `cron`, such as Europe/London.
        pool_type: what workers start a run as.
        job_templates: base job template by pool; for the type kubernetes, each pool's.
        image: container image of runs in the CPU pool; for the type kubernetes.
        environment: variables of every run, none of them secret.
    """

    source: str
    runs: str
    profile: str = "default"
    settings: tuple[str, ...] = ()
    train_on: Literal["here", "gpu"] = "here"
    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    pool_type: PoolType = "process"
    job_templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    image: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FlowDeployment:
    """A flow as operators and schedules start it.

    Attributes:
        flow: its name.
        entrypoint: the function's place among the installed modules.
        description: for the deployment's page.
        name: of the deployment.
        pool: whose workers run it.
        schedule: from a target, the cron expression; None for no schedule.
        slug: of the schedule, by which it is found again.
        resumes: a second start goes on where the first one ended.
        waits: a second run waits for the first one instead of being cancelled.
    """

    flow: str
    entrypoint: str
    description: str
    name: str = NAME
    pool: str = CPU_POOL
    schedule: Callable[[Target], str] | None = None
    slug: str = "nightly"
    resumes: bool = False
    waits: bool = False

    @property
    def full_name(self) -> str:
        """`flow/deployment`, as Prefect writes it."""
        return f"{self.flow}/{self.name}"


FLOWS = (
    FlowDeployment(
        "daily-retrain",
        "pipelines.flows.retrain.daily_retrain",
        "Retrain on the interactions up to yesterday and publish what passes the gates.",
        schedule=lambda target: target.cron,
        resumes=True,
    ),
    FlowDeployment(
        "backfill",
        "pipelines.flows.backfill.backfill",
        "Do the nights of a range of dates, in order.",
        resumes=True,
    ),
    FlowDeployment(
        "promote",
        "pipelines.flows.promote.promote",
        "Publish a judged run: approve one that waits, or force one that was refused.",
    ),
    FlowDeployment(
        "rollback",
        "pipelines.flows.rollback.rollback",
        "Make the previous version active again, at once.",
    ),
    FlowDeployment(
        "export-only",
        "pipelines.flows.export_only.export_only",
        "Publish a judged run that passed its gates, or price it.",
    ),
    FlowDeployment(
        "evaluate-only",
        "pipelines.flows.evaluate_only.evaluate_only",
        "Judge the trained model of a run.",
    ),
    FlowDeployment(
        "health",
        "pipelines.flows.health.health",
        "See that a fresh version is active, data arrive and the stores answer.",
        schedule=lambda _: _HEALTH_CRON,
        slug="hourly",
    ),
    FlowDeployment(
        "stage",
        "pipelines.flows.stage.stage",
        "One stage of a run, started by another flow that waits for it.",
        name=GPU_POOL,
        pool=GPU_POOL,
        waits=True,
    ),
)

_POOLS = {
    CPU_POOL: "Runs of hyperrec; every flow but training on a GPU.",
    GPU_POOL: "Training on a GPU.",
}


def pools(target: Target) -> dict[str, dict[str, Any]]:
    """The work pools by name, as the API takes them."""
    return {
        name: {
            "type": target.pool_type,
            "description": description,
            "base_job_template": target.job_templates.get(name) or _process_template(),
        }
        for name, description in _POOLS.items()
    }


def deployment(wanted: FlowDeployment, target: Target) -> dict[str, Any]:
    """A deployment, as the API takes it; `flow_id` is not known here.

    The flow is imported: its form becomes the schema that the API checks parameters against.
    """
    from prefect.utilities.callables import parameter_schema  # noqa: PLC0415

    module, _, function = wanted.entrypoint.rpartition(".")
    schema = parameter_schema(getattr(import_module(module), function)).model_dump(mode="json")
    schedules = []
    if wanted.schedule is not None:
        timing = {"cron": wanted.schedule(target), "timezone": target.timezone, "day_or": True}
        schedules.append({"slug": wanted.slug, "schedule": timing})
    environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", **target.environment}
    # Training on a GPU has an image of its own, which its pool's job template names.
    image = target.image if wanted.pool == CPU_POOL else None
    return {
        "name": wanted.name,
        "entrypoint": wanted.entrypoint,
        "path": None,
        "pull_steps": [],
        "version": metadata.version("hyperrec"),
        "description": wanted.description,
        "tags": sorted([TAG, RESUMES] if wanted.resumes else [TAG]),
        "work_pool_name": wanted.pool,
        "parameters": {"form": _filled_in(schema, target)},
        "parameter_openapi_schema": schema,
        "enforce_parameter_schema": True,
        "job_variables": {
            "env": environment,
            **({"image": image} if image else {}),
        },
        "concurrency_limit": 1,
        "concurrency_options": {"collision_strategy": "ENQUEUE" if wanted.waits else "CANCEL_NEW"},
        "schedules": schedules,
    }


def _filled_in(schema: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The fields of a flow's form that the place decides, so that an operator need not."""
    known = {
        "source": target.source,
        "runs": target.runs,
        "profile": target.profile,
        "settings": list(target.settings),
        "train_on": target.train_on,
    }
    place = schema["properties"]["form"]
    while "$ref" in place or "allOf" in place:
        place = place["allOf"][0] if "allOf" in place else _definition(schema, place["$ref"])
    return {name: value for name, value in known.items() if name in place["properties"]}


def _definition(schema: Mapping[str, Any], reference: str) -> dict[str, Any]:
    found: dict[str, Any] = schema["definitions"][reference.rpartition("/")[2]]
    return found


def _process_template() -> dict[str, Any]:
    from prefect.workers.process import ProcessWorker  # noqa: PLC0415  seconds to import

    return ProcessWorker.get_default_base_job_template()
