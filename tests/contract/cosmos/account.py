"""The account under test: clients of the real SDK, and signed requests without it."""

from __future__ import annotations

import base64
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import pytest
from azure.cosmos import ContainerProxy, CosmosClient
from azure.cosmos.aio import CosmosClient as AsyncCosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError


@dataclass(frozen=True)
class Reply:
    """An answer on the wire; `headers` have lower-case names, `body` is None when there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Account:
    """Where the account is and how to sign for it.

    Attributes:
        target: its name in `targets.TARGETS`.
        url: without a slash at the end.
        key: the account's key.
    """

    target: str
    url: str
    key: str

    def connect(self, key: str | None = None, **options: Any) -> CosmosClient:
        return CosmosClient(self.url, key or self.key, **self._options(options))

    def connect_async(self, **options: Any) -> AsyncCosmosClient:
        return AsyncCosmosClient(self.url, self.key, **self._options(options))

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        discovery = self.target == "account"
        return {"enable_endpoint_discovery": discovery} | options

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        seconds_ago: float = 0,
    ) -> Reply:
        """One signed request, for what the SDK keeps its users from sending.

        Args:
            method: HTTP method.
            path: `dbs/D/colls/C/docs` and the like, of plain characters.
            body: bytes, or a value that is sent as JSON.
            headers: besides those of the signature.
            seconds_ago: the age of the signature.
        """
        parts = path.split("/")
        whole = len(parts) % 2 == 0
        kind, link = parts[-2 if whole else -1], "/".join(parts if whole else parts[:-1])
        date = formatdate(time.time() - seconds_ago, usegmt=True)
        text = f"{method.lower()}\n{kind}\n{link}\n{date.lower()}\n\n"
        mac = hmac.digest(base64.b64decode(self.key), text.encode(), "sha256")
        token = f"type=master&ver=1.0&sig={base64.b64encode(mac).decode()}"
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/{path}",
            data=body if isinstance(body, bytes) or body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": urllib.parse.quote(token, safe=""),
                "x-ms-date": date,
                "x-ms-version": "2020-07-15",
                **(headers or {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return _reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return _reply(error.code, error.headers, error.read())


def _reply(status: int, headers: Any, body: bytes) -> Reply:
    named = {name.lower(): value for name, value in headers.items()}
    return Reply(status, named, json.loads(body) if body else None)


def item(name: str, **fields: Any) -> dict[str, Any]:
    """An item whose id is its partition key."""
    return {"id": name, "item_id": name, **fields}


def select(container: ContainerProxy, text: str, **options: Any) -> list[Any]:
    """All results of a query over all partitions."""
    return list(container.query_items(text, enable_cross_partition_query=True, **options))


def parameters(**values: Any) -> list[dict[str, Any]]:
    """Query parameters as the SDK wants them."""
    return [{"name": f"@{name}", "value": value} for name, value in values.items()]


@contextmanager
def refused(status: int) -> Iterator[pytest.ExceptionInfo[CosmosHttpResponseError]]:
    """The block must end in this status, and in no other."""
    with pytest.raises(CosmosHttpResponseError) as caught:
        yield caught
    assert caught.value.status_code == status, caught.value
