"""SQLite underneath: databases, containers, offers and items, each write its own commit.

The write-ahead log with `synchronous=NORMAL` keeps every committed write through a killed
process (not through a power cut, which a test endpoint need not survive). Items are kept as the
JSON text that reads return, so a float64 comes back with the shortest text that parses to it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

Json = dict[str, Any]

# `sequence` is the order of creation and never changes for an item: pages continue after it.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS databases (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS containers (
    database TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (database, id));
CREATE TABLE IF NOT EXISTS offers (id TEXT PRIMARY KEY, resource TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, container TEXT NOT NULL,
    partition TEXT NOT NULL, id TEXT NOT NULL, etag TEXT NOT NULL,
    modified INTEGER NOT NULL, ttl INTEGER, body TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS item_key ON items (container, partition, id);
CREATE INDEX IF NOT EXISTS item_order ON items (container, sequence);
CREATE INDEX IF NOT EXISTS item_id ON items (container, id);
CREATE TABLE IF NOT EXISTS counter (value INTEGER NOT NULL);
"""


class Item(NamedTuple):
    """A stored item; `body` is its JSON text with the system properties."""

    sequence: int
    partition: str
    id: str
    etag: str
    body: str


@dataclass(frozen=True)
class Container:
    """A container's resource document and what the endpoint looks up in it often."""

    database: str
    body: Json

    @property
    def id(self) -> str:
        """The container's name."""
        return str(self.body["id"])

    @property
    def rid(self) -> str:
        """The container's resource id; a container created again has another."""
        return str(self.body["_rid"])

    @property
    def key_path(self) -> str:
        """The one partition key path, such as `/item_id`."""
        return str(self.body["partitionKey"]["paths"][0])

    @property
    def default_ttl(self) -> int | None:
        """Seconds; None means that nothing expires, -1 that only items with their own ttl do."""
        return self.body.get("defaultTtl")


def resource_id(parent: str, number: int, size: int = 4) -> str:
    """A resource id in the service's form: its parent's bytes and a number, base64 with - for /."""
    raw = base64.b64decode(parent.replace("-", "/")) + number.to_bytes(size, "big")
    return base64.b64encode(raw).decode().replace("/", "-")


