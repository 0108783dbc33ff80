"""Writing with several processes: the parent holds the lease and hands out the documents.

The client takes about a millisecond of CPU a write, so one process writes at most a thousand
documents a second whatever the service could take. Each child (`child.py`) gets a share of the
budget at its start and documents as it finishes them, so that a slow one does not hold up the
rest. Lines of JSON go both ways over its pipes; the key, too, which therefore stands in no file,
argument or variable of the environment.

Nothing outlives the parent: the kernel kills a child whose parent's thread has ended, a child that
reads the end of its input before it was told to finish ends at once, and one that has not heard
for a while that the lease is held stops writing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving_export import errors
from serving_export.client import Credential
from serving_export.meter import Meter
from serving_export.pacing import Pace
from serving_export.writer import Document

_ROOT = Path(__file__).resolve().parents[1]

# Documents that a child holds: what it writes between two of its reports, and a little more.
_AHEAD = 256
_RENEW_SECONDS = 1.0
_LINE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """The container that children write to, and how."""

    endpoint: str
    credential: Credential
    database: str
    container: str
    patience: float


async def upsert(
    target: Target,
    documents: Iterable[Document],
    *,
    pace: Pace,
    processes: int,
    held_until: Callable[[], float],
    meter: Meter,
) -> None:
    """Write documents with several processes.

    Args:
        target: where to.
        documents: what; taken as the children ask for them.
        pace: the budget, shared among them.
        processes: how many.
        held_until: until when, on `time.monotonic`, the lease is surely held; raises when lost.
        meter: counts what they report.

    Raises:
        ProcessEndedError: a child ended by itself or was killed.
        UnavailableError, CredentialsError, ExportError: as `writer.Writer.upsert`.
    """
    queue = iter(documents)
    share = pace.request_units and pace.request_units / processes
    first = {
        "endpoint": target.endpoint,
        "key": target.credential if isinstance(target.credential, str) else None,
        "database": target.database,
        "container": target.container,
        "patience": target.patience,
        "request_units": share,
        "burst_seconds": pace.burst_seconds,
        "throughput_bucket": pace.throughput_bucket,
        "parent": os.getpid(),
        "held_until": held_until(),
    }
    children = [_Child(target.credential, held_until, meter) for _ in range(processes)]
    try:
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(child.run(first, queue))
    except BaseExceptionGroup as failed:
        raise _first(failed) from None
    finally:
        for child in children:
            await child.end()


class _Child:
    """One writing process, seen from its parent."""

    def __init__(
        self, credential: Credential, held_until: Callable[[], float], meter: Meter
    ) -> None:
        self._credential = credential
        self._held_until = held_until
        self._meter = meter
        self._process: asyncio.subprocess.Process | None = None
        self._ahead = 0
        self._reported = asyncio.Event()

    async def run(self, first: dict[str, Any], queue: Iterator[Document]) -> None:
        """Start the process and feed it until the documents are at an end."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving_export.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            limit=_LINE_BYTES,
        )
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(self._feed(first, queue))
            renewing = group.create_task(self._renew())
            await self._listen()
            feeding.cancel()
            renewing.cancel()

    async def end(self) -> None:
        """See that the process is gone."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()

    async def _feed(self, first: dict[str, Any], queue: Iterator[Document]) -> None:
        # A pipe to a child that died breaks; `_listen` then hears why.
        with suppress(ConnectionError):
            await self._tell(first)
            for document in queue:
                self._ahead += 1
                await self._tell({"document": document})
                while self._ahead >= _AHEAD:
                    self._reported.clear()
                    await self._reported.wait()
            await self._tell({"finish": True})

    async def _renew(self) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                await self._tell({"held_until": self._held_until()})

    async def _listen(self) -> None:
        """Count what the child reports until it says that it is done."""
        while True:
            match await self._line():
                case {"report": report}:
                    self._ahead -= report["done"]
                    self._reported.set()
                    self._meter.add(**report)
                case {"token_for": scopes}:
                    await self._send_token(scopes)
                case {"error": kind, "message": message}:
                    raise getattr(errors, kind, errors.ExportError)(message)
                case {"finished": True}:
                    return

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101
        line = await self._process.stdout.readline()
        if not line:
            code = await self._process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise errors.ProcessEndedError(
                f"A writing process {how} before it was done; the active version is untouched, "
                "run again and the load goes on."
            )
        said: dict[str, Any] = json.loads(line)
        return said

    async def _send_token(self, scopes: list[str]) -> None:
        assert not isinstance(self._credential, str)  # noqa: S101
        try:
            token = await asyncio.to_thread(self._credential.get_token, *scopes)
        except Exception as error:
            first = str(error).strip().splitlines()
            await self._tell({"token_refused": first[0][:200] if first else type(error).__name__})
            return
        await self._tell({"token": token.token, "expires_on": token.expires_on})

    async def _tell(self, message: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups; the others are of children ended because of it."""
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
