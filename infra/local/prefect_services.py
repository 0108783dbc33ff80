"""Prefect on this machine: its server, and a worker for each work pool.

The server keeps its database in `<home>/prefect`, serves its user interface, and wants a password:
made at the first start, kept in `<home>/prefect/auth` where only its owner reads it, handed to
processes in their environment and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.local.service import Service, locked, recorded, running_port, start_all, stop

CPU_POOL: Final = "hyperrec-cpu"
GPU_POOL: Final = "hyperrec-gpu"

CALLS_NOBODY: Final = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
"""Variables without which Prefect reports how it is used."""

# As infra.local.prefect_app names it, which only the server itself needs to import.
_SERVER_NAME: Final = "hyperrec-prefect"
_USER: Final = "hyperrec"
# It imports much and writes its tables first; on a busy machine that is a minute.
_START_SECONDS: Final = 180.0


@dataclass(frozen=True)
class LocalPrefect:
    """A Prefect server that runs.

    Attributes:
        api_url: `http://127.0.0.1:PORT/api`.
        auth: what its clients sign in with, `user:password`.
        pools: work pools that have a worker.
    """

    api_url: str
    auth: str = field(repr=False)
    pools: tuple[str, ...]

    @property
    def ui_url(self) -> str:
        """Where its user interface is."""
        return self.api_url.removesuffix("/api")


def _server_command(port: int, _data: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--factory", "infra.local.prefect_app:create_app"),
        *("--host", "127.0.0.1", "--port", str(port), "--lifespan", "on"),
        *("--log-level", "warning", "--no-server-header"),
    ]


def _server_environment(home: Path, port: int) -> Mapping[str, str]:
    origin = f"http://127.0.0.1:{port}"
    return CALLS_NOBODY | {
        "TZ": "UTC",
        "PREFECT_HOME": str(home / _SERVER.folder),
        "PREFECT_SERVER_API_AUTH_STRING": _auth(home),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        # A server is no client: whatever the caller has set would lead its own links elsewhere.
        "PREFECT_API_URL": f"{origin}/api",
        "PREFECT_UI_URL": origin,
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / _SERVER.folder / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT__SERVER_FINAL": "1",
    }


_SERVER: Final = Service(
    key="prefect",
    title="the Prefect server",
    folder="prefect",
    health_path="/api/health",
    signature=_SERVER_NAME,
    command=_server_command,
    environment=_server_environment,
    start_seconds=_START_SECONDS,
)


def _worker(pool: str) -> Service:
    def command(_port: int, _data: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "prefect", "worker", "start", "--pool", pool),
            *("--type", "process", "--name", f"local {pool}", "--with-healthcheck"),
            *("--install-policy", "never"),
        ]

    def environment(home: Path, port: int) -> Mapping[str, str]:
        _, server = recorded(home, _SERVER)
        return CALLS_NOBODY | {
            "TZ": "UTC",
            "PREFECT_HOME": str(home / pool),
            "PREFECT_API_URL": f"http://127.0.0.1:{server}/api",
            "PREFECT_API_AUTH_STRING": _auth(home),
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(port),
            "PREFECT_WORKER_QUERY_SECONDS": "5",
            # So that a flow run whose process is gone is noticed.
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            # Flows run in folders of their own and still find the stores of this home.
            "HYPERREC_HOME": str(home),
        }

    key = pool.replace("hyperrec-", "worker-")
    title = f"the worker of {pool}"
    signature = '"message":"OK"'
    return Service(key, title, pool, "/health", signature, command, environment, _START_SECONDS)


_WORKERS: Final = {pool: _worker(pool) for pool in (CPU_POOL, GPU_POOL)}


def has_gpu() -> bool:
    """Whether this machine has a GPU that CUDA can use."""
    return Path("/dev/nvidia0").exists()


def up(home: Path, *, port: int = 0, gpu: bool | None = None) -> LocalPrefect:
    """Starts the server and the workers that do not run yet; returns when all answer.

    Args:
        home: folder of state, logs and data.
        port: the server's; 0 means the last one when it is free, else any free one.
        gpu: whether there is to be a worker for the GPU pool; by default where there is a GPU.

    Raises:
        LocalServiceError: when the wanted port is taken or a service does not start.
    """
    home = home.resolve()
    with locked(home):
        _auth(home)
        before = recorded(home, _SERVER)[1]
        at = start_all(home, [(_SERVER, port)])[_SERVER.key]
        if at != before:
            # They would knock at the old door for ever.
            for worker in _WORKERS.values():
                stop(home, worker, tree=True)
        pools = (CPU_POOL, GPU_POOL) if gpu or (gpu is None and has_gpu()) else (CPU_POOL,)
        start_all(home, [(_WORKERS[pool], 0) for pool in pools])
    found = running(home)
    assert found is not None  # noqa: S101 (it has just answered)
    return found


def running(home: Path) -> LocalPrefect | None:
    """The server that was started for this home, is alive and answers; None when there is none."""
    home = home.resolve()
    port = running_port(home, _SERVER)
    if port is None:
        return None
    pools = [pool for pool, worker in _WORKERS.items() if running_port(home, worker) is not None]
    return LocalPrefect(f"http://127.0.0.1:{port}/api", _auth(home), tuple(pools))


def stop_all(home: Path) -> list[str]:
    """Stops workers, the flow runs they have under way, and the server, in this order.

    To be called while the home is locked.

    Returns:
        The titles of what it stopped.
    """
    stopped = [each.title for each in _WORKERS.values() if stop(home, each, tree=True)]
    # Last, so that the runs can still tell it that they end.
    return stopped + ([_SERVER.title] if stop(home, _SERVER) else [])


def _auth(home: Path) -> str:
    """User and password of the server; made when there are none."""
    path = home / _SERVER.folder / "auth"
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(f"{_USER}:{secrets.token_urlsafe(24)}")
    return path.read_text()
