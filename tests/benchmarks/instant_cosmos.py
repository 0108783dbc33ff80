"""`python -m tests.benchmarks.instant_cosmos`: an account that answers every write at once.

It stores nothing and checks nothing: what is measured against it is the client alone. It prints
its port, and `GET /seen` gives the headers of the last write.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

# What the service answers to a write without a response body, but for the document's own values.
_WRITTEN = {
    "Content-Type": "application/json",
    "etag": '"0"',
    "x-ms-request-charge": "6.0",
    "x-ms-session-token": "0:-1#1",
    "x-ms-activity-id": "00000000-0000-0000-0000-000000000000",
}


class Instant:
    """One container, however it is called."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer what the SDK asks before it writes, and every write with 201."""
        parts = [part for part in request.path.split("/") if part]
        body = await request.read()
        if not parts:
            here = [{"name": "Here", "databaseAccountEndpoint": f"http://{request.host}/"}]
            account = {
                "id": "instant",
                "writableLocations": here,
                "readableLocations": here,
                "enableMultipleWriteLocations": False,
                "userConsistencyPolicy": {"defaultConsistencyLevel": "Session"},
                "queryEngineConfiguration": "{}",
            }
            return web.json_response(account)
        if parts == ["seen"]:
            return web.json_response(self.seen)
        if request.method == "POST" and parts[-1] == "docs" and body:
            self.seen = dict(request.headers)
            return web.Response(status=201, headers=_WRITTEN)
        key = {"paths": ["/item_id"], "kind": "Hash", "version": 2}
        container = {"id": parts[-1], "_rid": "AAAAAA==", "_self": "", "partitionKey": key}
        return web.json_response(container)


@contextmanager
def instant_account() -> Iterator[str]:
    """The account in a process of its own; yields its endpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.instant_cosmos"],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


async def _serve() -> None:
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", Instant().handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    # The end of its input is the end of whoever started it.
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
