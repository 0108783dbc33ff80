"""Several writing processes: shares, a key nobody sees, and nothing left when one is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from serving_export import load, verify
from serving_export.errors import CredentialsError, ExportError, ProcessEndedError
from serving_export.meter import Meter, Progress
from serving_export.pacing import Pace
from serving_export.processes import Target, upsert
from tests.faults.exporting import publisher
from tests.serving_export.publishing_support import Account, make_items
from tests.serving_export.test_publish_faults import assert_published, wait_until

TWO = Pace(processes=2)
SLOW = {"operations": ["upsert"], "delay_ms": 200}


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SMALLEST_SHARE", 50)


def writing_processes(parent: int) -> Iterator[int]:
    """The writing processes that a process has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            ours = int(stat[1]) == parent and stat[0] != "Z"
            if ours and b"serving_export.child" in (folder / "cmdline").read_bytes():
                yield int(folder.name)
        except OSError:
            continue


def test_two_processes_write_every_document_once(account: Account) -> None:
    items = make_items(300)
    told: list[Progress] = []
    account.faults({"status": 503, "rate": 0.1, "seed": 1, "operations": ["upsert"]})
    report = account.publish("v1", items, pace=TWO, progress=told.append)
    fired = account.fired()
    account.faults()
    assert_published(account, "v1", items)
    assert report.written == 300
    assert report.retries == fired[0] > 0
    written = [state for state in told if state.doing == "writing"]
    assert written[-1].done == written[-1].total == 300
    assert written[-1].request_units >= 300 * 5
    assert list(writing_processes(os.getpid())) == []


def test_a_replica_that_lags_behind_other_processes_is_looked_at_again(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = {"compare": verify.compare, "count": verify.count}, {"compare": 0, "count": 0}
    lagging = {"compare": verify.Comparison(("i0",), ("i1",), ()), "count": 7}

    def late(name: str) -> Callable[..., Any]:
        async def look(*given: Any, **named: Any) -> Any:
            looks[name] += 1
            # The first count is of a load that was cut short, before anything is written.
            at_first = looks[name] == (2 if name == "count" else 1)
            return lagging[name] if at_first else await real[name](*given, **named)

        return look

    monkeypatch.setattr(verify, "compare", late("compare"))
    monkeypatch.setattr(verify, "count", late("count"))
    items = make_items(120)
    account.publish("v1", items, pace=TWO)
    assert looks == {"compare": 2, "count": 3}
    monkeypatch.undo()
    assert_published(account, "v1", items)


def test_a_small_version_needs_no_second_process(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "SMALLEST_SHARE", 1000)
    monkeypatch.setattr("serving_export.processes.upsert", None)  # calling it would fail
    account.publish("v1", make_items(30), pace=TWO)


def test_the_key_is_in_no_argument_and_no_variable(account: Account) -> None:
    seen: list[bytes] = []

    def look(progress: Progress) -> None:
        if progress.doing == "writing" and not seen:
            for process in writing_processes(os.getpid()):
                folder = Path(f"/proc/{process}")
                seen.append((folder / "cmdline").read_bytes() + (folder / "environ").read_bytes())

    account.publish("v1", make_items(200), pace=TWO, progress=look)
    assert seen
    assert not any(account.key.encode() in words for words in seen)


def test_a_writing_process_that_is_killed_fails_the_publish_and_the_next_goes_on(
    account: Account,
) -> None:
    items = make_items(400)
    account.faults(SLOW)

    def kill_one(progress: Progress) -> None:
        if progress.doing == "writing" and progress.done > 50:
            for process in list(writing_processes(os.getpid()))[:1]:
                os.kill(process, signal.SIGKILL)

    with pytest.raises(ProcessEndedError, match="was killed by signal 9"):
        account.publish("v1", items, pace=TWO, progress=kill_one)
    account.faults()
    assert list(writing_processes(os.getpid())) == []
    assert account.status().active is None and account.status().loading is None
    assert 0 < account.publish("v1", items, pace=TWO).written < 400
    assert_published(account, "v1", items)


def test_a_publish_that_is_killed_leaves_no_writing_process(account: Account) -> None:
    account.faults(SLOW)
    with publisher(account.endpoint, account.database, account.database) as child:
        process = child.start("v1", seed=0, count=400, processes=2)
        wait_until(lambda: len(list(writing_processes(process))) == 2)
        wait_until(lambda: sum(account.fired()) > 0)
        children = list(writing_processes(process))
        os.kill(process, signal.SIGKILL)
        assert child.ended() == -signal.SIGKILL
        wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in children), 10)
        account.faults()
        child.start("v1", seed=0, count=400, processes=2)
        assert child.ended() == 0
    assert_published(account, "v1", make_items(400))


def run_upsert(target: Target, held_until: Callable[[], float]) -> None:
    import asyncio  # noqa: PLC0415

    documents = ({"id": f"i{n}", "item_id": f"i{n}"} for n in range(100))
    asyncio.run(
        upsert(
            target,
            documents,
            pace=TWO,
            processes=2,
            held_until=held_until,
            meter=Meter("writing", 100, None),
        )
    )


def target_of(account: Account, credential: object) -> Target:
    return Target(
        account.endpoint,
        credential,  # type: ignore[arg-type]
        account.database,
        "item-embeddings-a",
        2.0,
    )


def test_a_lost_lease_ends_the_writing_processes(account: Account) -> None:
    asked = threading.Event()

    def held_until() -> float:
        if asked.is_set():
            raise ExportError("the lease is lost")
        asked.set()
        return 0.0  # in the past: nothing may be written

    with pytest.raises(ExportError, match="the lease is lost"):
        run_upsert(target_of(account, account.key), held_until)
    assert account.documents("a") == []
    assert list(writing_processes(os.getpid())) == []


def test_a_wrong_key_is_told_by_the_process_that_used_it(account: Account) -> None:
    with pytest.raises(CredentialsError, match="refused the credential"):
        run_upsert(target_of(account, "d3Jvbmc="), lambda: 1e12)


class Identity:
    """A token credential that notes what was asked of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error = error

    def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        self.asked += scopes
        if self.error is not None:
            raise self.error
        return AccessToken("a token", 2**31)


def test_processes_ask_their_parent_for_tokens() -> None:
    identity = Identity(ClientAuthenticationError("No managed identity was found.\nMore."))
    # Plain http takes no tokens, so the address is one that is never reached.
    target = Target("https://127.0.0.1:9", identity, "d", "c", 1.0)
    with pytest.raises(CredentialsError, match="No managed identity was found"):
        run_upsert(target, lambda: 1e12)
    assert any("127.0.0.1" in scope or "cosmos" in scope for scope in identity.asked)
