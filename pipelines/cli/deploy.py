"""`hyperrec deploy`: flows, pools, schedules and alerts, made so at a Prefect server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape

from infra.local.prefect_services import CPU_POOL, GPU_POOL
from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.run import prepare_prefect
from pipelines.cli.show import console
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.flows.deployments import Target


@app.command()
def deploy(
    source: Annotated[
        str | None, typer.Option("--input", help="URL of the raw layout [default: az://raw]")
    ] = None,
    profile: options.ProfileName = "default",
    settings: options.Settings = None,
    runs: options.Runs = None,
    outputs: Annotated[
        Path | None,
        typer.Option(
            "--from", exists=True, dir_okay=False, help="what `terraform output -json` says"
        ),
    ] = None,
    cron: Annotated[str, typer.Option(help="when the nightly run begins")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="of --cron, such as Europe/London")] = "UTC",
    train_on: Annotated[
        Literal["here", "gpu"], typer.Option(help="gpu: on a worker of the GPU pool")
    ] = "here",
    pool_type: Annotated[
        Literal["process", "kubernetes"] | None, typer.Option(help="[default: process]")
    ] = None,
    job_template: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="base job template of the CPU pool, JSON"),
    ] = None,
    gpu_job_template: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="that of the GPU pool"),
    ] = None,
    image: Annotated[str | None, typer.Option(help="container image of runs")] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            help="send alerts to this notification block, TYPE/NAME, instead of the webhook in "
            "HYPERREC_ALERT_WEBHOOK"
        ),
    ] = None,
    runbook: Annotated[str, typer.Option(help="address of the runbook, which alerts link")] = (
        "infra/RUNBOOK.md"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would change")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="remove what hyperrec made and no longer wants")
    ] = False,
) -> None:
    """Register flows, pools, schedules and alerts; the same command again changes nothing."""
    known = _outputs(outputs)
    if address := known.get("prefect_api_url"):
        os.environ.setdefault("PREFECT_API_URL", address)
    prepare_prefect()
    from pipelines.flows.alerts import alerts  # noqa: PLC0415
    from pipelines.flows.api import prefect_client, require_prefect  # noqa: PLC0415
    from pipelines.flows.apply import Channel, apply  # noqa: PLC0415

    target = _target(
        known,
        source=source,
        runs=runs,
        profile=profile,
        settings=tuple(settings or ()),
        train_on=train_on,
        cron=cron,
        timezone=timezone,
        pool_type=pool_type,
        job_templates={CPU_POOL: job_template, GPU_POOL: gpu_job_template},
        image=image,
    )
    webhook = os.environ.get("HYPERREC_ALERT_WEBHOOK") or None
    url = require_prefect()
    with console.status(f"asking {url}"), prefect_client() as client:
        channel = Channel(webhook, notify, runbook)
        changes = apply(client, target, channel, dry_run=dry_run, prune=prune)
    for change in changes:
        if change.what != "unchanged":
            console.print(escape(str(change)))
    same = sum(change.what == "unchanged" for change in changes)
    console.print(f"{same} unchanged" if same < len(changes) else f"Nothing to change at {url}.")
    if dry_run and same < len(changes):
        console.print("Nothing was done: this was a dry run.")
    if not {alert.name for alert in alerts()} & {change.name for change in changes}:
        console.print(
            "No alert was set up: set HYPERREC_ALERT_WEBHOOK to an address that takes JSON, or "
            "give --notify TYPE/NAME of a notification block, and deploy again."
        )


def _outputs(path: Path | None) -> dict[str, str]:
    """Terraform's outputs that concern a deployment; empty ones count as not given."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
        values = {name: each["value"] for name, each in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} is not what `terraform output -json` writes: make it so with "
            f"`terraform output -json > {path}`."
        ) from error
    names = (
        *("prefect_api_url", "input_url", "runs_url", "cosmos_endpoint"),
        *("storage_account_url", "work_pool_type", "image"),
    )
    return {name: str(values[name]) for name in names if values.get(name)}


def _target(
    known: dict[str, str],
    *,
    source: str | None,
    runs: str | None,
    pool_type: str | None,
    job_templates: dict[str, Path | None],
    image: str | None,
    **others: Any,
) -> Target:
    from pipelines.flows.deployments import PoolType, Target  # noqa: PLC0415
    from pipelines.profile import load_profile, profile_names  # noqa: PLC0415
    from pipelines.start import absolute, runs_url  # noqa: PLC0415

    if others["profile"] not in profile_names():
        raise UsageError(
            f"There is no profile {others['profile']} in the package, whose runs another machine "
            f"may do: choose one of {', '.join(profile_names())} and give single settings by --set."
        )
    load_profile(others["profile"], list(others["settings"]))
    _check_timing(others["cron"], others["timezone"])
    pool = pool_type or known.get("work_pool_type") or "process"
    if pool not in get_args(PoolType):
        raise UsageError(
            f"Work pools of the type {pool} are not known here: give one of "
            f"{', '.join(get_args(PoolType))} as --pool-type."
        )
    source = source or known.get("input_url") or "az://raw"
    templates = {pool: _template(path) for pool, path in job_templates.items() if path is not None}
    if pool == "kubernetes" and len(templates) < len(job_templates):
        raise UsageError(
            "Work pools of the type kubernetes need job templates: give --job-template and "
            "--gpu-job-template, files of infra/kubernetes."
        )
    places = {
        "AZURE_STORAGE_ACCOUNT_URL": known.get("storage_account_url"),
        "COSMOS_ENDPOINT": known.get("cosmos_endpoint"),
        "HYPERREC_RUNS": known.get("runs_url"),
    }
    return Target(
        source=absolute(source),
        runs=absolute(runs or known.get("runs_url") or runs_url(source)),
        pool_type=cast(PoolType, pool),
        job_templates=templates,
        image=image or known.get("image"),
        environment={name: value for name, value in places.items() if value},
        **others,
    )


def _check_timing(cron: str, timezone: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415

    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(
            f"There is no time zone {timezone}: give one such as UTC or Europe/London."
        ) from error
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        raise UsageError(
            f"{cron} is no time of a schedule: give minute, hour, day, month and weekday, such as "
            "'0 2 * * *' for two o'clock every night."
        ) from error


def _template(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not JSON: give a base job template.") from error
    if not isinstance(found, dict) or not {"job_configuration", "variables"} <= found.keys():
        raise UsageError(
            f"{path} is no base job template: it has no job_configuration or no variables."
        )
    return found
