"""Prefect's server with its doors shut: for uvicorn, as `infra.local.prefect_app:create_app`.

Prefect's own settings turn its telemetry off but leave two ways out. The page of its second user
interface loads an analytics library with an address of its own, so every answer carries a content
security policy that lets a browser talk to this server alone. And the server looks up the catalogue
of work pool types at GitHub, so that address is taken away, and it reads the copy it comes with.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from prefect.server.api import collections
from prefect.server.api.server import create_app as create_prefect_app
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SERVER: Final = "hyperrec-prefect"

# Pictures of artefacts are data: addresses; the interface makes its styles and workers itself.
POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob: data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


def create_app() -> FastAPI:
    """Prefect's application, as its settings in the environment say, behind the policy."""
    # No address: Prefect then reads the file that it ships.
    collections.KNOWN_VIEWS.update(dict.fromkeys(collections.KNOWN_VIEWS, ""))
    app = create_prefect_app()
    app.add_middleware(_Headers)
    return app


class _Headers:
    """Adds the policy to every answer, and the name by which the server is known."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Server"] = SERVER
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "no-referrer"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_headers)
