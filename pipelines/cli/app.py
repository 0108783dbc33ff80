"""The command's entry: verbs, logging, and errors as one sentence with the right exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
import traceback

import typer

from pipelines.errors import PipelineError

app = typer.Typer(
    name="hyperrec",
    help="Nightly hyperbolic recommendations: from interactions in blob storage to a verified "
    "version in Cosmos DB.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Heavy libraries are imported by the verb that needs them, so that the others answer at once.
_VERBS = (
    "demo",
    "run",
    "stage",
    "importing",
    "synthesise",
    "local",
    "serving",
    "runs",
    "serve",
    "doctor",
)


def main() -> None:
    """Run the command line and exit."""
    os.environ.setdefault("TZ", "UTC")
    # Threads that spin while they wait cost a busy machine nine tenths of the training speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    time.tzset()
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    set_up_logging(debug=debug)
    for verb in _VERBS:
        importlib.import_module(f"pipelines.cli.{verb}")
    try:
        app(args=arguments, standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = exit_code(error)
        if debug or code is None:
            traceback.print_exc()
        if code is None:
            print(f"hyperrec: unexpected {type(error).__name__}: {error}", file=sys.stderr)
        else:
            print(f"hyperrec: {error}", file=sys.stderr)
        sys.exit(code or 1)


def exit_code(error: BaseException) -> int | None:
    """2 for a mistake in the command or input, 1 for a failed run, None for a fault of ours."""
    from hyperrec_core.histories import HistoriesError  # noqa: PLC0415
    from infra.local.services import LocalServiceError  # noqa: PLC0415
    from serving_export.errors import ExportError  # noqa: PLC0415

    if isinstance(error, PipelineError):
        return error.exit_code
    if isinstance(error, (ExportError, LocalServiceError, HistoriesError)):
        return 1
    return None


def set_up_logging(*, debug: bool) -> None:
    """Our lines on stderr; other libraries only when they warn."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("pipelines", "hyperrec_core", "serving_export", "infra"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
