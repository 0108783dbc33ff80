"""Start, find and stop Azurite and the Cosmos endpoint of one home folder.

`<home>/services.json` names processes and ports (no keys), `<home>/logs/` has their output,
`<home>/azurite` and `<home>/cosmos` their data.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.local.process import Process, free_port, is_free, start
from infra.local.published_keys import AZURITE_ACCOUNT

logger = logging.getLogger(__name__)

_HERE: Final = Path(__file__).resolve().parent
_START_SECONDS: Final = 60.0
# Azurite writes its tables of contents to disk on SIGTERM; give a large one time.
_GRACE_SECONDS: Final = 15.0
_ATTEMPTS: Final = 3


class LocalServiceError(Exception):
    """A local service cannot run; one sentence says which, why and what to do."""


@dataclass(frozen=True)
class LocalServices:
    """Endpoints of what runs.

    Attributes:
        blob_endpoint: `http://127.0.0.1:PORT/devstoreaccount1`; None without Node or Azurite.
        cosmos_endpoint: `http://127.0.0.1:PORT`.
    """

    blob_endpoint: str | None
    cosmos_endpoint: str


@dataclass(frozen=True)
class _Service:
    key: str
    title: str
    folder: str
    health_path: str
    # What the answer to `health_path` starts its Server header or body with.
    signature: str

    def command(self, port: int, data: Path) -> list[str] | None:
        """Program and arguments; None when the program is not installed."""
        if self is _COSMOS:
            module = [sys.executable, "-m", "infra.local.cosmos"]
            return [*module, "--host", "127.0.0.1", "--port", str(port), "--data", str(data)]
        node = shutil.which("node")
        script = _HERE / "node_modules" / ".bin" / "azurite-blob"
        if node is None or not script.exists():
            return None
        # Without the last two flags Azurite sends telemetry and refuses newer API versions.
        return [
            node, str(script.resolve()), "--blobHost", "127.0.0.1", "--blobPort", str(port),
            "--location", str(data), "--silent", "--disableTelemetry", "--skipApiVersionCheck",
        ]  # fmt: skip

    def answers(self, port: int) -> bool:
        """Whether this service, and not another program, answers on the port."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", self.health_path)
            response = connection.getresponse()
            text = response.headers.get("Server", "") + response.read(1000).decode("latin-1")
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return self.signature in text


_BLOB: Final = _Service("blob", "Azurite", "azurite", f"/{AZURITE_ACCOUNT}?comp=list", "Azurite")
_COSMOS: Final = _Service(
    "cosmos", "the Cosmos endpoint", "cosmos", "/_local/health", '"service": "cosmos"'
)


def azurite_installed() -> bool:
    """Whether Node and Azurite are there (`npm ci --prefix infra/local` installs Azurite)."""
    return _BLOB.command(0, _HERE) is not None


def up(home: Path, *, blob_port: int = 0, cosmos_port: int = 0) -> LocalServices:
    """Starts what does not run yet and returns when everything answers.

    Args:
        home: folder of state, logs and data.
        blob_port: Azurite's port; 0 means the last one when it is free, else any free one.
        cosmos_port: the Cosmos endpoint's port, likewise.

    Raises:
        LocalServiceError: when a wanted port is taken or a service does not start.
    """
    home = home.resolve()
    with _locked(home):
        wanted = [(_COSMOS, cosmos_port)]
        if azurite_installed():
            wanted.append((_BLOB, blob_port))
        else:
            logger.warning(
                "No Azurite: Node 20 or infra/local/node_modules is missing; install Node and run "
                "'npm ci --prefix infra/local' to store blobs in Azurite."
            )
        for attempt in range(_ATTEMPTS):
            started = [(service, *_ensure(home, service, port)) for service, port in wanted]
            late = [s for s, process, port in started if not _wait(s, process, port)]
            if not late:
                ports = {service.key: port for service, _, port in started}
                return _endpoints(ports)
            if attempt + 1 == _ATTEMPTS:
                log = home / "logs" / f"{late[0].folder}.log"
                raise LocalServiceError(f"{_name(late[0])} does not start; read {log} for why.")
            for service in late:
                # Between the choice of a free port and its use another program can take it.
                _forget(home, service)
    raise AssertionError("unreachable")


