"""The one error that every layer of the endpoint raises, and its form on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

# The `code` strings of the REST reference ("HTTP status codes for Azure Cosmos DB").
_CODES: Final = {
    304: "NotModified",
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    409: "Conflict",
    410: "Gone",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    424: "FailedDependency",
    429: "429",
    449: "RetryWith",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}

CROSS_PARTITION_QUERY_NOT_SERVABLE: Final = 1004
PARTITION_KEY_MISMATCH: Final = 1001
OWNER_NOT_FOUND: Final = 1003
COLLECTION_RID_MISMATCH: Final = 1024
REQUEST_RATE_TOO_LARGE: Final = 3200


class CosmosError(Exception):
    """A refusal that the client sees as an HTTP status with the service's JSON error body.

    Attributes:
        status: HTTP status code.
        substatus: value of `x-ms-substatus`; 0 means none.
        headers: further response headers.
        info: `additionalErrorInfo` of the body (the service puts a query plan there).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        substatus: int = 0,
        headers: Mapping[str, str] | None = None,
        info: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.substatus = substatus
        self.headers = dict(headers or {})
        self.info = info

    def body(self) -> bytes:
        """The JSON body of the response; empty for 304, which has none."""
        if self.status == 304:
            return b""
        content = {"code": _CODES.get(self.status, str(self.status)), "message": str(self)}
        if self.info is not None:
            content["additionalErrorInfo"] = self.info
        return json.dumps(content).encode()


def bad_request(message: str, substatus: int = 0) -> CosmosError:
    """A 400 with one sentence."""
    return CosmosError(400, message, substatus=substatus)


def unsupported(what: str) -> CosmosError:
    """A 400 for something the service may know and this endpoint does not."""
    return CosmosError(400, f"The local Cosmos endpoint does not support {what}.")
