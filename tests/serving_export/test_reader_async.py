"""The reader for asyncio: the same answers, many at once, in either way of searching."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from infra.local.published_keys import COSMOS_KEY
from serving_export.aio import AsyncReader
from serving_export.errors import (
    CredentialsError,
    ExportError,
    NothingPublishedError,
    UnavailableError,
    UnknownItemError,
)
from serving_export.reader import Search
from tests.serving_export.publishing_support import Account, make_items

ITEMS = make_items(60)
IDS = [item.item_id for item in ITEMS]


@pytest.fixture(scope="module")
def shop(endpoint: str) -> Account:
    account = Account(endpoint, COSMOS_KEY, f"async-{uuid.uuid4().hex[:12]}")
    account.create_containers()
    account.publish("v1", ITEMS)
    return account


@pytest.fixture(params=["cosmos", "memory"])
def search(request: pytest.FixtureRequest) -> Search:
    way: Search = request.param
    return way


def opened(account: Account, **options: Any) -> AsyncReader:
    return AsyncReader(account.endpoint, account.key, database=account.database, **options)


def asked(
    work: Callable[[AsyncReader], Coroutine[Any, Any, Any]], account: Account, **options: Any
) -> Any:
    """What some work with an open reader comes to."""

    async def run() -> Any:
        async with opened(account, **options) as reader:
            return await work(reader)

    return asyncio.run(run())


def test_the_answers_are_those_of_the_other_reader(shop: Account, search: Search) -> None:
    histories = [["i5", "i9"], ["i7", "nobody"], [], IDS]

    async def work(reader: AsyncReader) -> list[Any]:
        return [
            await reader.get([*IDS, "nobody"]),
            (await reader.user_point(["i5", "i9"])).tolist(),
            [await reader.recommend(history, 7) for history in histories],
            await reader.recommend(["i5"], 7, category="Room 1", exclude_seen=False),
            await reader.recommend(["i5"], 500, live_only=False),
            await reader.similar("i8", 6),
            await reader.similar("i8", 6, live_only=False, category="Room 2"),
            await reader.recommend(["i5"], 3, category="' OR true --"),
            (await reader.active()).version,
        ]

    with shop.reader() as reader:
        expected = [
            reader.get([*IDS, "nobody"]),
            reader.user_point(["i5", "i9"]).tolist(),
            [reader.recommend(history, 7) for history in histories],
            reader.recommend(["i5"], 7, category="Room 1", exclude_seen=False),
            reader.recommend(["i5"], 500, live_only=False),
            reader.similar("i8", 6),
            reader.similar("i8", 6, live_only=False, category="Room 2"),
            [],
            "v1",
        ]
    assert asked(work, shop, search=search) == expected


def test_many_questions_at_once(shop: Account, search: Search) -> None:
    async def work(reader: AsyncReader) -> list[Any]:
        return await asyncio.gather(
            *(reader.recommend([f"i{n % 60}"], 5) for n in range(40)),
            *(reader.get([f"i{n}"]) for n in range(10)),
        )

    found = asked(work, shop, search=search)
    with shop.reader(search="memory") as reader:
        assert found[:40] == [reader.recommend([f"i{n % 60}"], 5) for n in range(40)]
    assert found[40:] == [{f"i{n}": ITEMS[n]} for n in range(10)]


def test_errors_are_the_same(shop: Account, account: Account, search: Search) -> None:
    async def work(reader: AsyncReader) -> None:
        with pytest.raises(UnknownItemError, match="'nobody' is not in the active version v1"):
            await reader.similar("nobody", 3)
        with pytest.raises(UnknownItemError, match="None of the 2 items"):
            await reader.user_point(["x", "y"])
        with pytest.raises(ExportError, match="whole number from 0"):
            await reader.recommend(["i1"], -1)
        with pytest.raises(ExportError, match="give a list of item ids"):
            await reader.get("i1")

    asked(work, shop, search=search)

    async def nothing(reader: AsyncReader) -> None:
        with pytest.raises(NothingPublishedError, match="publish one"):
            await reader.recommend(["i1"], 3)

    asked(nothing, account, search=search)


def test_a_reader_is_opened_first_and_given_a_key_that_fits(shop: Account) -> None:
    with pytest.raises(ExportError, match="async with"):
        asyncio.run(opened(shop).recommend(["i1"], 3))
    with pytest.raises(ExportError, match="cannot search in"):
        AsyncReader(shop.endpoint, shop.key, search="redis")  # type: ignore[arg-type]

    class OfAio:
        async def get_token(self, *scopes: str) -> None: ...

    with pytest.raises(CredentialsError, match=r"instead of azure\.identity\.aio's"):
        AsyncReader("https://name.documents.azure.com", OfAio())  # type: ignore[arg-type]

    async def refused() -> None:
        async with AsyncReader(shop.endpoint, "d3Jvbmc=") as reader:
            await reader.get(["i1"])

    with pytest.raises(CredentialsError):
        asyncio.run(refused())


def test_versions_are_swapped_under_those_who_ask(account: Account, search: Search) -> None:
    """Every answer is of one version while four are published, and the last is reached."""
    versions = [make_items(60, seed=n) for n in range(4)]
    by_first = {items[0].vector.tobytes(): items for items in versions}
    account.publish("v0", versions[0])

    async def work(reader: AsyncReader) -> set[str]:
        seen: set[str] = set()
        finished = asyncio.Event()

        async def ask() -> None:
            while not finished.is_set():
                found = await reader.get(IDS)
                assert list(found.values()) == by_first[found["i0"].vector.tobytes()]
                assert len(await reader.recommend(["i1"], 5)) == 5
                seen.add((await reader.active()).version)

        tasks = [asyncio.create_task(ask()) for _ in range(3)]
        for number in range(1, 4):
            await asyncio.to_thread(account.publish, f"v{number}", versions[number])
        while "v3" not in seen:
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.01)
        finished.set()
        await asyncio.gather(*tasks)
        return seen

    seen = asked(work, account, search=search, refresh_seconds=0.02)
    assert "v3" in seen


def test_memory_goes_on_answering_while_requests_fail(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.publish("v1", ITEMS)

    async def work(reader: AsyncReader) -> None:
        before = await reader.recommend(["i1"], 5)
        account.faults({"status": 503})
        with pytest.raises(UnavailableError):
            await reader.refresh()
        while "goes on answering" not in caplog.text:
            await asyncio.sleep(0.01)
        assert await reader.recommend(["i1"], 5) == before
        assert list((await reader.get(IDS)).values()) == ITEMS
        assert reader.staleness() > 0.05

    asked(work, account, search="memory", refresh_seconds=0.05, patience=0.1)


def test_a_load_outlives_faults(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving_export.reading.PAGE", 7)
    account.publish("v1", ITEMS)

    async def work(reader: AsyncReader) -> list[Any]:
        account.faults(
            {"operations": ["query"], "status": 503, "count": 2, "skip": 2},
            {"operations": ["read"], "status": 429, "retry_after_ms": 1, "count": 2},
        )
        return list((await reader.get(IDS)).values())

    assert asked(work, account, search="memory") == ITEMS
    assert account.fired() == [2, 2]