def running(home: Path) -> LocalServices | None:
    """What runs now: started by `up` for this home, alive and answering. None without Cosmos."""
    state = _read_state(home.resolve())
    ports = {}
    for service in (_COSMOS, _BLOB):
        process, port = _recorded(state, service)
        if process is not None and process.alive() and service.answers(port):
            ports[service.key] = port
    return _endpoints(ports) if _COSMOS.key in ports else None


def down(home: Path) -> list[str]:
    """Stops what `up` started for this home; returns the names of what it stopped."""
    home = home.resolve()
    if not home.exists():
        return []
    stopped = []
    with _locked(home):
        for service in (_BLOB, _COSMOS):
            process, _ = _recorded(_read_state(home), service)
            if process is not None and process.alive():
                process.stop(_GRACE_SECONDS)
                stopped.append(service.title)
            _forget(home, service)
    return stopped


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
def _server(service: _Service, data: Path) -> Iterator[int]:
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        port = free_port()
        command = service.command(port, data)
        if command is None:
            raise LocalServiceError(
                "Azurite is not installed; run 'npm ci --prefix infra/local' with Node 20."
            )
        process = start(command, data / "server.log", dies_with_caller=True)
        try:
            if _wait(service, process, port):
                yield port
                return
        finally:
            process.stop(_GRACE_SECONDS)
    log = data / "server.log"
    raise LocalServiceError(f"{_name(service)} does not start; read {log} for why.")


def _name(service: _Service) -> str:
    return service.title[0].upper() + service.title[1:]


def _endpoints(ports: dict[str, int]) -> LocalServices:
    blob = f"http://127.0.0.1:{ports['blob']}/{AZURITE_ACCOUNT}" if "blob" in ports else None
    return LocalServices(blob, f"http://127.0.0.1:{ports['cosmos']}")


def _ensure(home: Path, service: _Service, wanted: int) -> tuple[Process, int]:
    """The service's process and port; started when it does not run."""
    process, last = _recorded(_read_state(home), service)
    if process is not None and process.alive():
        if wanted not in (0, last):
            raise LocalServiceError(
                f"{_name(service)} of {home} already runs on port {last}, not on port {wanted}; "
                "stop it first or leave the port out."
            )
        # It answers, or another `up` died while it was starting and it soon will.
        if _wait(service, process, last):
            return process, last
        process.stop(_GRACE_SECONDS)
    if wanted and not is_free(wanted):
        raise LocalServiceError(
            f"Port {wanted} for {service.title} is taken by another program; stop that program or "
            "choose another port."
        )
    port = wanted or (last if last and is_free(last) else free_port())
    data = home / service.folder
    data.mkdir(parents=True, exist_ok=True)
    command = service.command(port, data)
    assert command is not None  # noqa: S101 (`up` asked before)
    process = start(command, home / "logs" / f"{service.folder}.log")
    _record(home, service, {"pid": process.pid, "started": process.started, "port": port})
    return process, port


def _wait(service: _Service, process: Process, port: int) -> bool:
    """Waits until the service answers; False when its process ends or time is up."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if not process.alive():
            return False
        if service.answers(port):
            # Alive after the answer, too: then it was not another program that answered.
            return process.alive()
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One `up` or `down` at a time for a home; the kernel frees the lock of a killed one."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_state(home: Path) -> dict[str, Any]:
    try:
        state = json.loads((home / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _recorded(state: dict[str, Any], service: _Service) -> tuple[Process | None, int]:
    """The process on record (None when it was stopped) and its last port (0: never had one)."""
    entry = state.get(service.key, {})
    process = Process(entry["pid"], entry["started"]) if "pid" in entry else None
    return process, int(entry.get("port", 0))


def _record(home: Path, service: _Service, entry: dict[str, Any]) -> None:
    state = _read_state(home) | {service.key: entry}
    part = home / "services.json.part"
    part.write_text(json.dumps(state, indent=2) + "\n")
    os.replace(part, home / "services.json")  # noqa: PTH105 (same call, and the usual name for it)


def _forget(home: Path, service: _Service) -> None:
    """Keeps the port for the next start and drops the process."""
    _, port = _recorded(_read_state(home), service)
    if port:
        _record(home, service, {"port": port})
