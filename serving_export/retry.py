"""Which faults pass by themselves, how long to wait for them, and what to say when they do not.

The SDK retries throttled requests and little else: on a write it raises 408, 410, 449, 500 and a
dropped connection at once. Everything this package sends is safe to send twice (idempotent upserts
and deletes, conditional replaces that are re-read first), so those are retried here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.cosmos.exceptions import CosmosClientTimeoutError, CosmosHttpResponseError

from serving_export.errors import CredentialsError, ExportError, UnavailableError

Result = TypeVar("Result")

# Request timeout, partition moved, throttled, retry-with: the service's own word is "try again".
_TRANSIENT_STATUS = frozenset({408, 410, 429, 449})
_REFUSED_STATUS = frozenset({401, 403})

_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 5.0


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, CosmosHttpResponseError):
        status = error.status_code or 0
        return status in _TRANSIENT_STATUS or status >= 500
    return isinstance(
        error,
        ServiceRequestError | ServiceResponseError | IncompleteReadError | CosmosClientTimeoutError,
    )


def is_throttled(error: BaseException) -> bool:
    """Whether the service refused the request for want of throughput."""
    return isinstance(error, CosmosHttpResponseError) and error.status_code == 429


def reason(error: BaseException) -> str:
    """The cause in a few words: the status, or the first line of the transport's own message."""
    if isinstance(error, CosmosHttpResponseError) and error.status_code:
        return f"HTTP {error.status_code}"
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


def explain(error: AzureError, endpoint: str, doing: str) -> ExportError:
    """The error of this package for a fault that waiting does not cure.

    Args:
        error: what the SDK raised.
        endpoint: the account's address, named in the message.
        doing: what was going on, as in "reading the control document".
    """
    status = error.status_code if isinstance(error, CosmosHttpResponseError) else None
    if status in _REFUSED_STATUS or isinstance(error, ClientAuthenticationError):
        return CredentialsError(
            f"Cosmos DB at {endpoint} refused the credential while {doing} ({reason(error)}); "
            "check the key, or the identity's data-plane role on the account."
        )
    detail = reason(error)
    if isinstance(error, CosmosHttpResponseError) and error.http_error_message:
        lines = str(error.http_error_message).strip().splitlines()
        detail += f": {lines[0][:200]}" if lines else ""
    return ExportError(f"Cosmos DB at {endpoint} failed while {doing} ({detail.rstrip('.')}).")


class Patience:
    """How long to go on without any success before giving up.

    The clock starts again at every success, so a long load under a tight budget goes on for as
    long as it moves, and an endpoint that is away is given up in bounded time.
    """

    def __init__(self, seconds: float, endpoint: str, doing: str) -> None:
        self._seconds = seconds
        self._endpoint = endpoint
        self._doing = doing
        self._since = time.monotonic()

    def progressed(self) -> None:
        """Something succeeded: start the clock again."""
        self._since = time.monotonic()

    def delay(self, attempt: int, error: AzureError | None) -> float:
        """Seconds to wait before the next try, at least what the service asked for.

        Args:
            attempt: tries of this request so far, from 0.
            error: what the last one raised; None when the lease did not let it be sent.

        Raises:
            UnavailableError: nothing has succeeded for as long as the patience lasts.
            ExportError: the fault is not one that passes.
        """
        if error is not None and not is_transient(error):
            raise explain(error, self._endpoint, self._doing) from error
        left = self._since + self._seconds - time.monotonic()
        if left <= 0:
            last = f"last: {reason(error)}" if error else "the lease could not be renewed"
            raise UnavailableError(
                f"Cosmos DB at {self._endpoint} was not available for {self._seconds:g} s while "
                f"{self._doing} ({last}); check the endpoint and its throughput, "
                "then run the same again."
            ) from error
        # Full jitter keeps many writers that failed together from coming back together.
        backoff = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(attempt, 10))
        wait = max(backoff * random.uniform(0.5, 1.0), retry_after_seconds(error))  # noqa: S311
        return min(wait, max(left, _FIRST_DELAY_SECONDS))


def persist(
    operation: Callable[[], Result], *, endpoint: str, doing: str, patience: float
) -> Result:
    """Call until it succeeds, fails for good, or the patience ends.

    Raises:
        UnavailableError: transient faults for longer than `patience` seconds.
        CredentialsError: the service refused the key or the identity.
        ExportError: any other answer of the service.
    """
    waiting = Patience(patience, endpoint, doing)
    attempt = 0
    while True:
        try:
            return operation()
        except AzureError as error:
            time.sleep(waiting.delay(attempt, error))
            attempt += 1


def retry_after_seconds(error: AzureError | None) -> float:
    """How long the service asked to wait; 0 when it did not say."""
    headers = getattr(error, "headers", None) or {}
    try:
        return float(headers.get("x-ms-retry-after-ms", 0)) / 1000
    except (TypeError, ValueError):
        return 0.0
