"""Child processes that outlive their starter or die with it, known by pid and start time.

A pid alone may belong to somebody else by the time it is read back from a file; the boot and the
start time of the process, from /proc, tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_ROOT = Path(__file__).resolve().parents[2]
# Popen objects of detached children: kept so that they can be reaped when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Process:
    """A process, told apart from later ones with the same pid by `started`."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        if self.pid in _children:
            _children[self.pid].poll()
        return _started(self.pid) == self.started

    def stop(self, grace: float, *, tree: bool = False) -> None:
        """Ends the process: SIGTERM, and SIGKILL after `grace` seconds. Returns when it is gone.

        Args:
            grace: seconds between the two.
            tree: end what it has started, too, in the same way, after itself.
        """
        started = descendants(self.pid) if tree and self.alive() else []
        self._end(grace)
        for each in started:
            each._end(grace)

    def _end(self, grace: float) -> None:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + patience
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.02)


def _started(pid: int) -> str | None:
    """Boot id and start time in clock ticks since then; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The command name in the second field may hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    # A killed leader is a zombie at once; its port is free when its last thread has ended, too.
    ended = fields[0] in "ZX" and int(fields[17]) <= 1
    return None if ended else f"{boot}/{fields[19]}"


def descendants(pid: int) -> list[Process]:
    """The processes that a process has started, and those that they have, parents first."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid, []))
    for each in found:
        found.extend(children.get(each, []))
    return [Process(each, _started(each) or "ended") for each in found]


def start(
    command: Sequence[str],
    log: Path,
    *,
    dies_with_caller: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Starts a process with its output in a log file and no other tie to the caller's files.

    Args:
        command: program and arguments.
        log: file the output is appended to.
        environment: variables beside the caller's own.
        dies_with_caller: True: the kernel ends it when the calling thread ends, however that
            happens. False: it runs on in a session of its own.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=_die_with_caller if dies_with_caller else None,  # noqa: PLW1509
        )
    _children[child.pid] = child
    return Process(child.pid, _started(child.pid) or "ended")


def _die_with_caller() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        # As the servers do: a port with connections in TIME_WAIT is free, one listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
