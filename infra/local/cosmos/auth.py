"""Master-key authentication: the HMAC-SHA256 signature of the REST reference.

Source: "Access control on Azure Cosmos DB resources", section "Constructing the hashed token
signature".
"""

from __future__ import annotations

import base64
import functools
import hmac
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from hashlib import sha256
from urllib.parse import unquote

from infra.local.cosmos.errors import CosmosError

# The service refuses a request whose date is further than this from its own clock.
_MAX_SKEW_SECONDS = 15 * 60


@functools.lru_cache(maxsize=64)
def _timestamp(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


def check(
    key: bytes, method: str, resource_type: str, resource_link: str, headers: Mapping[str, str]
) -> None:
    """Accepts the request or raises.

    Args:
        key: the decoded master key.
        method: HTTP method.
        resource_type: last type in the path, such as `docs` or `colls`; empty for the account.
        resource_link: the decoded path of the resource itself, or of its parent for a feed.
        headers: request headers, looked up without regard to case.

    Raises:
        CosmosError: 401 for a missing or wrong signature, 403 for a date too far from now.
    """
    fields = dict(
        part.split("=", 1)
        for part in unquote(headers.get("Authorization", "")).split("&")
        if "=" in part
    )
    if not fields:
        raise CosmosError(401, "Required Header authorization is missing. Sign the request.")
    if fields.get("type") != "master":
        raise CosmosError(401, "The local endpoint takes master-key signatures only.")
    date = headers.get("x-ms-date", "")
    text = f"{method.lower()}\n{resource_type}\n{resource_link}\n{date.lower()}\n\n"
    expected = base64.b64encode(hmac.new(key, text.encode(), sha256).digest()).decode()
    if not hmac.compare_digest(expected.encode(), fields.get("sig", "").encode()):
        raise CosmosError(
            401,
            "The input authorization token can't serve the request: the MAC signature differs "
            f"from the one computed over '{method.lower()} {resource_type}'. Check the key.",
        )
    try:
        skew = abs(time.time() - _timestamp(date))
    except (TypeError, ValueError):
        raise CosmosError(401, "The x-ms-date header is missing or not an RFC 1123 date.") from None
    if skew > _MAX_SKEW_SECONDS:
        raise CosmosError(403, "The authorization token is not valid at the current time.")
