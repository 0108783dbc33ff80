"""The HTTP server: routing, authentication, response headers and faults."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import signal
import uuid
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from infra.local import published_keys
from infra.local.cosmos import auth, items, resources
from infra.local.cosmos.documents import parse_json
from infra.local.cosmos.errors import CosmosError, bad_request, unsupported
from infra.local.cosmos.faults import ITEM_OPERATIONS, Faults, Rule
from infra.local.cosmos.resources import Answer, Request
from infra.local.cosmos.store import Store

logger = logging.getLogger(__name__)

# Above the service's own 2 MB, so that the refusal is its 413 and not the web server's.
_MAX_BODY: Final = 16 * 1024 * 1024
_ADMIN: Final = "_local"
_KINDS: Final = {"PUT": "replace", "PATCH": "patch", "DELETE": "delete", "GET": "read"}


def operation_name(request: Request) -> str:
    """The name of an operation on items in fault rules; `METHOD type` for all others."""
    path = request.path
    if len(path) < 5 or path[4] != "docs":
        return f"{request.method} {path[(len(path) - 1) // 2 * 2] if path else 'account'}"
    if len(path) == 6:
        return _KINDS.get(request.method, request.method)
    if request.method == "GET":
        return "feed"
    if request.is_query:
        return "query"
    if request.flag("x-ms-cosmos-is-batch-request"):
        return "batch"
    return "upsert" if request.flag("x-ms-documentdb-is-upsert") else "create"


class _DroppedError(Exception):
    """The connection was broken on purpose."""


class Endpoint:
    """One account, kept in one folder."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.faults = Faults()
        self._key = base64.b64decode(published_keys.COSMOS_KEY)

    async def handle(  # noqa: PLR0911 (one return a kind of end)
        self, http: web.Request
    ) -> web.StreamResponse:
        """Answers one request; whatever goes wrong becomes an error body of the service's form."""
        try:
            raw_path = http.raw_path.partition("?")[0]
            path = tuple(unquote(part) for part in raw_path.split("/") if part)
            request = Request(http.method, path, http.headers, await http.read())
            if path[:1] == (_ADMIN,):
                return self._admin(request)
            return await self._serve(http, request)
        except CosmosError as error:
            return self._refusal(http, error)
        except RecursionError:
            return self._refusal(http, bad_request("The query or document is nested too deeply."))
        except _DroppedError:
            return web.Response()  # nobody is there any more to receive it
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(http, CosmosError(413, "Request size is too large."))
        except Exception:
            logger.exception("Request failed: %s %s", http.method, http.path)
            return self._refusal(
                http, CosmosError(500, "The local endpoint failed; its log has the traceback.")
            )

    async def _serve(self, http: web.Request, request: Request) -> web.StreamResponse:
        self._authenticate(request)
        operation = operation_name(request)
        container = request.path[3] if len(request.path) > 3 else None
        fault = self.faults.choose(operation, container)
        if fault is not None and not fault.after:
            await self._strike(http, fault)
        budget = self.faults.budget if operation in ITEM_OPERATIONS else None
        if budget is not None:
            budget.check()
        answer = self._dispatch(http, request)
        if budget is not None:
            budget.charge(answer.charge)
        if fault is not None and fault.after:
            await self._strike(http, fault)
        return self._response(http, request, answer)

    def _authenticate(self, request: Request) -> None:
        path = request.path
        if path[:1] == ("offers",):
            # Offers are addressed by resource id, and that is signed in lower case.
            link = path[1].lower() if len(path) > 1 else ""
            auth.check(self._key, request.method, "offers", link, request.headers)
            return
        whole = len(path) % 2 == 0
        kind = path[-2 if whole else -1] if path else ""
        link = "/".join(path if whole else path[:-1])
        auth.check(self._key, request.method, kind, link, request.headers)

    async def _strike(self, http: web.Request, fault: Rule) -> None:
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop and http.transport is not None:
            http.transport.abort()
            raise _DroppedError
        error = fault.error()
        if error is not None:
            raise error

    def _dispatch(self, http: web.Request, request: Request) -> Answer:
        level = request.headers.get("x-ms-consistency-level", "Session")
        if level in ("Strong", "BoundedStaleness"):
            raise bad_request(f"The consistency level {level} is above the account's, Session.")
        path = request.path
        match path[0::2], len(path):
            case (), 0 if request.method == "GET":
                return resources.account(http.scheme, http.host)
            case ("dbs",), _:
                return resources.databases(self.store, request)
            case ("dbs", "colls"), _:
                return resources.containers(self.store, request)
            case ("dbs", "colls", "docs"), _:
                return items.serve(self.store, request)
            case ("dbs", "colls", "pkranges"), 5 if request.method == "GET":
                return resources.partition_ranges(self.store, request)
            case ("offers",), _:
                return resources.offers(self.store, request)
        raise unsupported(f"{request.method} /{'/'.join(path[0::2])}")

    def _headers(self, http: web.Request, charge: float) -> dict[str, str]:
        return {
            "x-ms-activity-id": http.headers.get("x-ms-activity-id") or str(uuid.uuid4()),
            "x-ms-request-charge": str(charge),
            "x-ms-gatewayversion": "version=2.0.0",
            "x-ms-serviceversion": "version=2.0.0.0",
        }

    def _response(self, http: web.Request, request: Request, answer: Answer) -> web.StreamResponse:
        headers = self._headers(http, answer.charge) | answer.headers
        if len(request.path) > 4:
            link = "/".join(request.path[:4])
            headers["x-ms-alt-content-path"] = link
            headers["x-ms-session-token"] = f"0:-1#{self.store.next_lsn()}"
            headers["x-ms-documentdb-partitionkeyrangeid"] = "0"
        return _json_response(answer.status, answer.body, headers)

    def _refusal(self, http: web.Request, error: CosmosError) -> web.StreamResponse:
        headers = self._headers(http, 1.0) | error.headers
        if error.substatus:
            headers["x-ms-substatus"] = str(error.substatus)
        body = error.body()
        headers["Content-Type"] = "application/json"
        return web.Response(status=error.status, body=body or None, headers=headers)

    def _admin(self, request: Request) -> web.StreamResponse:
        """`/_local/faults` sets faults; `/_local/health` answers when the server does."""
        if request.path == (_ADMIN, "health") and request.method == "GET":
            return _json_response(200, {"service": "cosmos"}, {})
        if request.path != (_ADMIN, "faults"):
            raise unsupported("/".join(request.path))
        if request.method == "PUT":
            # A web page may send other content types to any address without asking first.
            if request.headers.get("Content-Type") != "application/json":
                raise bad_request("Send the faults with Content-Type: application/json.")
            self.faults.configure(parse_json(request.body))
        elif request.method == "DELETE":
            self.faults.configure({})
        elif request.method != "GET":
            raise unsupported(f"{request.method} on faults")
        return _json_response(200, self.faults.state(), {})


def _json_response(status: int, body: Any, headers: dict[str, str]) -> web.Response:
    if body is None:
        return web.Response(status=status, headers=headers)
    text = body if isinstance(body, str) else json.dumps(body)
    headers["Content-Type"] = "application/json"
    return web.Response(status=status, body=text.encode(), headers=headers)


async def serve(host: str, port: int, folder: Path) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        OSError: when the port is taken, or another process serves the same folder.
    """
    store = Store(folder)
    app = web.Application(client_max_size=_MAX_BODY)
    app.router.add_route("*", "/{path:.*}", Endpoint(store).handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        logger.info("Cosmos endpoint on http://%s:%d, data in %s", host, port, folder)
        await stop.wait()
    finally:
        await runner.cleanup()
        store.close()
