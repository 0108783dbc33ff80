"""`python -m serving_export.child`: writes the documents that its parent hands it; see `processes`.

It is started by a publish and by nobody else: it speaks JSON lines over its standard input and
output, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from serving_export.client import async_client
from serving_export.errors import ExportError
from serving_export.meter import Meter
from serving_export.pacing import Budget
from serving_export.writer import Document, Writer

_PR_SET_PDEATHSIG = 1
_REPORT_SECONDS = 0.1
_TOKEN_SECONDS = 60.0


class Work:
    """What the parent has said so far: documents to write, and how long the lease is held.

    A thread of its own reads, so that a full event loop cannot keep it from hearing of the lease.
    """

    def __init__(self, first: dict[str, Any]) -> None:
        self.held_until = float(first["held_until"])
        self.tokens: queue.Queue[dict[str, Any]] = queue.Queue()
        self._documents: deque[Document] = deque()
        self._finish = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        threading.Thread(target=self._read, name="parent", daemon=True).start()

    async def take(self) -> Document | None:
        """The next document; None when there are no more to come."""
        while not self._documents:
            if self._finish:
                return None
            self._news.clear()
            await self._news.wait()
        return self._documents.popleft()

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            match json.loads(line):
                case {"document": document}:
                    self._documents.append(document)
                case {"held_until": until}:
                    self.held_until = float(until)
                case {"finish": True}:
                    self._finish = True
                case answer:
                    self.tokens.put(answer)
            # The lease may be renewed once more when the work is done and its loop is closed.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)
        if not self._finish:
            os._exit(1)  # the parent is gone, and its lease with it


class Tokens:
    """The parent's identity: each token is asked of it."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """A token of the parent's credential.

        Raises:
            ClientAuthenticationError: the parent was refused one.
        """
        say({"token_for": list(scopes)})
        match self._work.tokens.get(timeout=_TOKEN_SECONDS):
            case {"token": token, "expires_on": expires_on}:
                return AccessToken(token, expires_on)
            case refusal:
                raise ClientAuthenticationError(str(refusal.get("token_refused")))


def say(message: dict[str, Any]) -> None:
    """One line to the parent."""
    # Whole lines at once: two threads speak.
    os.write(1, json.dumps(message).encode() + b"\n")


async def write(first: dict[str, Any]) -> None:
    """Write what comes until the parent says that nothing more will."""
    work = Work(first)
    meter = Meter("writing", 0, None)
    report = _reports(meter)
    async with async_client(
        first["endpoint"],
        first["key"] if first["key"] is not None else Tokens(work),
        patience=first["patience"],
        throughput_bucket=first["throughput_bucket"],
    ) as client:
        place = client.get_database_client(first["database"])
        writer = Writer(
            place.get_container_client(first["container"]),
            first["endpoint"],
            lambda: work.held_until,
            first["patience"],
            Budget(first["request_units"], first["burst_seconds"]),
        )
        reporting = asyncio.create_task(_keep_reporting(report))
        try:
            await writer.upsert_from(work.take, meter)
        finally:
            reporting.cancel()
            report()


def _reports(meter: Meter) -> Callable[[], None]:
    """A function that tells the parent what has come to the meter since it was called last."""
    told: dict[str, float] = {"done": 0, "request_units": 0, "retries": 0, "throttled": 0}

    def report() -> None:
        news = {name: getattr(meter, name) - before for name, before in told.items()}
        if any(news.values()):
            say({"report": news})
        for name, more in news.items():
            told[name] += more

    return report


async def _keep_reporting(report: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        report()


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent does, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it had ended before


def main() -> None:
    """Write until told to finish, and say how it went."""
    first = json.loads(sys.stdin.buffer.readline() or "null")
    if first is None:
        os._exit(1)
    sys.stdout = sys.stderr  # what a library may print is not for the parent
    # A closed client is still asked for by a check of the SDK in the background, which logs that.
    logging.getLogger("azure.cosmos._GlobalEndpointManager").setLevel(logging.CRITICAL)
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(first["parent"])
    try:
        asyncio.run(write(first))
        say({"finished": True})
    except ExportError as error:
        say({"error": type(error).__name__, "message": str(error)})
    except Exception as error:
        message = f"A writing process failed (unexpected {type(error).__name__}: {error})."
        say({"error": ExportError.__name__, "message": message})
    # The thread that reads cannot be ended otherwise than with the process.
    os._exit(0)


if __name__ == "__main__":
    main()
