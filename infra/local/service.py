"""A service of this machine as a process on record: started once, found again, stopped.

`<home>/services.json` names processes and ports (no keys), `<home>/logs/` has their output.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.local.process import Process, free_port, is_free, start

# Azurite writes its tables of contents to disk on SIGTERM; give a large one time.
GRACE_SECONDS: Final = 15.0
ATTEMPTS: Final = 3


class LocalServiceError(Exception):
    """A local service cannot run; one sentence says which, why and what to do."""


def _nothing(_home: Path, _port: int) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Service:
    """What there is to know of a service in order to run it.

    Attributes:
        key: its name in `services.json`.
        title: its name in sentences.
        folder: of its data below the home; also the name of its log.
        health_path: asked to see whether it answers.
        signature: stands in the Server header or the body of that answer.
        command: program and arguments for a port and a data folder; None when not installed.
        environment: variables for a home and a port.
        start_seconds: after so many without an answer it counts as not starting.
    """

    key: str
    title: str
    folder: str
    health_path: str
    signature: str
    command: Callable[[int, Path], list[str] | None]
    environment: Callable[[Path, int], Mapping[str, str]] = _nothing
    start_seconds: float = 60.0

    @property
    def name(self) -> str:
        """The title as a sentence begins with it."""
        return self.title[0].upper() + self.title[1:]

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


def start_all(home: Path, wanted: Sequence[tuple[Service, int]]) -> dict[str, int]:
    """Starts what does not run yet, all at once, and returns when everything answers.

    To be called while the home is locked.

    Args:
        home: folder of state, logs and data.
        wanted: services with their ports; 0 means the last one when it is free, else any free one.

    Returns:
        The ports by key.

    Raises:
        LocalServiceError: when a wanted port is taken or a service does not start.
    """
    for attempt in range(ATTEMPTS):
        started = [(service, *_ensure(home, service, port)) for service, port in wanted]
        late = [s for s, process, port in started if not wait(s, process, port)]
        if not late:
            return {service.key: port for service, _, port in started}
        if attempt + 1 == ATTEMPTS:
            log = home / "logs" / f"{late[0].folder}.log"
            raise LocalServiceError(f"{late[0].name} does not start; read {log} for why.")
        for service in late:
            # Between the choice of a free port and its use another program can take it.
            forget(home, service)
    raise AssertionError("unreachable")


def running_port(home: Path, service: Service) -> int | None:
    """The port of a service that was started for this home, is alive and answers."""
    process, port = recorded(home, service)
    alive = process is not None and process.alive() and service.answers(port)
    return port if alive else None


def stop(home: Path, service: Service, *, tree: bool = False) -> bool:
    """Stops a service; returns whether it ran. Its port stays on record for the next start."""
    process, _ = recorded(home, service)
    alive = process is not None and process.alive()
    if alive:
        assert process is not None  # noqa: S101 (alive)
        process.stop(GRACE_SECONDS, tree=tree)
    forget(home, service)
    return alive


def _ensure(home: Path, service: Service, wanted: int) -> tuple[Process, int]:
    """The service's process and port; started when it does not run."""
    process, last = recorded(home, service)
    if process is not None and process.alive():
        if wanted not in (0, last):
            raise LocalServiceError(
                f"{service.name} of {home} already runs on port {last}, not on port {wanted}; "
                "stop it first or leave the port out."
            )
        # It answers, or another `up` died while it was starting and it soon will.
        if wait(service, process, last):
            return process, last
        process.stop(GRACE_SECONDS)
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
    log = home / "logs" / f"{service.folder}.log"
    process = start(command, log, environment=service.environment(home, port))
    _record(home, service, {"pid": process.pid, "started": process.started, "port": port})
    return process, port


def wait(service: Service, process: Process, port: int) -> bool:
    """Waits until the service answers; False when its process ends or time is up."""
    deadline = time.monotonic() + service.start_seconds
    while time.monotonic() < deadline:
        if not process.alive():
            return False
        if service.answers(port):
            # Alive after the answer, too: then it was not another program that answered.
            return process.alive()
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """One `up` or `down` at a time for a home; the kernel frees the lock of a killed one."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def recorded(home: Path, service: Service) -> tuple[Process | None, int]:
    """The process on record (None when it was stopped) and its last port (0: never had one)."""
    entry = _read_state(home).get(service.key, {})
    process = Process(entry["pid"], entry["started"]) if "pid" in entry else None
    return process, int(entry.get("port", 0))


def forget(home: Path, service: Service) -> None:
    """Keeps the port for the next start and drops the process."""
    _, port = recorded(home, service)
    if port:
        _record(home, service, {"port": port})


def _read_state(home: Path) -> dict[str, Any]:
    try:
        state = json.loads((home / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _record(home: Path, service: Service, entry: dict[str, Any]) -> None:
    state = _read_state(home) | {service.key: entry}
    part = home / "services.json.part"
    part.write_text(json.dumps(state, indent=2) + "\n")
    os.replace(part, home / "services.json")  # noqa: PTH105 (same call, and the usual name for it)
