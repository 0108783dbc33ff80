"""Request charges by size: close enough to the service to plan a budget by, not to bill.

Source: "Request Units in Azure Cosmos DB" (1 KB read 1 RU, 100 KB read 10 RU; a 1 KB write about
5 RU plus its index, 100 KB about 50).
"""

from __future__ import annotations


def read(size: int) -> float:
    """RU of a point read of `size` bytes."""
    return round(1.0 + max(0.0, size / 1024 - 1) / 11, 2)


def write(size: int) -> float:
    """RU of writing or deleting an item of `size` bytes."""
    return round(5.0 + max(0.0, size / 1024 - 1) / 2.2, 2)


def query(items: int, size: int) -> float:
    """RU of a query page that looked at `items` items and returned `size` bytes."""
    return round(2.3 + 0.02 * items + size / 1024 / 11, 2)
