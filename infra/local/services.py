"""Start, find and stop Azurite and the Cosmos endpoint of one home folder.

`<home>/azurite` and `<home>/cosmos` hold their data. Prefect, which runs flows against these
stores, is in `prefect_services.py`; `down` stops it, too.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.local import prefect_services
from infra.local.process import free_port, start
from infra.local.published_keys import AZURITE_ACCOUNT
from infra.local.service import (
    ATTEMPTS,
    GRACE_SECONDS,
    LocalServiceError,
    Service,
    locked,
    running_port,
    start_all,
    stop,
    wait,
)

__all__ = [
    "LocalServiceError",
    "LocalServices",
    "azurite_installed",
    "azurite_server",
    "cosmos_server",
    "down",
    "running",
    "up",
]

logger = logging.getLogger(__name__)

_HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True)
class LocalServices:
    """Endpoints of the stores that run.

    Attributes:
        blob_endpoint: `http://127.0.0.1:PORT/devstoreaccount1`; None without Node or Azurite.
        cosmos_endpoint: `http://127.0.0.1:PORT`.
    """

    blob_endpoint: str | None
    cosmos_endpoint: str


def _azurite(port: int, data: Path) -> list[str] | None:
    node = shutil.which("node")
    script = _HERE / "node_modules" / ".bin" / "azurite-blob"
    if node is None or not script.exists():
        return None
    # Without the last two flags Azurite sends telemetry and refuses newer API versions.
    return [
        node, str(script.resolve()), "--blobHost", "127.0.0.1", "--blobPort", str(port),
        "--location", str(data), "--silent", "--disableTelemetry", "--skipApiVersionCheck",
    ]  # fmt: skip


def _cosmos(port: int, data: Path) -> list[str]:
    module = [sys.executable, "-m", "infra.local.cosmos"]
    return [*module, "--host", "127.0.0.1", "--port", str(port), "--data", str(data)]


_BLOB: Final = Service(
    "blob", "Azurite", "azurite", f"/{AZURITE_ACCOUNT}?comp=list", "Azurite", _azurite
)
_COSMOS: Final = Service(
    "cosmos", "the Cosmos endpoint", "cosmos", "/_local/health", '"service": "cosmos"', _cosmos
)


def azurite_installed() -> bool:
    """Whether Node and Azurite are there (`npm ci --prefix infra/local` installs Azurite)."""
    return _BLOB.command(0, _HERE) is not None


def up(home: Path, *, blob_port: int = 0, cosmos_port: int = 0) -> LocalServices:
    """Starts the stores that do not run yet and returns when both answer.

    Args:
        home: folder of state, logs and data.
        blob_port: Azurite's port; 0 means the last one when it is free, else any free one.
        cosmos_port: the Cosmos endpoint's port, likewise.

    Raises:
        LocalServiceError: when a wanted port is taken or a service does not start.
    """
    home = home.resolve()
    with locked(home):
        wanted = [(_COSMOS, cosmos_port)]
        if azurite_installed():
            wanted.append((_BLOB, blob_port))
        else:
            logger.warning(
                "No Azurite: Node 20 or infra/local/node_modules is missing; install Node and run "
                "'npm ci --prefix infra/local' to store blobs in Azurite."
            )
        return _endpoints(start_all(home, wanted))


def running(home: Path) -> LocalServices | None:
    """The stores that run now: started by `up` for this home, alive and answering.

    None without Cosmos.
    """
    home = home.resolve()
    ports = {
        service.key: port
        for service in (_COSMOS, _BLOB)
        if (port := running_port(home, service)) is not None
    }
    return _endpoints(ports) if _COSMOS.key in ports else None


def down(home: Path) -> list[str]:
    """Stops what was started for this home, workers first; returns the names of what it stopped.

    Flow runs that a worker has under way end with it; the next worker takes them up again once
    Prefect has found them lost, and they go on where they stopped.
    """
    home = home.resolve()
    if not home.exists():
        return []
    with locked(home):
        stopped = prefect_services.stop_all(home)
        return stopped + [service.title for service in (_BLOB, _COSMOS) if stop(home, service)]


@contextlib.contextmanager
def cosmos_server(data: Path) -> Iterator[str]:
    """A Cosmos endpoint of one's own for a test; it dies with the calling process.

    Yields:
        Its endpoint, `http://127.0.0.1:PORT`.
    """
    with _server(_COSMOS, data) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def azurite_server(data: Path) -> Iterator[str]:
    """An Azurite of one's own for a test; it dies with the calling process.

    Yields:
        Its blob endpoint, `http://127.0.0.1:PORT/devstoreaccount1`.

    Raises:
        LocalServiceError: when Node or Azurite is missing.
    """
    with _server(_BLOB, data) as port:
        yield f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"


@contextlib.contextmanager
def _server(service: Service, data: Path) -> Iterator[int]:
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    for _ in range(ATTEMPTS):
        port = free_port()
        command = service.command(port, data)
        if command is None:
            raise LocalServiceError(
                "Azurite is not installed; run 'npm ci --prefix infra/local' with Node 20."
            )
        process = start(command, data / "server.log", dies_with_caller=True)
        try:
            if wait(service, process, port):
                yield port
                return
        finally:
            process.stop(GRACE_SECONDS)
    log = data / "server.log"
    raise LocalServiceError(f"{service.name} does not start; read {log} for why.")


def _endpoints(ports: dict[str, int]) -> LocalServices:
    blob = f"http://127.0.0.1:{ports['blob']}/{AZURITE_ACCOUNT}" if "blob" in ports else None
    return LocalServices(blob, f"http://127.0.0.1:{ports['cosmos']}")
