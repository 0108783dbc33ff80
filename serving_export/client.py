"""Connections to Cosmos DB: one way to make them, for reading and for writing.

A credential is the account's key or any azure-identity token credential; which one, and where it
comes from, is the caller's business. It is kept nowhere and named in no message.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError
from azure.cosmos import CosmosClient
from azure.cosmos.aio import CosmosClient as AsyncCosmosClient

from serving_export.errors import CredentialsError, ExportError
from serving_export.retry import Patience, persist

Credential = str | TokenCredential

_CONNECT_SECONDS = 5
_READ_SECONDS = 30.0


@contextmanager
def sync_client(
    endpoint: str, credential: Credential, *, patience: float
) -> Iterator[CosmosClient]:
    """A client for single requests and queries.

    Args:
        endpoint: the account's address; http stands for an emulator.
        credential: key or token credential.
        patience: seconds to keep trying when the service does not answer.

    Raises:
        UnavailableError, CredentialsError: no connection within the patience, or refused.
    """
    options = _options(endpoint, credential, patience)
    with _readable_key():
        client = persist(
            # The SDK's default gives up on 429 after nine tries, which a tight budget exceeds.
            lambda: CosmosClient(
                endpoint,
                credential,
                retry_throttle_total=100,
                retry_throttle_backoff_max=max(1, int(min(30.0, patience))),
                **options,
            ),
            endpoint=endpoint,
            doing="connecting",
            patience=patience,
        )
    with client:
        yield client


@asynccontextmanager
async def async_client(
    endpoint: str, credential: Credential, *, patience: float, throughput_bucket: int | None = None
) -> AsyncIterator[AsyncCosmosClient]:
    """A client for many concurrent requests: no bodies of writes, throttling left to the caller.

    The SDK would sleep through a throttled write and send it later by itself, perhaps after the
    writer's lease has passed to another; so it does not, and `writer.py`, which looks at the lease
    before every try and slows down all writers, does the waiting.

    Args:
        endpoint: the account's address.
        credential: key or token credential.
        patience: seconds to keep trying when the service does not answer.
        throughput_bucket: the account's bucket that all requests are counted in.

    Raises:
        UnavailableError, CredentialsError: no connection within the patience, or refused.
    """
    waiting = Patience(patience, endpoint, "connecting")
    bucket: dict[str, Any] = (
        {} if throughput_bucket is None else {"throughput_bucket": throughput_bucket}
    )
    attempt = 0
    while True:
        with _readable_key():
            client = AsyncCosmosClient(
                endpoint,
                credential if isinstance(credential, str) else _Awaitable(credential),
                retry_throttle_total=-1,  # 0 stands for the SDK's default of nine
                no_response_on_write=True,
                **bucket,
                **_options(endpoint, credential, patience),
            )
        try:
            await client.__aenter__()
            break
        except AzureError as error:
            await client.close()
            await asyncio.sleep(waiting.delay(attempt, error))
            attempt += 1
    try:
        yield client
    finally:
        await client.close()


def is_loopback(endpoint: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _options(endpoint: str, credential: Credential, patience: float) -> dict[str, Any]:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # The value is not repeated: it may be a connection string, which holds the key.
        raise ExportError(
            "The Cosmos DB endpoint is not an http or https address; give the account's URI "
            "alone, such as https://NAME.documents.azure.com."
        )
    if parts.scheme == "http" and not isinstance(credential, str):
        raise CredentialsError(
            f"The Cosmos DB endpoint {endpoint} is plain http, over which no identity's token is "
            "sent; give the emulator's key, or the account's https address."
        )
    return {
        # An emulator names itself by an address that its callers cannot always reach.
        "enable_endpoint_discovery": not (parts.scheme == "http" or is_loopback(endpoint)),
        "connection_timeout": _CONNECT_SECONDS,
        "read_timeout": min(_READ_SECONDS, max(1.0, patience)),
        # Retries are made here, where they are bounded by one patience.
        "retry_total": 0,
    }


@contextmanager
def _readable_key() -> Iterator[None]:
    try:
        yield
    except (binascii.Error, UnicodeEncodeError):
        # The SDK's own message may repeat the key, so its error is not chained.
        raise CredentialsError(
            "The Cosmos DB key is not base64 text; copy the account's primary key again."
        ) from None


class _Awaitable:
    """A token credential of azure-identity as the async client wants it."""

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return await asyncio.to_thread(self._credential.get_token, *scopes, **options)

    async def close(self) -> None:
        """The caller owns the credential and closes it."""

    async def __aenter__(self) -> _Awaitable:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        return None
