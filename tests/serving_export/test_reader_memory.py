"""A version in memory: loaded whole, swapped in one step, kept when the store is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import containers, matrix
from serving_export.errors import ExportError, UnavailableError, VerificationError
from serving_export.matrix import MatrixBuilder
from serving_export.reader import Reader
from serving_export.reading import pause_after
from tests.serving_export.publishing_support import Account, make_items
from tests.support import wait_until

ITEMS = 40
IDS = [f"i{n}" for n in range(ITEMS)]
NEVER = 3600.0


def test_threads_see_whole_versions_while_they_are_swapped(account: Account) -> None:
    """Answers of every kind are of one version; a version is never gone back from."""
    versions = [make_items(ITEMS, seed=n) for n in range(5)]
    by_first = {items[0].vector.tobytes(): n for n, items in enumerate(versions)}
    account.publish("v0", versions[0])
    expected: list[Any] = []
    recommended: list[Any] = []
    problems: list[str] = []
    seen: list[set[int]] = [set() for _ in range(4)]
    finished = threading.Event()

    def ask(reader: Reader, mine: set[int]) -> None:
        newest = 0
        while newest < 4 and not finished.is_set():
            found = reader.get(IDS)
            number = by_first[found["i0"].vector.tobytes()]
            if list(found.values()) != versions[number]:
                problems.append("items of two versions")
            if number < newest:
                problems.append("back to an earlier version")
            newest = number
            mine.add(number)
            recommended.append(reader.recommend(["i1", "i2"], 9))
            finished.wait(0.002)  # four that never pause would starve the publisher

    with account.reader(search="memory", refresh_seconds=0.01) as reader:
        expected.append(reader.recommend(["i1", "i2"], 9))
        threads = [threading.Thread(target=ask, args=(reader, mine)) for mine in seen]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 5):
                account.publish(f"v{number}", versions[number])
                while reader.active().version != f"v{number}":
                    finished.wait(0.002)
                expected.append(reader.recommend(["i1", "i2"], 9))
            for thread in threads:
                thread.join(60)
        finally:
            finished.set()
    assert not problems
    assert all(answer in expected for answer in recommended)
    assert set.union(*seen) >= {0, 4}


def test_a_rollback_is_followed(account: Account) -> None:
    old, new = make_items(ITEMS), make_items(ITEMS, seed=1)
    account.publish("v1", old)
    account.publish("v2", new)
    with account.reader(search="memory", refresh_seconds=NEVER) as reader:
        assert reader.get(["i3"]) == {"i3": new[3]}
        account.rollback()
        assert reader.get(["i3"]) == {"i3": new[3]}
        assert reader.refresh().version == "v1"
        assert reader.get(["i3"]) == {"i3": old[3]}
        assert reader.active().version == "v1"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that are read into memory from here on."""
    begun: list[str] = []
    original = MatrixBuilder.__init__

    def counted(self: MatrixBuilder, version: Any) -> None:
        begun.append(version.version)
        original(self, version)

    monkeypatch.setattr(MatrixBuilder, "__init__", counted)
    return begun


def test_one_load_serves_all_who_wait_for_it(account: Account, loads: list[str]) -> None:
    account.publish("v1", make_items(ITEMS))
    with account.reader(search="memory", refresh_seconds=NEVER) as reader:
        barrier = threading.Barrier(6)
        answers: list[Any] = []

        def ask() -> None:
            barrier.wait()
            answers.append(reader.recommend(["i1"], 5))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 6
        assert all(answer == answers[0] for answer in answers)
        reader.refresh()
    assert loads == ["v1"]


def test_a_load_outlives_faults(account: Account, loads: list[str]) -> None:
    account.publish("v1", make_items(ITEMS))
    with account.reader(search="memory") as reader:
        account.faults(
            {"operations": ["query"], "status": 503, "count": 2},
            {"operations": ["read"], "status": 500, "count": 1},
        )
        assert len(reader.get(IDS)) == ITEMS
    assert account.fired() == [2, 1]
    assert loads == ["v1"]


