"""A Prefect server for the time of one command, where none is configured.

Prefect would start one by itself, but only an orderly end stops that one: each killed command would
leave another server behind for good. This one the kernel ends with the command, however it ends
(its database is SQLite, which bears that), and it starts while the command is still importing.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from pathlib import Path

from infra.local.process import free_port, start
from pipelines.errors import PipelineError

_START_SECONDS = 90.0
_ATTEMPTS = 3
# As Prefect starts its own: no UI, no scheduler, and no catalogue of blocks written at every start.
_SETTINGS = (
    "PREFECT__SERVER_EPHEMERAL=1",
    "PREFECT__SERVER_FINAL=1",
    "PREFECT_UI_ENABLED=0",
    "PREFECT_API_BLOCKS_REGISTER_ON_START=false",
)


def ensure_prefect_server(log: Path) -> None:
    """Make flows of this process find a Prefect API: the configured one, or one of its own.

    To be called from the main thread, with whose end the server ends.

    Args:
        log: where a server of its own writes.

    Raises:
        PipelineError: the server does not start.
    """
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415  seconds to import
    from prefect.settings import get_current_settings  # noqa: PLC0415

    if get_current_settings().api.url:
        return
    for _ in range(_ATTEMPTS):
        port = free_port()
        process = start(_command(port), log, dies_with_caller=True)
        import pipelines.flows.retrain  # noqa: F401, PLC0415  while the server starts

        end = time.monotonic() + _START_SECONDS
        while not (healthy := _answers(port)) and process.alive() and time.monotonic() < end:
            time.sleep(0.05)
        # Alive as well: otherwise another program has taken the port, and answered.
        if healthy and process.alive():
            os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
            refresh_global_settings_context()
            return
        process.stop(5)
    raise PipelineError(
        f"The Prefect server of this command does not start; read {log} for why, or set "
        "PREFECT_API_URL to a server that runs."
    )


def _command(port: int) -> list[str]:
    return [
        *("env", *_SETTINGS, sys.executable, "-m", "uvicorn", "--factory"),
        *("prefect.server.api.server:create_app", "--lifespan", "on", "--log-level", "error"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
