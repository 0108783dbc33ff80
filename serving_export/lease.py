"""Holding the loading lease: who holds it, whether the holder still lives, and keeping it.

Cosmos DB cannot refuse a document because of another one, so a load that lost its lease must stop
by itself. `LeaseKeeper` renews from a thread of its own every ten seconds, and says to the writers
before each request until when the lease is surely held: five seconds less than it is, counted on
this machine's steady clock, which all its processes share, from before the last renewal was sent.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from serving_export import slots
from serving_export.control import ControlStore
from serving_export.errors import ExportError, HeldByAnotherError, UnavailableError
from serving_export.slots import Control, Loading

_LOG = logging.getLogger(__name__)

_RENEW_SECONDS = 10.0
_MARGIN_SECONDS = 5.0

# Loads of this very process, which may have left one behind when the service was away.
_HERE: set[str] = set()


def holder_name(run_id: str) -> str:
    """This process for people to read: host:pid:run id."""
    return f"{socket.gethostname()}:{os.getpid()}:{run_id}"


def process_identity(pid: int | None = None) -> str | None:
    """What names a process on this machine for good: boot, pid namespace, pid and start time.

    A pid alone is used again after a while, and is another process in another container.

    Args:
        pid: the process; this one when None.

    Returns:
        None where there is no /proc, or no such process.
    """
    pid = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        # Field 22, counted after the command's closing parenthesis, may not be split before it.
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if stat[0] in ("Z", "X"):
        return None  # killed, and only waiting for its parent to notice
    return f"{boot}/{namespace}/{pid}/{stat[19]}"


def is_alive(loading: Loading) -> bool | None:
    """Whether the holder of a lease still runs; None when this machine cannot tell."""
    here = process_identity()
    if loading.process is None or here is None:
        return None
    if loading.process == here:
        return loading.load in _HERE
    place, pid, _ = loading.process.rsplit("/", 2)
    if place != here.rsplit("/", 2)[0]:
        return None
    return process_identity(int(pid)) == loading.process


@contextmanager
def holding(
    store: ControlStore, *, version: str, run_id: str, load: str
) -> Iterator[tuple[Control, LeaseKeeper]]:
    """Take the loading lease and renew it until left; it is not given back at the end.

    A lease of a process that is gone is taken over at once, and so is one that has ended. When the
    same run holds it from a machine that cannot be looked at, that is most likely this very run
    before it was killed: its lease is waited for, unless somebody renews it.

    Args:
        store: where the lease is.
        version: the version to be loaded.
        run_id: the run that made it.
        load: a new unique id for this load.

    Yields:
        The state with this load in it, and the keeper to ask before each write.

    Raises:
        HeldByAnotherError: a live load, or one that may be alive, holds the lease.
    """
    _HERE.add(load)
    try:
        control = _acquire(store, version=version, run_id=run_id, load=load)
        with LeaseKeeper(store, load) as keeper:
            yield control, keeper
    finally:
        _HERE.discard(load)


def _acquire(store: ControlStore, *, version: str, run_id: str, load: str) -> Control:
    wanted = Loading(
        slot="",
        version=version,
        run_id=run_id,
        holder=holder_name(run_id),
        process=process_identity(),
        load=load,
        expires_at=_now(),
    )

    def begin(control: Control) -> Control:
        held = control.loading
        abandoned = held is not None and is_alive(held) is False
        return slots.begin_load(control, wanted, now=_now(), abandoned=abandoned)

    waited_for: Loading | None = None
    while True:
        try:
            return store.update(begin)
        except HeldByAnotherError:
            held = store.read().loading
            if held is None:
                continue
            unclear = held.run_id == run_id and is_alive(held) is None
            if not unclear or waited_for not in (None, held):
                raise
            waited_for = held
            _LOG.info("waiting for the lease of %s to end", held.holder)
            time.sleep(max(0.0, (held.expires_at - _now()).total_seconds()) + 0.05)


class LeaseKeeper:
    """Renews the lease of a load until it is left.

    Args:
        store: where the lease is.
        load: the load that holds it, just acquired.
    """

    def __init__(self, store: ControlStore, load: str) -> None:
        # A renewal that hangs must leave time for the next one before the lease ends.
        self._store = replace(store, patience=_RENEW_SECONDS / 2)
        self._load = load
        self._stop = threading.Event()
        self._lost: ExportError | None = None
        self._sure_until = time.monotonic() + slots.LEASE.total_seconds() - _MARGIN_SECONDS
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def held_until(self) -> float:
        """Until when, on `time.monotonic`, the lease is surely held; renewing moves it on.

        Raises:
            ExportError: it has passed to another.
        """
        if self._lost is not None:
            raise self._lost
        return self._sure_until

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            started = time.monotonic()
            try:
                self._store.update(lambda c: slots.renew(c, self._load, now=_now()))
            except UnavailableError as error:
                _LOG.warning("the lease could not be renewed: %s", error)
            except ExportError as error:
                self._lost = error
                return
            else:
                self._sure_until = started + slots.LEASE.total_seconds() - _MARGIN_SECONDS


def _now() -> datetime:
    return datetime.now(UTC)
