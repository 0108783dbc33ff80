"""A webhook on this machine that keeps what it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import wait_until


@dataclass
class Receiver:
    """A webhook that keeps what it is told."""

    url: str
    told: list[dict[str, Any]]

    def about(self, alert: str) -> list[dict[str, Any]]:
        return [each for each in self.told if each["alert"] == alert]

    def wait(self, alert: str, *, more_than: int = 0) -> dict[str, Any]:
        """The newest message of an alert, once there are more than so many."""
        wait_until(
            lambda: len(self.about(alert)) > more_than,
            f"no alert {alert}: {self.told}",
            seconds=60,
        )
        return self.about(alert)[more_than]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A webhook on a port of its own, for the time of the block."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Receiver(f"http://127.0.0.1:{server.server_port}/secret-part", told)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
