"""What the suite may run against, and which capabilities each target has.

A test says by `pytest.mark.requires(...)` what it needs beyond databases, containers and items
that are created, read, replaced, upserted and deleted; it runs against the targets that have it.
The table in `infra/local/cosmos/README.md` is this one.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

EXTERNAL = os.environ.get("COSMOS_ENDPOINT")

WITNESS = Path(__file__).resolve().parents[1] / "witness"
WITNESS_MODULES = WITNESS / "node_modules" / "@vercel" / "cosmosdb-server"

CAPABILITIES = {
    "addresses": "every id has an address, whatever its characters",
    "auth": "signatures and their dates are checked",
    "batch": "transactional batches: all or nothing, 424 for the others",
    "batch-etag": "a batch checks ETags and patch conditions",
    "charges": "request charges that grow with the work",
    "errors": "refusals have the status the service documents",
    "etag-delete": "a delete checks its ETag",
    "feeds": "databases and containers are listed and queried",
    "indexing": "indexing policies are kept, checked and obeyed by ORDER BY",
    "keys": "an item is named by its whole partition key and its id",
    "limits": "sizes and numbers have the service's limits",
    "local": "fault injection, budgets, and 400 for all that the subset lacks",
    "minimal": "a write answers without a body where none is wanted",
    "partition-query": "SQL over one partition",
    "sql": "details: types never compare, NOT IN, NOT BETWEEN, DISTINCT, OFFSET",
    "offers": "provisioned throughput is kept and checked",
    "pages": "results come in pages with continuation",
    "patch": "partial updates",
    "query": "SQL over all partitions",
    "replace-container": "a container's settings are replaced",
    "ttl": "items expire",
    "vector": "vector policies and VectorDistance",
    "vector-limits": "vector policies are checked",
}


@dataclass(frozen=True)
class Target:
    """Something that speaks the protocol.

    Attributes:
        title: what it is.
        lacks: the capabilities it does not have.
    """

    title: str
    lacks: frozenset[str] = frozenset()

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(CAPABILITIES) - self.lacks


TARGETS = {
    "local": Target("the endpoint of infra/local/cosmos"),
    "witness": Target(
        "npm's @vercel/cosmosdb-server 1.0.1, where it is right",
        frozenset(CAPABILITIES) - {"feeds", "pages", "patch", "query"},
    ),
    # By its documentation and its issues; see the README for which.
    "vnext": Target(
        "Microsoft's Linux emulator, of the tag in docker/compose.yaml",
        frozenset(
            [
                "auth",
                "batch-etag",
                "charges",
                "feeds",
                "indexing",
                "limits",
                "local",
                "offers",
                "replace-container",
                "vector-limits",
            ]
        ),
    ),
    "account": Target("an Azure Cosmos DB account", frozenset(["local"])),
}


def witness_is_installed() -> bool:
    return WITNESS_MODULES.exists() and shutil.which("node") is not None


def chosen() -> list[str]:
    """The targets of this run: one that COSMOS_ENDPOINT names, or those that run here."""
    if EXTERNAL:
        name = os.environ.get("COSMOS_TARGET", "account")
        if name not in TARGETS:
            raise pytest.UsageError(f"COSMOS_TARGET is {name!r}; give one of {', '.join(TARGETS)}.")
        return [name]
    return ["local", "witness"] if witness_is_installed() else ["local"]
