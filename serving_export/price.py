"""What a publish would cost in request units and time, found out without writing anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from serving_export import history, slots
from serving_export.client import Credential
from serving_export.containers import DATABASE, item_container
from serving_export.control import ControlStore, control_store
from serving_export.documents import Item, to_document
from serving_export.errors import ExportError
from serving_export.pacing import Pace
from serving_export.retry import persist

# The service's published charges: a write of 1 KB about 5 RU and of 100 KB about 50, reading 1 KB
# by a query about a tenth of one.
_WRITE_RU = 5.0
_MORE_WRITE_RU_A_KB = 45 / 99
_READ_RU_A_KB = 0.1

# CPU seconds of the client a document on one core: a write, and a read with its comparison.
_WRITE_SECONDS = 1.2e-3
_READ_SECONDS = 0.2e-3

_SAMPLED = 2000


@dataclass(frozen=True)
class Price:
    """An estimate.

    Attributes:
        slot: where the load would go.
        documents: items of the version.
        present: those that a load cut short has left in the slot, which are only read.
        leftovers: documents of another version in the slot; overwritten, or deleted where the
            version has no such item.
        mean_bytes: size of a document as JSON.
        request_units: in all.
        seconds: at least, with the pace given.
        measured_by: the version whose load on this account told the charge of a document; None
            where it is taken from the service's published charges.
    """

    slot: str
    documents: int
    present: int
    leftovers: int
    mean_bytes: float
    request_units: float
    seconds: float
    measured_by: str | None

    @property
    def basis(self) -> str:
        """What the request units were reckoned by, in words."""
        if self.measured_by is None:
            return "by the service's published charges"
        return f"by what version {self.measured_by} cost here"


def price(
    endpoint: str,
    credential: Credential,
    *,
    version: str,
    items: Sequence[Item],
    pace: Pace,
    database: str = DATABASE,
    patience: float = 60.0,
) -> Price:
    """Look at what is there and at what the last whole load cost, and reckon.

    Args:
        endpoint: the account's address.
        credential: its key, or a token credential with a data-plane reader role.
        version: the version's name.
        items: its items.
        pace: as for `publish.publish`.
        database: the database's name.
        patience: seconds without any answer of the service after which to give up.

    Raises:
        ExportError: the version has no items, or the containers do not fit.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    if not items:
        raise ExportError(f"Version {version} has no items; look at the training run's artefact.")
    dimensions = items[0].vector.size
    with control_store(
        endpoint, credential, database=database, dimensions=dimensions, patience=patience
    ) as store:
        slot = slots.free_slot(store.read())
        present = _count(store, slot, version)
        leftovers = _count(store, slot, None) - present
        earlier = next(
            (
                event
                for event in history.read(store, 50)
                if event.costs and event.costs["written"] == event.items > 0
            ),
            None,
        )
    step = max(1, len(items) // _SAMPLED)
    sizes = [len(json.dumps(to_document(item, version)).encode()) for item in items[::step]]
    kilobytes = sum(sizes) / len(sizes) / 1024
    present = min(present, len(items))
    written = len(items) - present
    # What is read back: all of it, what was there before once more, and what will be deleted.
    read = len(items) + (present + leftovers if present else leftovers)
    reading = read * kilobytes * _READ_RU_A_KB
    a_write = _WRITE_RU + max(0.0, kilobytes - 1) * _MORE_WRITE_RU_A_KB
    if earlier is not None:
        spent = earlier.costs["request_units"] - earlier.items * kilobytes * _READ_RU_A_KB
        a_write = max(1.0, spent / (earlier.costs["written"] + earlier.costs["deleted"]))
    request_units = written * a_write + reading
    busy = written * _WRITE_SECONDS / pace.processes + read * _READ_SECONDS
    paced = 0.0 if pace.request_units is None else request_units / pace.request_units
    return Price(
        slot=slot,
        documents=len(items),
        present=present,
        leftovers=leftovers,
        mean_bytes=kilobytes * 1024,
        request_units=request_units,
        seconds=max(busy, paced),
        measured_by=None if earlier is None else earlier.version,
    )


def _count(store: ControlStore, slot: str, version: str | None) -> int:
    container = store.database.get_container_client(item_container(slot))
    where = "" if version is None else " WHERE c.version = @version"
    parameters: list[dict[str, object]]
    parameters = [] if version is None else [{"name": "@version", "value": version}]
    counts = persist(
        lambda: list(
            container.query_items(
                f"SELECT VALUE COUNT(1) FROM c{where}",  # noqa: S608
                parameters=parameters,
                enable_cross_partition_query=True,
            )
        ),
        endpoint=store.endpoint,
        doing="counting documents",
        patience=store.patience,
    )
    return sum(cast(int, part) for part in counts)
