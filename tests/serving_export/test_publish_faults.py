"""Publishing when things go wrong: kills, faults, rivals, tampering, a service that is away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import lease, publish, slots
from serving_export.client import async_client
from serving_export.containers import item_container
from serving_export.control import control_store
from serving_export.errors import (
    CredentialsError,
    ExportError,
    HeldByAnotherError,
    UnavailableError,
    VerificationError,
)
from serving_export.meter import Progress
from serving_export.slots import Control
from tests.serving_export.publishing_support import Account, make_items

LONG_MS = 60_000
ITEMS = 60

PUBLISH = """
import sys
from infra.local.published_keys import COSMOS_KEY
from tests.serving_export.publishing_support import Account, make_items
endpoint, database = sys.argv[1:]
Account(endpoint, COSMOS_KEY, database).publish("v2", make_items(60, seed=2))
"""


@contextmanager
def publishing_elsewhere(account: Account) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that publishes version v2."""
    child = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, account.endpoint, account.database],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_until(what: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.02)


def assert_published(account: Account, version: str, items: list[Any]) -> Control:
    """The version is active and its slot holds it and nothing else."""
    control: Control = account.status()
    assert control.active is not None and control.active.version == version
    assert control.loading is None
    documents = account.documents(control.active.slot)
    assert {document["version"] for document in documents} == {version}
    assert len(documents) == len(items) == control.active.items
    with account.reader() as reader:
        assert reader.get([i.item_id for i in items]) == {i.item_id: i for i in items}
    return control


KILL_POINTS = {
    "before the lease": {"operations": ["replace"], "container": "control"},
    "lease taken, answer lost": {
        "operations": ["replace"],
        "container": "control",
        "when": "after",
    },
    "before the first document": {"operations": ["upsert"]},
    "in the middle of the documents": {"operations": ["upsert"], "skip": 30},
    "while reading back": {"operations": ["query"], "skip": 1},
    "in the middle of the leftovers": {"operations": ["delete"], "skip": 5},
    "before the flip": {"operations": ["replace"], "container": "control", "skip": 1},
    "after the flip, answer lost": {
        "operations": ["replace"],
        "container": "control",
        "skip": 1,
        "when": "after",
    },
}


@pytest.mark.parametrize("point", KILL_POINTS)
def test_killed_anywhere_and_started_again_ends_in_one_whole_version(
    account: Account, point: str
) -> None:
    old, new = make_items(10), make_items(ITEMS, seed=2)
    for version in ("v-1", "v0", "v1"):  # all slots in use, so the next load finds leftovers
        account.publish(version, make_items(ITEMS + 15) if version == "v-1" else old)
    account.faults(KILL_POINTS[point] | {"delay_ms": LONG_MS})
    with publishing_elsewhere(account) as child:
        wait_until(lambda: sum(account.fired()) > 0)
        child.send_signal(signal.SIGKILL)
        child.wait()
    account.faults()

    with account.reader() as reader:  # readers are whole between the kill and the next try
        active = reader.active().version
        whole = {"v1": old, "v2": new}[active]
        assert reader.get([i.item_id for i in new]) == {i.item_id: i for i in whole}

    report = account.publish("v2", new, run_id="run of v2")
    control = assert_published(account, "v2", new)
    assert control.previous is not None and control.previous.version == "v1"
    assert report.already_active == (point == "after the flip, answer lost")
    if point == "in the middle of the documents":
        assert 0 < report.written < ITEMS


def test_faults_of_every_kind_lose_nothing(account: Account) -> None:
    rules: list[dict[str, Any]] = [
        {"status": status, "rate": 0.03, "seed": status} for status in (408, 410, 449, 500, 503)
    ]
    rules.append({"status": 429, "retry_after_ms": 5, "rate": 0.05, "seed": 1})
    rules.append({"drop": True, "rate": 0.03, "seed": 2})
    rules.append({"drop": True, "when": "after", "rate": 0.03, "seed": 3})
    account.publish("v1", make_items(200))
    account.faults(*rules)
    report = account.publish("v2", make_items(150, seed=2))
    assert min(account.fired()) > 0
    account.faults()
    assert report.retries > 0
    assert_published(account, "v2", make_items(150, seed=2))


