"""What services read, against any Cosmos DB endpoint: both readers, both ways of searching.

COSMOS_ENDPOINT and COSMOS_KEY name an emulator or an account; otherwise a local endpoint is
started. Everything happens in a database of its own, deleted afterwards.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from azure.cosmos import CosmosClient

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import containers, publish
from serving_export.aio import AsyncReader
from serving_export.documents import Item
from serving_export.reader import Reader

D = 3
MODEL: dict[str, Any] = {
    "geometry": "hyperboloid",
    "d": D,
    "aggregator": {"kind": "learned", "lag_weights": [0.9, 0.6]},
}
HOSTILE = ["a/b\\c?d#e", "' OR true --", '"@user"', "50% ~2f", "日本語", "🧶" * 255, " padded "]


def make_items() -> list[Item]:
    """Forty items, the last ten at one place and equally popular, some with ids of ill repute."""
    space = np.random.default_rng(0).normal(size=(40, D))
    space[30:] = space[30]
    vectors = np.c_[-np.sqrt(1 + (space**2).sum(1)), space].astype(np.float32)
    ids = [*HOSTILE, *(f"i{n}" for n in range(len(HOSTILE), 40))]
    return [
        Item(
            item_id=ids[n],
            vector=vectors[n],
            context=None,
            count=max(10, 40 - n),
            category=("All", HOSTILE[n % len(HOSTILE)]),
            is_live=n % 6 != 5,
        )
        for n in range(40)
    ]


ITEMS = make_items()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Where a version of `ITEMS` is active."""
    with ExitStack() as stack:
        endpoint, key = os.environ.get("COSMOS_ENDPOINT"), os.environ.get("COSMOS_KEY", COSMOS_KEY)
        if not endpoint:
            endpoint = stack.enter_context(cosmos_server(tmp_path_factory.mktemp("cosmos")))
        database = f"read-{uuid.uuid4().hex}"
        found: dict[str, Any] = {"endpoint": endpoint, "credential": key, "database": database}
        containers.create_missing(endpoint, key, D + 1, database=database)
        client = CosmosClient(endpoint, key, enable_endpoint_discovery=False)
        stack.callback(client.delete_database, database)
        publish.publish(
            **found, version="v1", run_id="r", model=MODEL, items=ITEMS, metrics={}, who="tests"
        )
        yield found


def questions(ids: list[str]) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    return [
        ("get", ([*ids, "nobody"],), {}),
        ("recommend", (ids[:3], 10), {}),
        ("recommend", ([ids[35]], 4), {"exclude_seen": False, "live_only": False}),
        ("recommend", ([], 35), {}),
        ("recommend", (["nobody"], 1000), {"live_only": False}),
        *(("recommend", (ids[8:9], 5), {"category": category}) for category in HOSTILE),
        ("recommend", (ids[8:9], 5), {"category": "All' OR true --"}),
        ("similar", (ids[0], 6), {}),
        ("similar", (ids[35], 6), {"live_only": False, "category": "All"}),
    ]


def test_both_readers_and_both_searches_agree(place: dict[str, Any]) -> None:
    asked = questions([item.item_id for item in ITEMS])
    with Reader(**place) as stored, Reader(**place, search="memory") as loaded:
        of_stored, of_loaded = (
            [getattr(reader, verb)(*words, **rest) for verb, words, rest in asked]
            for reader in (stored, loaded)
        )

    async def awaited() -> list[Any]:
        async with AsyncReader(**place) as reader:
            return [await getattr(reader, verb)(*words, **rest) for verb, words, rest in asked]

    assert of_stored == of_loaded == asyncio.run(awaited())
    assert of_stored[0] == {item.item_id: item for item in ITEMS}
    assert all(answer for answer in of_stored[:-3])
    assert of_stored[-3] == []


def test_the_most_similar_come_first(place: dict[str, Any]) -> None:
    vectors = np.stack([item.vector for item in ITEMS]).astype(float)
    with Reader(**place) as reader:
        point = reader.user_point([HOSTILE[0], HOSTILE[2]]).astype(float)
        found = reader.recommend([HOSTILE[0], HOSTILE[2]], 40, exclude_seen=False, live_only=False)
    np.testing.assert_allclose(
        [each.score for each in found], np.sort(vectors @ point)[::-1], rtol=1e-5
    )