def test_pages_are_put_together_after_a_fault_between_them(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving_export.reading.PAGE", 7)
    items = make_items(ITEMS)
    account.publish("v1", items)
    with account.reader(search="memory") as reader:
        account.faults({"operations": ["query"], "status": 503, "count": 1, "skip": 2})
        assert list(reader.get(IDS).values()) == items
        assert account.fired() == [1]


def test_memory_goes_on_answering_while_the_store_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = make_items(ITEMS)
    with cosmos_server(tmp_path / "cosmos") as endpoint:
        account = Account(endpoint, COSMOS_KEY, "away")
        account.create_containers()
        account.publish("v1", items)
        reader = account.reader(search="memory", refresh_seconds=0.05, patience=0.2)
        before = reader.recommend(["i1"], 5)
    with reader:
        wait_until(lambda: "goes on answering" in caplog.text, "the poller does not complain")
        assert reader.recommend(["i1"], 5) == before
        assert list(reader.get(IDS).values()) == items
        assert reader.active().version == "v1"
        assert reader.staleness() > 0.05
        with pytest.raises(UnavailableError):
            reader.refresh()
        assert reader.recommend(["i1"], 5) == before


def damaged(account: Account, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a document of the active slot behind the back of everybody."""
    slot = account.status().active.slot
    container = account.container(containers.item_container(slot))
    document = container.read_item("i3", partition_key="i3")
    container.delete_item("i3", partition_key="i3")
    change(document)
    if document:
        container.upsert_item(document)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda document: document.clear(), "has 39 documents of 40"),
        (lambda document: document.update(version="v0"), "has 39 documents of 40"),
        (lambda document: document["vector"].reverse(), "has other vectors than were published"),
        (lambda document: document["vector"].pop(), "has a document that cannot be read"),
        (lambda document: document.pop("context"), "has a document that cannot be read"),
        (lambda document: document.pop("category"), "has a document .*category"),
        (lambda document: document.update(vector="none"), "has a document that cannot be read"),
        (lambda document: document.update(similar=[5]), "has a document that cannot be read"),
    ],
    ids=["lost", "other version", "changed", "short", "no context", "no field", "text", "list"],
)
def test_a_version_that_is_not_as_published_is_not_loaded(
    account: Account, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    account.publish("v1", make_items(ITEMS))
    damaged(account, change)
    with (
        account.reader(search="memory") as reader,
        pytest.raises(VerificationError, match=f"Version v1 in slot a {told}.*; publish it again"),
    ):
        reader.refresh()


def test_a_damaged_version_does_not_replace_a_whole_one(account: Account) -> None:
    account.publish("v1", make_items(ITEMS))
    with account.reader(search="memory", refresh_seconds=NEVER) as reader:
        before = reader.recommend(["i1"], 5)
        account.publish("v2", make_items(ITEMS, seed=2))
        damaged(account, dict.clear)
        with pytest.raises(VerificationError):
            reader.refresh()
        assert reader.recommend(["i1"], 5) == before
        assert reader.active().version == "v1"
        account.publish("v2", make_items(ITEMS, seed=2))
        assert reader.refresh().version == "v2"


def test_a_damaged_version_is_not_read_over_and_over() -> None:
    pauses = [pause := 0.02]
    for _ in range(9):
        pauses.append(pause := pause_after(VerificationError(""), pause, 0.02))
    assert pauses[1:3] == [0.04, 0.08]
    assert pauses[-1] == 0.4
    assert pause_after(None, 0.4, 0.02) == pause_after(ExportError(""), 0.4, 0.02) == 0.02


def test_a_slot_that_is_loaded_again_meanwhile_is_left_for_the_active_one(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking up and reading three promotions pass, the third into the slot it reads."""
    newest = make_items(ITEMS, seed=4)
    account.publish("v1", make_items(ITEMS))
    with account.reader(search="memory", refresh_seconds=NEVER) as reader:
        original = matrix.load

        def late(active: Any) -> Any:
            for version, items in (("v2", newest), ("v3", newest), ("v4", newest)):
                account.publish(version, items)
            return original(active)

        monkeypatch.setattr(matrix, "load", late)
        assert reader.get(["i3"]) == {"i3": newest[3]}
        assert reader.active().version == "v4"


def test_a_reader_can_be_closed_at_any_time(account: Account) -> None:
    account.publish("v1", make_items(ITEMS))
    reader = account.reader(search="memory", refresh_seconds=0.001)
    reader.refresh()
    assert "hyperrec reader" in {thread.name for thread in threading.enumerate()}
    reader.close()
    assert "hyperrec reader" not in {thread.name for thread in threading.enumerate()}
    closed = account.reader(search="memory")
    closed.close()
    with pytest.raises(ExportError, match="The reader is closed"):
        closed.refresh()
    stored = account.reader()
    stored.close()
    with pytest.raises(ExportError, match="The reader is closed"):
        stored.get(["i1"])


def test_what_is_held_is_told(
    account: Account, caplog: pytest.LogCaptureFixture, loads: list[str]
) -> None:
    items = [replace(item, similar=(("i1", -1.5), ("gone", -2.0))) for item in make_items(ITEMS)]
    account.publish("v1", items)
    with caplog.at_level(logging.INFO), account.reader(search="memory") as reader:
        reader.refresh()
        assert reader.get(IDS)["i7"].similar == (("i1", -1.5), ("gone", -2.0))
        assert reader.staleness() < NEVER
    assert "version v1 is in memory: 40 items" in caplog.text
