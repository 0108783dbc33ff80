"""An account to publish to, and items to publish."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
from azure.cosmos import ContainerProxy, CosmosClient

from serving_export import containers, publish
from serving_export.documents import Item
from serving_export.publish import PublishReport
from serving_export.reader import Reader

D = 4
MODEL: dict[str, Any] = {
    "name": "points",
    "format": 2,
    "geometry": "hyperboloid",
    "d": D,
    "users": "midpoint",
    "aggregator": {"kind": "learned", "lag_weights": [1.0, 0.5, 0.25]},
}


def make_items(count: int, seed: int = 0, *, two_tables: bool = True) -> list[Item]:
    """Items `i0`, `i1`, …, the most popular first, on the hyperboloid, time negated."""
    rng = np.random.default_rng(seed)

    def table() -> np.ndarray:
        space = rng.normal(size=(count, D)) * 0.5
        return np.c_[-np.sqrt(1 + (space**2).sum(1)), space].astype(np.float32)

    vectors, contexts = table(), table()
    return [
        Item(
            item_id=f"i{n}",
            vector=vectors[n],
            context=contexts[n] if two_tables else None,
            count=count - n,
            category=("Home", f"Room {n % 3}"),
            is_live=n % 5 != 4,
            title=f"Item {n}",
        )
        for n in range(count)
    ]


@dataclass(frozen=True)
class Account:
    endpoint: str
    key: str
    database: str

    def publish(self, version: str, items: list[Item], **options: Any) -> PublishReport:
        facts: dict[str, Any] = {
            "version": version,
            "run_id": f"run of {version}",
            "model": MODEL,
            "metrics": {"hr@10": 0.7},
            "who": "tests",
        }
        return publish.publish(
            self.endpoint, self.key, items=items, database=self.database, **(facts | options)
        )

    def status(self) -> Any:
        return publish.status(self.endpoint, self.key, database=self.database)

    def rollback(self) -> Any:
        return publish.rollback(self.endpoint, self.key, who="tests", database=self.database)

    def reader(self, **options: Any) -> Reader:
        return Reader(self.endpoint, self.key, database=self.database, **options)

    def container(self, name: str) -> ContainerProxy:
        client = CosmosClient(self.endpoint, self.key, enable_endpoint_discovery=False)
        return client.get_database_client(self.database).get_container_client(name)

    def documents(self, slot: str) -> list[dict[str, Any]]:
        return list(self.container(containers.item_container(slot)).read_all_items())

    def faults(self, *rules: dict[str, Any], **rest: Any) -> None:
        """Sets the faults of the local endpoint; none clears them."""
        self._admin("PUT", json.dumps({"rules": rules, **rest}).encode())

    def fired(self) -> list[int]:
        """How often each fault struck."""
        return [rule["fired"] for rule in json.loads(self._admin("GET"))["rules"]]

    def _admin(self, method: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310
            f"{self.endpoint}/_local/faults",
            data=body,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return bytes(answer.read())

    def drop(self) -> None:
        """Deletes the database, if it is there."""
        client = CosmosClient(self.endpoint, self.key, enable_endpoint_discovery=False)
        if any(each["id"] == self.database for each in client.list_databases()):
            client.delete_database(self.database)

    def create_containers(self) -> None:
        containers.create_missing(self.endpoint, self.key, D + 1, database=self.database)
