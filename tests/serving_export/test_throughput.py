"""A tight budget, a service that fails one request in ten, and what the pace tells the service."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from infra.local.published_keys import COSMOS_KEY
from serving_export.client import async_client
from serving_export.documents import Item, to_document
from serving_export.meter import Meter, Progress
from serving_export.pacing import Pace
from serving_export.writer import Writer
from tests.benchmarks.instant_cosmos import instant_account
from tests.serving_export.publishing_support import Account, make_items
from tests.serving_export.test_publish_faults import assert_published

KILOBYTE = 1024


def kilobyte_items(count: int, seed: int = 0) -> list[Item]:
    """Items whose documents take a kilobyte."""
    items = make_items(count, seed)
    empty = len(json.dumps(to_document(replace(items[0], title=""), "v1")))
    return [replace(item, title="x" * (KILOBYTE - empty)) for item in items]


@pytest.mark.slow
def test_three_thousand_kilobytes_fit_into_two_thousand_units_a_second(account: Account) -> None:
    items = kilobyte_items(3000)
    told: list[Progress] = []
    account.faults(ru_per_second=2000)
    report = account.publish("v1", items, pace=Pace(request_units=2000.0), progress=told.append)
    account.faults()
    assert report.written == 3000
    assert report.request_units > 15_000
    writing = [state for state in told if state.doing == "writing"][-1]
    assert writing.request_units <= 2000 * (writing.seconds + 1.0) + 32 * 8
    assert_published(account, "v1", items)


@pytest.mark.slow
def test_one_request_in_ten_fails_and_none_is_lost_or_doubled(account: Account) -> None:
    rules: list[dict[str, Any]] = [
        {"status": 429, "retry_after_ms": 5},
        {"status": 503},
        {"status": 500},
        {"status": 408},
        {"drop": True},
        {"drop": True, "when": "after"},
    ]
    items = kilobyte_items(3000, seed=2)
    account.publish("v1", kilobyte_items(300))
    account.faults(*({**rule, "rate": 0.1 / 6, "seed": n} for n, rule in enumerate(rules)))
    report = account.publish("v2", items)
    fired = account.fired()
    account.faults()
    assert min(fired) > 20 and sum(fired) > 250
    assert report.written == 3000 and report.retries > 250
    assert_published(account, "v2", items)


def test_requests_name_their_throughput_bucket() -> None:
    async def write(endpoint: str, bucket: int | None) -> None:
        async with async_client(
            endpoint, COSMOS_KEY, patience=5.0, throughput_bucket=bucket
        ) as client:
            container = client.get_database_client("d").get_container_client("c")
            writer = Writer(container, endpoint, lambda: float("inf"), 5.0, Pace().budget())
            documents = [to_document(item, "v1") for item in make_items(3)]
            await writer.upsert(documents, Meter("writing", 3, None))

    def seen(endpoint: str) -> dict[str, str]:
        with urllib.request.urlopen(f"{endpoint}/seen", timeout=10) as answer:  # noqa: S310
            found: dict[str, str] = json.load(answer)
            return found

    with instant_account() as endpoint:
        asyncio.run(write(endpoint, None))
        assert "x-ms-cosmos-throughput-bucket" not in seen(endpoint)
        asyncio.run(write(endpoint, 3))
        assert seen(endpoint)["x-ms-cosmos-throughput-bucket"] == "3"
