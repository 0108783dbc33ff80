"""One run at a time for a target: a lease in the storage of runs, which a killed holder loses.

Layout below the storage of runs::

    leases/<target>/<number>.json     one a holder; the highest number counts

To take the lease is to create the next number, which only one of two can (`Storage.create`, the
one conditional put on which manifests rest, too); so the number also says who came after whom. The
holder alone writes its own blob: every ten seconds, that the lease lasts for another minute, and at
the end, that it is released. One that was killed renews no more, and another takes the next number
when the minute is over: at once where the holder was a process of this machine that is gone.

Clocks of different machines must agree to within some ten seconds, as NTP keeps them. Should two
runs work side by side after all, nothing is damaged: a stage belongs to its first manifest, and a
slot of the published version to the loading lease of the control document. What this lease
prevents is the waste, and that two nights are judged against the same active version.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict

from pipelines.errors import AlreadyExistsError, HeldError, NotFoundError, StorageError
from pipelines.storage import Storage
from serving_export.lease import process_identity

log = logging.getLogger(__name__)

TERM_SECONDS = 60.0
"""How long a lease lasts unless renewed: a store that is away for less costs nobody theirs."""
RENEW_SECONDS = 10.0
_LOOK_SECONDS = 1.0


class _Holder(BaseModel):
    """What a blob of the lease says. `owner` is equal for two tries at the same flow run."""

    model_config = ConfigDict(frozen=True)

    holder: str
    owner: str
    process: str | None
    since: datetime
    until: datetime
    released: bool = False


class Lease:
    """A lease that is held; made by `holding`."""

    def __init__(self, storage: Storage, target: str, number: int, holder: _Holder) -> None:
        self._storage = storage
        self._target = target
        self._number = number
        self._holder = holder
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._keep, name="run lease", daemon=True)

    def check(self) -> None:
        """Raise `HeldError` when the lease has passed to another, as between two stages."""
        if self._lost or (newest := _newest(self._storage, self._target)) != self._number:
            found = None if self._lost else _read(self._storage, self._target, newest)
            by = "another run" if found is None else found.holder
            raise HeldError(
                f"This run lost its lease on {self._target} to {by} while it could not renew it; "
                "give it again, which resumes."
            )

    def _keep(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            try:
                self._renew()
            except StorageError as error:
                log.warning("The lease on %s could not be renewed: %s", self._target, error)
            if self._lost:
                return

    def _renew(self) -> None:
        if _newest(self._storage, self._target) != self._number:
            self._lost = True
            return
        until = datetime.now(UTC) + timedelta(seconds=TERM_SECONDS)
        self._write(self._holder.model_copy(update={"until": until}))

    def _write(self, holder: _Holder) -> None:
        self._storage.write(_name(self._target, self._number), _to_json(holder))

    def _begin(self) -> None:
        self._thread.start()

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()
        # Nobody waits for longer than the term, should this fail.
        with suppress(StorageError):
            if not self._lost:
                self._write(self._holder.model_copy(update={"released": True}))


@contextmanager
def holding(storage: Storage, target: str, *, holder: str, owner: str) -> Iterator[Lease]:
    """Hold the lease of a target for a block.

    A holder that seems alive is watched until it renews; one that does not is overtaken when its
    lease ends, which is a minute after it was killed.

    Args:
        storage: of runs.
        target: what is worked on, such as `item-embeddings`.
        holder: who this is, for people: the run's name.
        owner: the flow run's id: another try at the same flow run takes the lease over at once.

    Raises:
        HeldError: another run holds it; the message says which and since when.
        StorageError: the storage of runs was away, or refused.
    """
    lease = _take(storage, target, holder=holder, owner=owner)
    lease._begin()
    try:
        yield lease
    finally:
        lease._end()


def _take(storage: Storage, target: str, *, holder: str, owner: str) -> Lease:
    seen: _Holder | None = None
    while True:
        newest = _newest(storage, target)
        held = _read(storage, target, newest)
        now = datetime.now(UTC)
        if newest and held is None:
            continue  # the next holder has just tidied up
        if held is None or _is_free(held, owner, now):
            if held is not None and not held.released:
                log.info("Taking over the lease of %s, which is gone.", held.holder)
            mine = _Holder(
                holder=f"{holder} on {socket.gethostname()}, process {os.getpid()}",
                owner=owner,
                process=process_identity(),
                since=now,
                until=now + timedelta(seconds=TERM_SECONDS),
            )
            with suppress(AlreadyExistsError):
                storage.create(_name(target, newest + 1), _to_json(mine))
                for number in _numbers(storage, target):
                    if number <= newest:
                        storage.delete(_name(target, number))
                return Lease(storage, target, newest + 1, mine)
            continue
        if _runs_here(held) or (seen is not None and seen.until != held.until):
            raise HeldError(
                f"{held.holder} works on {target} since {held.since:%Y-%m-%d %H:%M:%S} UTC: wait "
                "for its end or cancel it, and start this run again."
            )
        if seen is None:
            log.info("Waiting to see whether %s still runs.", held.holder)
        seen = held
        time.sleep(_LOOK_SECONDS)


def _is_free(held: _Holder, owner: str, now: datetime) -> bool:
    gone = held.process is not None and _runs_here(held) is False
    return held.released or held.owner == owner or held.until <= now or gone


def _runs_here(held: _Holder) -> bool | None:
    """Whether the holder is a living process of this machine; None when it is of another."""
    here = process_identity()
    if held.process is None or here is None:
        return None
    place, pid, _ = held.process.rsplit("/", 2)
    if place != here.rsplit("/", 2)[0]:
        return None
    return process_identity(int(pid)) == held.process


def _name(target: str, number: int) -> str:
    return f"leases/{target}/{number:08d}.json"


def _numbers(storage: Storage, target: str) -> list[int]:
    names = [blob.name for blob in storage.list(f"leases/{target}/")]
    return [int(name.rpartition("/")[2].removesuffix(".json")) for name in names]


def _newest(storage: Storage, target: str) -> int:
    return max(_numbers(storage, target), default=0)


def _read(storage: Storage, target: str, number: int) -> _Holder | None:
    try:
        return _Holder.model_validate_json(storage.read(_name(target, number)))
    except NotFoundError:
        return None


def _to_json(holder: _Holder) -> bytes:
    return holder.model_dump_json(indent=1).encode()