class Store:
    """The one owner of the database file. Not safe for threads: the server has one loop."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates the data in `folder`.

        Raises:
            BlockingIOError: when another process serves the same folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._db = sqlite3.connect(folder / "cosmos.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        # Log sequence numbers go into session tokens; starting from the clock they never fall.
        self._lsn = itertools.count(int(time.time() * 1000))
        self._containers: dict[tuple[str, str], Container] = {}
        for database, body in self._db.execute("SELECT database, body FROM containers"):
            container = Container(database, json.loads(body))
            self._containers[database, container.id] = container

    def close(self) -> None:
        """Closes the file; what was answered is already committed."""
        self._db.close()
        self._lock.close()

    def next_lsn(self) -> int:
        """A new log sequence number."""
        return next(self._lsn)

    def next_number(self) -> int:
        """A number no resource of this data folder had before, for resource ids."""
        row = self._db.execute("SELECT value FROM counter").fetchone()
        if row is None:
            self._db.execute("INSERT INTO counter VALUES (1)")
            return 1
        self._db.execute("UPDATE counter SET value = value + 1")
        return int(row[0]) + 1

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside become one commit, or none of them when the block raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Databases, containers and offers.

    def databases(self) -> list[Json]:
        """All databases by name."""
        rows = self._db.execute("SELECT body FROM databases ORDER BY id")
        return [json.loads(body) for (body,) in rows]

    def database(self, name: str) -> Json | None:
        """One database's resource document."""
        row = self._db.execute("SELECT body FROM databases WHERE id = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def put_database(self, body: Json) -> None:
        """Creates or replaces a database document."""
        self._db.execute(
            "INSERT OR REPLACE INTO databases VALUES (?, ?)", (body["id"], json.dumps(body))
        )

    def drop_database(self, body: Json) -> None:
        """Deletes a database with all it holds."""
        with self.transaction():
            for container in self.containers(body["id"]):
                self._drop_container(container)
            self._db.execute("DELETE FROM offers WHERE resource = ?", (body["_self"],))
            self._db.execute("DELETE FROM databases WHERE id = ?", (body["id"],))
        for key in [key for key in self._containers if key[0] == body["id"]]:
            del self._containers[key]

    def containers(self, database: str) -> list[Container]:
        """The containers of a database by name."""
        return [c for key, c in sorted(self._containers.items()) if key[0] == database]

    def container(self, database: str, name: str) -> Container | None:
        """One container."""
        return self._containers.get((database, name))

    def put_container(self, container: Container) -> None:
        """Creates or replaces a container's resource document."""
        self._db.execute(
            "INSERT OR REPLACE INTO containers VALUES (?, ?, ?)",
            (container.database, container.id, json.dumps(container.body)),
        )
        self._containers[container.database, container.id] = container

    def drop_container(self, container: Container) -> None:
        """Deletes a container and its items."""
        with self.transaction():
            self._drop_container(container)
        del self._containers[container.database, container.id]

    def _drop_container(self, container: Container) -> None:
        self._db.execute("DELETE FROM items WHERE container = ?", (container.rid,))
        self._db.execute("DELETE FROM offers WHERE resource = ?", (container.body["_self"],))
        self._db.execute(
            "DELETE FROM containers WHERE database = ? AND id = ?",
            (container.database, container.id),
        )

    def offers(self) -> list[Json]:
        """All offers (provisioned throughput), one a database or container that has its own."""
        return [json.loads(body) for (body,) in self._db.execute("SELECT body FROM offers")]

    def put_offer(self, body: Json) -> None:
        """Creates or replaces an offer."""
        self._db.execute(
            "INSERT OR REPLACE INTO offers VALUES (?, ?, ?)",
            (body["id"], body["resource"], json.dumps(body)),
        )

    # Items.

    @staticmethod
    def _alive(container: Container, now: float) -> tuple[str, list[Any]]:
        """SQL that holds for items not yet expired, with its parameters."""
        default = container.default_ttl
        if default is None:
            return "1", []
        ttl = "COALESCE(ttl, ?)"
        return f"({ttl} = -1 OR modified + {ttl} > ?)", [default, default, now]

    def get(self, container: Container, partition: str, item_id: str, now: float) -> Item | None:
        """One item by its full key, unless it has expired."""
        alive, values = self._alive(container, now)
        row = self._db.execute(
            "SELECT sequence, partition, id, etag, body FROM items "  # noqa: S608
            f"WHERE container = ? AND partition = ? AND id = ? AND {alive}",
            [container.rid, partition, item_id, *values],
        ).fetchone()
        return Item(*row) if row else None

    def insert(self, container: Container, partition: str, item_id: str) -> int:
        """Reserves an item's row, in place of an expired one, and returns its sequence number.

        The item's own resource id contains that number, so the body follows with `update`.
        """
        self._db.execute(
            "DELETE FROM items WHERE container = ? AND partition = ? AND id = ?",
            (container.rid, partition, item_id),
        )
        cursor = self._db.execute(
            "INSERT INTO items (container, partition, id, etag, modified, body) "
            "VALUES (?, ?, ?, '', 0, '')",
            (container.rid, partition, item_id),
        )
        assert cursor.lastrowid is not None  # noqa: S101 (an INSERT sets it)
        return cursor.lastrowid

    def update(self, sequence: int, etag: str, modified: int, ttl: int | None, body: str) -> None:
        """Gives an item its content."""
        self._db.execute(
            "UPDATE items SET etag = ?, modified = ?, ttl = ?, body = ? WHERE sequence = ?",
            (etag, modified, ttl, body, sequence),
        )

    def delete(self, sequence: int) -> None:
        """Deletes an item."""
        self._db.execute("DELETE FROM items WHERE sequence = ?", (sequence,))

    def scan(
        self,
        container: Container,
        now: float,
        *,
        after: int = 0,
        partition: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> Iterator[Item]:
        """Items in order of creation.

        Args:
            container: where.
            now: seconds since the epoch, for expiry.
            after: only items with a greater sequence number.
            partition: only this logical partition.
            ids: only items with one of these ids.
        """
        where, values = self._alive(container, now)
        where = f"container = ? AND sequence > ? AND {where}"
        values = [container.rid, after, *values]
        if partition is not None:
            where += " AND partition = ?"
            values.append(partition)
        source = "items"
        if ids is not None:
            # Left to itself, SQLite would walk the container in order rather than sort the few.
            source = "items INDEXED BY item_id"
            where += " AND id IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(list(ids)))
        cursor = self._db.execute(
            f"SELECT sequence, partition, id, etag, body FROM {source} "  # noqa: S608
            f"WHERE {where} ORDER BY sequence",
            values,
        )
        with contextlib.closing(cursor):
            for row in cursor:
                yield Item(*row)

    def count(self, container: Container, now: float, partition: str | None = None) -> int:
        """How many items are alive, without reading them."""
        alive, values = self._alive(container, now)
        where = f"container = ? AND {alive}"
        values = [container.rid, *values]
        if partition is not None:
            where += " AND partition = ?"
            values.append(partition)
        row = self._db.execute(f"SELECT COUNT(*) FROM items WHERE {where}", values).fetchone()  # noqa: S608
        return int(row[0])
