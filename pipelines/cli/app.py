"""The command's entry: verbs, logging, and errors as one sentence with the right exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
import traceback

import typer

from pipelines import logs
from pipelines.errors import PipelineError, is_for_people

app = typer.Typer(
    name="hyperrec",
    help="Nightly hyperbolic recommendations: from interactions in blob storage to a verified "
    "version in Cosmos DB.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Heavy libraries are imported by the verb that needs them, so that the others answer at once.
_VERBS = (
    "demo",
    "run",
    "backfill",
    "stage",
    "approve",
    "importing",
    "features",
    "synthesise",
    "local",
    "serving",
    "runs",
    "compare",
    "report",
    "deploy",
    "health",
    "doctor",
    "reproduce",
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
        sys.exit(app(args=arguments or ["--help"], prog_name="hyperrec", standalone_mode=False))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = exit_code(error)
        with_traceback = debug or code is None
        # One line, whatever a library has put into its message.
        said = " ".join(sentence(error).splitlines())
        if logs.are_json():
            logging.getLogger("pipelines").error("%s", said, exc_info=with_traceback)
        else:
            if with_traceback:
                traceback.print_exc()
            print("hyperrec:", said, file=sys.stderr)
        sys.exit(code or 1)


def exit_code(error: BaseException) -> int | None:
    """2 for a mistake in the command or input, 1 for a failed run, None for a fault of ours."""
    if isinstance(error, (PipelineError, typer.TyperException)):
        return error.exit_code
    return 1 if is_for_people(error) else None


def sentence(error: Exception) -> str:
    """What is wrong, as a person is told it."""
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        words = context.command_path if context else "hyperrec"
        message = error.format_message().rstrip(".")
        return f"{message}{' See' if message.endswith('?') else '; see'} `{words} --help`."
    if exit_code(error) is None:
        return f"unexpected {type(error).__name__}: {error}"
    return str(error)


def set_up_logging(*, debug: bool) -> None:
    """Our lines on stderr; other libraries only when they warn."""
    handler = logging.StreamHandler()
    handler.setFormatter(logs.formatter())
    for name in ("pipelines", "hyperrec_core", "serving_export", "infra"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
    if not debug:
        # A short command closes its client under a check that Cosmos' SDK makes in the background;
        # the SDK would print the traceback of that.
        logging.getLogger("azure.cosmos._GlobalEndpointManager").setLevel(logging.CRITICAL)
