"""The control document where it lies: read, and replaced only if nobody else did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.cosmos import ContainerProxy, DatabaseProxy
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from serving_export import containers
from serving_export.client import Credential, sync_client
from serving_export.retry import Patience
from serving_export.slots import Control, from_json, to_json

DOCUMENT = "item-embeddings"


@dataclass(frozen=True)
class ControlStore:
    """The state of all slots, shared by every publish and reader.

    Attributes:
        database: where the control container and the slots are.
        endpoint: the account's address, for messages.
        patience: seconds to keep trying when the service does not answer.
    """

    database: DatabaseProxy
    endpoint: str
    patience: float

    @property
    def container(self) -> ContainerProxy:
        """The control container."""
        return self.database.get_container_client(containers.CONTROL)

    def read(self) -> Control:
        """The present state; empty when nothing was ever published.

        Raises:
            UnavailableError, CredentialsError: the service does not answer, or refuses.
        """
        waiting = self._waiting("reading the control document")
        attempt = 0
        while True:
            try:
                return self._read()[0]
            except AzureError as error:
                time.sleep(waiting.delay(attempt, error))
                attempt += 1

    def update(self, change: Callable[[Control], Control]) -> Control:
        """Apply a change to the present state, again from a fresh read when another was faster.

        `change` may be called several times, also after a replace that did happen and whose
        answer was lost; it must then leave its own work as it is.

        Args:
            change: from `slots`; may raise to refuse.

        Returns:
            The state after the change.
        """
        waiting = self._waiting("changing the control document")
        attempt = 0
        while True:
            try:
                before, etag = self._read()
                after = change(before)
                if after != before:
                    self._write(after, etag)
                return after
            except (CosmosAccessConditionFailedError, CosmosResourceExistsError):
                continue  # somebody's change succeeded, so this cannot go on for ever
            except AzureError as error:
                time.sleep(waiting.delay(attempt, error))
                attempt += 1

    def _read(self) -> tuple[Control, str | None]:
        try:
            document = self.container.read_item(DOCUMENT, partition_key=DOCUMENT)
        except CosmosResourceNotFoundError:
            return Control(), None
        body = {k: v for k, v in document.items() if not k.startswith("_")}
        return from_json(body), document["_etag"]

    def _write(self, control: Control, etag: str | None) -> None:
        body = {"id": DOCUMENT, **to_json(control)}
        if etag is None:
            self.container.create_item(body, no_response=True)
        else:
            self.container.replace_item(
                DOCUMENT,
                body,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
                no_response=True,
            )

    def _waiting(self, doing: str) -> Patience:
        return Patience(self.patience, self.endpoint, doing)


@contextmanager
def control_store(
    endpoint: str,
    credential: Credential,
    *,
    database: str,
    dimensions: int | None,
    patience: float,
) -> Iterator[ControlStore]:
    """Connect, check the containers, and open the control document.

    Args:
        endpoint: the account's address.
        credential: key or token credential.
        database: the database's name.
        dimensions: numbers in a vector to be published; None when nothing is.
        patience: seconds to keep trying when the service does not answer.

    Raises:
        ExportError: a container is missing or does not fit; or as `sync_client`.
    """
    with sync_client(endpoint, credential, patience=patience) as client:
        containers.check(client, database, dimensions, patience=patience)
        yield ControlStore(client.get_database_client(database), endpoint, patience)