def test_a_tight_budget_loses_nothing(account: Account) -> None:
    account.faults(ru_per_second=500)
    report = account.publish("v1", make_items(300))
    account.faults()
    assert report.request_units > 1000
    assert_published(account, "v1", make_items(300))


def test_of_two_publishes_one_wins_and_the_other_names_it(account: Account) -> None:
    account.faults({"operations": ["upsert"], "delay_ms": LONG_MS})
    with publishing_elsewhere(account):
        wait_until(lambda: sum(account.fired()) > 0)
        with pytest.raises(HeldByAnotherError, match="run of v2 is loading version v2 into slot a"):
            account.publish("v3", make_items(5))
        with pytest.raises(HeldByAnotherError, match="run of v2"):
            account.publish("v2", make_items(ITEMS, seed=2))  # the same run, and it lives


def loading_from_another_machine(account: Account, ends_in: float) -> None:
    with control_store(
        account.endpoint, account.key, database=account.database, dimensions=None, patience=5
    ) as store:
        foreign = slots.Loading(
            "", "v1", "run of v1", "elsewhere:7:run of v1", "x/y/7/1", "1", datetime.now(UTC)
        )

        def begin(control: Control) -> Control:
            now = datetime.now(UTC) - slots.LEASE + timedelta(seconds=ends_in)
            return slots.begin_load(control, foreign, now=now, abandoned=False)

        store.update(begin)


def test_the_same_run_waits_for_the_lease_it_may_have_had_on_another_machine(
    account: Account,
) -> None:
    loading_from_another_machine(account, ends_in=1.0)
    account.publish("v1", make_items(3))
    assert_published(account, "v1", make_items(3))


def test_another_run_does_not_wait_for_a_machine_it_cannot_look_at(account: Account) -> None:
    loading_from_another_machine(account, ends_in=30.0)
    with pytest.raises(HeldByAnotherError, match="elsewhere:7:run of v1"):
        account.publish("v2", make_items(3))


def test_an_expired_lease_of_another_run_is_taken_over(account: Account) -> None:
    loading_from_another_machine(account, ends_in=-1.0)
    account.publish("v2", make_items(3))
    assert_published(account, "v2", make_items(3))


def test_a_load_whose_lease_was_taken_stops_writing(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.05)
    with (
        control_store(
            account.endpoint, account.key, database=account.database, dimensions=None, patience=5
        ) as store,
        lease.holding(store, version="v1", run_id="one", load="one") as (_, keeper),
    ):
        assert keeper.held_until() > time.monotonic()
        taken = slots.Loading("", "v2", "two", "far:1:two", None, "two", datetime.now(UTC))
        store.update(
            lambda control: slots.begin_load(control, taken, now=datetime.now(UTC), abandoned=True)
        )
        with pytest.raises(HeldByAnotherError, match="far:1:two took over"):
            wait_until(lambda: keeper.held_until() < 0, seconds=10)


def test_a_process_is_known_by_more_than_its_number() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = lease.process_identity(child.pid)
        held = slots.Loading("a", "v", "r", "h", identity, "l", datetime.now(UTC))
        assert lease.is_alive(held) is True
        assert identity is not None
        recycled = replace(held, process=identity.rpartition("/")[0] + "/1")
        assert lease.is_alive(recycled) is False
        child.kill()
        wait_until(lambda: lease.is_alive(held) is False)  # also before it is waited for
    assert lease.is_alive(held) is False
    assert lease.is_alive(replace(held, process=None)) is None
    assert lease.is_alive(replace(held, process="boot/pid:[1]/7/1")) is None


