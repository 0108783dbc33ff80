"""Which Prefect server a command talks to: the configured one, or that of `hyperrec up`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from infra.local import prefect_services
from pipelines.errors import PipelineError, UsageError
from pipelines.settings import Environment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def find_prefect() -> str | None:
    """Make this process find a Prefect server that is not its own.

    Returns:
        The address of its API; None when none is configured and none runs here.
    """
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415  seconds to import
    from prefect.settings import get_current_settings  # noqa: PLC0415

    configured = get_current_settings().api.url
    if configured is not None:
        return str(configured)
    local = prefect_services.running(Environment().hyperrec_home)
    if local is None:
        return None
    os.environ["PREFECT_API_URL"] = local.api_url
    os.environ["PREFECT_API_AUTH_STRING"] = local.auth
    refresh_global_settings_context()
    return local.api_url


def require_prefect() -> str:
    """As `find_prefect`; raises `UsageError` when there is none."""
    found = find_prefect()
    if found is None:
        raise UsageError(
            "There is no Prefect server to talk to: start one with `hyperrec up`, or set "
            "PREFECT_API_URL (and PREFECT_API_AUTH_STRING where it asks for a password)."
        )
    return found


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """A client of the server that `require_prefect` found.

    Raises:
        PipelineError: the server is away, refuses the password or what it is asked.
    """
    import httpx  # noqa: PLC0415
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.settings import get_current_settings  # noqa: PLC0415

    url = get_current_settings().api.url
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in {401, 403}:
            raise PipelineError(
                f"The Prefect server at {url} refused to let this command in: set "
                "PREFECT_API_AUTH_STRING to its user:password."
            ) from error
        raise PipelineError(
            f"The Prefect server at {url} answered {status}: {_detail(error.response)}."
        ) from error
    except (httpx.TransportError, RuntimeError) as error:
        # Prefect's own check of the address raises no better kind: "Failed to reach API at ...".
        if isinstance(error, RuntimeError) and "reach" not in str(error):
            raise
        raise PipelineError(
            f"The Prefect server at {url} does not answer: start it, or correct PREFECT_API_URL."
        ) from error


def call(client: SyncPrefectClient, method: str, path: str, body: Any = None) -> Any:
    """The answer to a request to the API, as plain values; None where it has none."""
    answer = client.request(method, path, json=body)  # type: ignore[arg-type]
    return answer.json() if answer.content else None


def _detail(response: Any) -> str:
    try:
        found = response.json()
    except ValueError:
        return str(response.text)[:300]
    return str(found.get("detail") or found.get("exception_message") or found)[:500].rstrip(".")
