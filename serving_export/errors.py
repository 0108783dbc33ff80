"""What can go wrong between here and Cosmos DB, as callers must tell it apart.

Every message is one sentence: what happened, where, and what to do next.
"""

from __future__ import annotations

from datetime import datetime


class ExportError(RuntimeError):
    """Publishing or reading cannot go on; the message says why and what to do."""


class CredentialsError(ExportError):
    """Cosmos DB answered and refused the key or the identity."""


class UnavailableError(ExportError):
    """Cosmos DB did not answer within the patience given; the same call may be made again."""


class ProcessEndedError(UnavailableError):
    """A writing process ended before its work was done; the same call may be made again."""


class MissingContainerError(ExportError):
    """A container is not there: nobody has prepared the account yet."""


class NothingPublishedError(ExportError):
    """No version is active (reading), or there is none to go back to (rollback)."""


class VerificationError(ExportError):
    """What was read back is not what was to be published; the active version is untouched."""


class HeldByAnotherError(ExportError):
    """Another publish holds the loading lease.

    Attributes:
        holder: "host:pid:run id" of the publish that holds it.
        expires_at: when its lease ends unless renewed, UTC.
    """

    def __init__(self, message: str, *, holder: str, expires_at: datetime) -> None:
        super().__init__(message)
        self.holder = holder
        self.expires_at = expires_at


class UnknownItemError(ExportError, KeyError):
    """An item that the active version does not hold."""

    # KeyError would print the sentence in quotation marks.
    __str__ = Exception.__str__