def test_a_tampered_document_stops_the_promotion_and_the_next_try_mends_it(
    account: Account,
) -> None:
    account.publish("v1", make_items(10))
    items = make_items(20, seed=2)
    slot = account.container(item_container("b"))

    def tamper(progress: Progress) -> None:
        if progress.doing == "writing" and progress.done == progress.total:
            document = slot.read_item("i7", "i7")
            document["vector"][0] += 1e-6
            slot.replace_item("i7", document)
            slot.delete_item("i9", "i9")

    with pytest.raises(VerificationError, match=r"1 missing \('i9'\) and 1 different \('i7'\)"):
        account.publish("v2", items, progress=tamper)
    control = account.status()
    assert control.active.version == "v1" and control.loading is None
    assert account.publish("v2", items).written == 2
    assert_published(account, "v2", items)


def test_an_active_version_that_lost_documents_is_published_again(account: Account) -> None:
    items = make_items(12)
    account.publish("v1", make_items(4, seed=9))
    account.publish("v2", items)
    account.container(item_container("b")).delete_item("i3", "i3")
    report = account.publish("v2", items)
    assert (report.slot, report.already_active, report.written) == ("c", False, 12)
    control = assert_published(account, "v2", items)
    assert control.previous is not None and control.previous.version == "v1"


def test_a_wrong_key_is_told_in_one_sentence(account: Account) -> None:
    wrong = replace(account, key="d3Jvbmc=")
    with pytest.raises(CredentialsError, match="refused the credential") as refusal:
        wrong.publish("v1", make_items(2))
    assert "d3Jvbmc" not in str(refusal.value)
    with pytest.raises(CredentialsError, match="not base64") as refusal:
        replace(account, key="secret").status()
    assert "secret" not in str(refusal.value)
    with pytest.raises(ExportError, match="account's URI alone") as bad_address:
        replace(account, endpoint="AccountEndpoint=x;AccountKey=secret").status()
    assert "secret" not in str(bad_address.value)


class NoToken:
    """An identity that cannot log in."""

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        raise ClientAuthenticationError("No managed identity was found.\nSecond line.")


def test_an_identity_without_a_token_is_told_in_one_sentence(account: Account) -> None:
    with pytest.raises(CredentialsError, match="plain http"):
        publish.status(account.endpoint, NoToken())
    with pytest.raises(CredentialsError, match=r"\(No managed identity was found\); check"):
        publish.status("https://127.0.0.1:9", NoToken())

    async def connect() -> None:
        async with async_client("https://127.0.0.1:9", NoToken(), patience=1.0):
            pass

    with pytest.raises(CredentialsError, match="No managed identity was found"):
        asyncio.run(connect())


@pytest.mark.parametrize("listening", [False, True], ids=["refused", "silent"])
def test_an_endpoint_that_is_away_is_given_up_in_bounded_time(
    account: Account, listening: bool
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listening:
            silent.listen()
        away = replace(account, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="was not available for 1 s while connecting"):
            away.publish("v1", make_items(2), patience=1.0)
        assert time.monotonic() - started < 60


def test_a_service_that_goes_away_in_the_middle_is_told_and_the_next_run_resumes(
    tmp_path: Path,
) -> None:
    items = make_items(400)
    with ExitStack() as server:
        account = Account(server.enter_context(cosmos_server(tmp_path)), COSMOS_KEY, "hyperrec")
        account.create_containers()
        with pytest.raises(UnavailableError, match="was not available for 1 s while writing items"):
            account.publish("v1", items, patience=1.0, progress=lambda _: server.close())
    with cosmos_server(tmp_path) as endpoint:
        account = Account(endpoint, COSMOS_KEY, "hyperrec")
        assert account.status().loading is not None  # it could not be given back
        assert 0 < account.publish("v1", items).written < 400
        assert_published(account, "v1", items)
