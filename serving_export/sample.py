"""Recommendations through the service against the artefact's own: the last look before a flip.

Every vector was read back by then; what is asked here is whether the index over them ranks as the
model does: the container's vector policy, its distance function and the sign of the first number.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from azure.core.exceptions import AzureError
from azure.cosmos.aio import ContainerProxy
from numpy.typing import NDArray

from serving_export import userpoint
from serving_export.documents import Item
from serving_export.errors import ExportError, VerificationError
from serving_export.meter import Meter
from serving_export.pacing import Budget
from serving_export.retry import Patience, is_throttled, retry_after_seconds

USERS = 3
TOP = 20
_HISTORY = 3

# An exact search reads every vector of the slot before it answers.
_SEARCH_SECONDS = 120.0

# Scores are sums of products that may cancel: equal to this share of the sum of their sizes.
_TOLERANCE = 1e-5


async def check(
    container: ContainerProxy,
    items: Sequence[Item],
    version: str,
    model: Mapping[str, Any],
    *,
    slot: str,
    endpoint: str,
    patience: float,
    budget: Budget,
    meter: Meter,
) -> None:
    """Ask the service for the best live items of a few users and compare with all scores.

    Equal but for ties: the same scores, and no item left out that scores higher than one that is
    in, beyond the rounding of float32.

    Args:
        container: the slot's container, which holds the version and nothing else.
        items: the version's items.
        version: its name.
        model: model.json of the artefact.
        slot: for messages.
        endpoint: the account's address, for messages.
        patience: seconds without an answer after which to give up.
        budget: request units that this process may spend.
        meter: counts request units.

    Raises:
        VerificationError: an answer differs; says for which history and how.
        UnavailableError, CredentialsError: the service does not answer, or refuses.
    """
    live = [item for item in items if item.is_live]
    vectors = np.stack([item.vector for item in live]).astype(np.float64) if live else None
    for history in _histories(items, version):
        point = _point(model, history)
        found = await _ask(
            container, point, version, endpoint=endpoint, patience=patience, budget=budget,
            meter=meter,
        )  # fmt: skip
        fault = _compare(found, live, vectors, point.astype(np.float64))
        if fault:
            names = ", ".join(repr(item.item_id) for item in history)
            raise VerificationError(
                f"Version {version} was not promoted: for a history of {names}, vector search in "
                f"slot {slot} {fault}; the active version is untouched, look at the container's "
                "vector policy and run again."
            )
        meter.finished()


def _histories(items: Sequence[Item], version: str) -> list[list[Item]]:
    """A few histories drawn by the version's name, so that a failure comes again."""
    draw = np.random.default_rng(zlib.crc32(version.encode()))
    size = min(_HISTORY, len(items))
    return [
        [items[n] for n in draw.choice(len(items), size=size, replace=False)] for _ in range(USERS)
    ]


def _point(model: Mapping[str, Any], newest_first: Sequence[Item]) -> NDArray[np.float32]:
    """The user point; an item's vector where the model makes no user of a history."""
    contexts = [item.vector if item.context is None else item.context for item in newest_first]
    try:
        most = userpoint.most_items(model) or len(contexts)
        return userpoint.user_point(model, np.stack(contexts[:most]))
    except ExportError:
        return newest_first[0].vector


async def _ask(
    container: ContainerProxy,
    point: NDArray[np.float32],
    version: str,
    *,
    endpoint: str,
    patience: float,
    budget: Budget,
    meter: Meter,
) -> list[tuple[str, float]]:
    # true: exactly, whatever index the container has; an approximate one may well leave items out.
    score = "VectorDistance(c.vector, @user, true)"
    waiting = Patience(patience, endpoint, "comparing recommendations")
    attempt = 0
    while True:
        reserved, before = await budget.turn(), meter.request_units
        try:
            query = container.query_items(
                f"SELECT TOP @top c.item_id, {score} AS score FROM c "  # noqa: S608
                f"WHERE c.version = @version AND c.is_live = true ORDER BY {score}",
                parameters=[
                    {"name": "@top", "value": TOP},
                    {"name": "@version", "value": version},
                    {"name": "@user", "value": point.astype(np.float64).tolist()},
                ],
                response_hook=meter.charge,
                read_timeout=_SEARCH_SECONDS,
            )
            return [(str(each["item_id"]), float(each["score"])) async for each in query]
        except AzureError as error:
            meter.retried(throttled=is_throttled(error))
            if is_throttled(error):
                budget.throttled(retry_after_seconds(error))
            await asyncio.sleep(waiting.delay(attempt, error))
            attempt += 1
        finally:
            budget.settle(reserved, meter.request_units - before)


def _compare(
    found: Sequence[tuple[str, float]],
    live: Sequence[Item],
    vectors: NDArray[np.float64] | None,
    point: NDArray[np.float64],
) -> str | None:
    """What is wrong with an answer, in words; None when nothing is."""
    if vectors is None:
        return f"finds {len(found)} live items and the version has none" if found else None
    scores = vectors @ point
    tolerance = _TOLERANCE * (np.abs(vectors) @ np.abs(point))
    rows = {item.item_id: row for row, item in enumerate(live)}
    wanted = min(TOP, len(live))
    if len({item_id for item_id, _ in found}) != wanted or len(found) != wanted:
        return f"finds {len(found)} items and {wanted} different ones were asked for"
    for item_id, score in found:
        row = rows.get(item_id)
        if row is None:
            return f"finds {item_id!r}, which is no live item of the version"
        if abs(score - scores[row]) > tolerance[row]:
            return f"scores {item_id!r} {score:.6g} and the artefact {scores[row]:.6g}"
    kept = np.zeros(len(live), dtype=bool)
    kept[[rows[item_id] for item_id, _ in found]] = True
    worst = int(np.where(kept, scores, np.inf).argmin())
    better = np.flatnonzero(~kept & (scores - tolerance > scores[worst] + tolerance[worst]))
    if better.size:
        best = live[int(better[scores[better].argmax()])].item_id
        return f"leaves out {best!r}, which scores higher than {live[worst].item_id!r}"
    return None
