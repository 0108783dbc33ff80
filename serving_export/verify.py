"""Reading a slot back: is every document what it was to be, and is there nothing else?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from azure.core.exceptions import AzureError
from azure.cosmos.aio import ContainerProxy

from serving_export.documents import Item, encode_id, from_document
from serving_export.errors import ExportError, VerificationError
from serving_export.meter import Meter
from serving_export.pacing import Budget
from serving_export.retry import Patience, is_throttled, retry_after_seconds

_PAGE = 1000
_NAMED = 3


@dataclass(frozen=True)
class Comparison:
    """What a slot holds against what it should.

    Attributes:
        missing: items without a document.
        different: items whose document has another version, vector, context or other field.
        leftovers: (document id, partition key) of documents that are no item of the version.
    """

    missing: tuple[str, ...]
    different: tuple[str, ...]
    leftovers: tuple[tuple[str, str], ...]

    @property
    def is_whole(self) -> bool:
        """Whether the slot holds the version and nothing else."""
        return not (self.missing or self.different or self.leftovers)


async def compare(
    container: ContainerProxy,
    items: Mapping[str, Item],
    version: str,
    *,
    endpoint: str,
    patience: float,
    budget: Budget,
    meter: Meter,
) -> Comparison:
    """Read every document of a slot and compare it with its item, bit for bit.

    Args:
        container: the slot's container.
        items: the version's items by item id.
        version: its name.
        endpoint: the account's address, for messages.
        patience: seconds without an answer after which to give up.
        budget: request units that this process may spend.
        meter: counts documents and request units.

    Raises:
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    unseen = set(items)
    different: list[str] = []
    leftovers: list[tuple[str, str]] = []
    async for document in _documents(container, endpoint, patience, budget, meter):
        item_id = str(document.get("item_id", ""))
        item = items.get(item_id)
        if item is None or document["id"] != encode_id(item_id):
            leftovers.append((document["id"], item_id))
            continue
        unseen.discard(item_id)
        if not _is_same(document, item, version):
            different.append(item_id)
    return Comparison(tuple(sorted(unseen)), tuple(sorted(different)), tuple(sorted(leftovers)))


async def count(
    container: ContainerProxy,
    version: str | None,
    *,
    endpoint: str,
    patience: float,
) -> int:
    """How many documents a slot holds, of one version or in all.

    Raises:
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    where = "" if version is None else " WHERE c.version = @version"
    parameters: list[dict[str, object]]
    parameters = [] if version is None else [{"name": "@version", "value": version}]
    waiting = Patience(patience, endpoint, "counting documents")
    attempt = 0
    while True:
        try:
            query = container.query_items(
                f"SELECT VALUE COUNT(1) FROM c{where}",  # noqa: S608
                parameters=parameters,
            )
            return sum([cast(int, part) async for part in query])
        except AzureError as error:
            await asyncio.sleep(waiting.delay(attempt, error))
            attempt += 1


def refuse(found: Comparison, version: str, slot: str) -> None:
    """Raise when documents are missing or different, naming the first few.

    Raises:
        VerificationError: the version in the slot is not whole.
    """
    faults = {"missing": found.missing, "different": found.different}
    parts = [
        f"{len(ids)} {what} ({', '.join(map(repr, ids[:_NAMED]))}{', …' * (len(ids) > _NAMED)})"
        for what, ids in faults.items()
        if ids
    ]
    if parts:
        raise VerificationError(
            f"Version {version} was not promoted: of the documents read back from slot {slot}, "
            f"{' and '.join(parts)}; the active version is untouched, run again."
        )


async def _documents(
    container: ContainerProxy, endpoint: str, patience: float, budget: Budget, meter: Meter
) -> AsyncIterator[Mapping[str, Any]]:
    pages = container.query_items(
        "SELECT * FROM c", max_item_count=_PAGE, response_hook=meter.charge
    ).by_page()
    waiting = Patience(patience, endpoint, "reading items back")
    attempt = 0
    while True:
        reserved, before = await budget.turn(), meter.request_units
        try:
            # The pager keeps its place when a page fails, so the same page is asked for again.
            page = [document async for document in await anext(pages)]
        except StopAsyncIteration:
            return
        except AzureError as error:
            meter.retried(throttled=is_throttled(error))
            if is_throttled(error):
                budget.throttled(retry_after_seconds(error))
            await asyncio.sleep(waiting.delay(attempt, error))
            attempt += 1
            continue
        finally:
            budget.settle(reserved, meter.request_units - before)
        waiting.progressed()
        attempt = 0
        meter.finished(len(page))
        for document in page:
            yield document


def _is_same(document: Mapping[str, Any], item: Item, version: str) -> bool:
    try:
        return document.get("version") == version and from_document(document) == item
    except ExportError:
        return False
