"""`hyperrec run`: the whole job, as a Prefect flow in this process."""

from __future__ import annotations

import logging
import os
from datetime import date, datetime

from infra.local.prefect_services import CALLS_NOBODY
from pipelines.cli import options
from pipelines.cli.app import app
from pipelines.cli.show import console, print_run


@app.command()
def run(
    source: options.Input,
    as_of: options.AsOf,
    profile: options.ProfileName = "default",
    settings: options.Settings = None,
    window: options.Window = None,
    runs: options.Runs = None,
) -> None:
    """Preprocess, train, evaluate and publish; the same command again goes on where it stopped."""
    settings = options.with_window(settings, window)
    run_id = run_flow(source, as_of, profile=profile, settings=settings, runs=runs)
    print_run(run_id, runs, source)


def run_flow(
    source: str, as_of: datetime, *, profile: str, settings: list[str] | None, runs: str | None
) -> str:
    """Run the flow in this process; see `prepare_night` for the Prefect server it tells."""
    source, runs = prepare_night(source, as_of.date(), profile, settings, runs)
    from pipelines.flows.forms import RetrainForm, checked  # noqa: PLC0415  seconds to import
    from pipelines.flows.retrain import daily_retrain  # noqa: PLC0415

    form = {
        "source": source,
        "as_of": as_of.date(),
        "profile": profile,
        "settings": settings or [],
        "start": "cold",
        "runs": runs,
    }
    return str(daily_retrain(checked(RetrainForm, form)))


def prepare_night(
    source: str, as_of: date, profile: str, settings: list[str] | None, runs: str | None
) -> tuple[str, str]:
    """Make flows run in this process, and known to a Prefect server, if there is such a night.

    The server is the configured one, that of `hyperrec up` where it runs, or one of this command's
    own.

    Returns:
        The input and the storage of runs as addresses that hold anywhere.

    Raises:
        UsageError: as `start_run`, before a server has started.
    """
    from pipelines.flows.api import find_prefect  # noqa: PLC0415
    from pipelines.flows.server import ensure_prefect_server  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415
    from pipelines.start import runs_url, start_run  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415

    source, runs = open_storage(source).url, open_storage(runs or runs_url(source)).url
    start_run(source=source, as_of=as_of, profile=profile, overrides=settings, runs=runs)
    prepare_prefect()
    with console.status("starting"):
        find_prefect()
        ensure_prefect_server(Environment().hyperrec_home.resolve() / "logs" / "prefect.log")
    return source, runs


def prepare_prefect() -> None:
    """No calls home, and our errors told once, by the command, not three times by Prefect."""
    for variable, value in CALLS_NOBODY.items():
        os.environ.setdefault(variable, value)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(lambda record: record.levelno < logging.ERROR)
    # At the end of a short run it would report, after our last line, that it is not done yet.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)
