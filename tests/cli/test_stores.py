"""Stores that are away, refuse, or hold nothing yet."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.local import services
from infra.local.process import free_port
from infra.local.published_keys import COSMOS_KEY
from serving_export.containers import DATABASE
from tests.cli.conftest import Fails
from tests.serving_export.publishing_support import Account, make_items
from tests.support import Place, table_rows

WRONG_KEY = base64.b64encode(b"wrong" * 12).decode()


@pytest.fixture
def at_cosmos(place: Place, cosmos: str) -> Place:
    return place.with_settings(COSMOS_ENDPOINT=cosmos)


def test_nothing_is_configured(fails: Fails) -> None:
    assert fails("status", code=2).startswith("No Cosmos DB endpoint is configured: start the")
    assert fails("runs", code=2).startswith("No blob storage is configured for az:// addresses: ")


def test_nothing_was_ever_published(fails: Fails, at_cosmos: Place, cosmos: str) -> None:
    sentence = (
        f"Nothing has ever been published at {cosmos}; `hyperrec run` or `hyperrec export` does it."
    )
    done = at_cosmos.hyperrec("status")
    assert (done.out, done.err) == (f"{sentence}\n", "")
    for words in (["rollback"], ["recommend", "--user-history", "a,b"]):
        assert fails(*words, code=1, at=at_cosmos) == sentence


def test_a_refused_cosmos_key(fails: Fails, at_cosmos: Place, cosmos: str) -> None:
    wrong = at_cosmos.with_settings(COSMOS_KEY=WRONG_KEY)
    assert fails("status", code=1, at=wrong) == (
        f"Cosmos DB at {cosmos} refused the credential while connecting (HTTP 401); check the key, "
        "or the identity's data-plane role on the account."
    )


def test_cosmos_is_away(fails: Fails, place: Place) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    sentence = fails("status", code=1, at=place.with_settings(COSMOS_ENDPOINT=away))
    assert sentence.startswith(f"Cosmos DB at {away} was not available for 1 s while connecting (")
    assert sentence.endswith("check the endpoint and its throughput, then run the same again.")


def test_a_refused_storage_key_and_storage_away(fails: Fails, place: Place, tmp_path: Path) -> None:
    if not services.azurite_installed():
        pytest.skip("Node or infra/local/node_modules is missing")
    with services.azurite_server(tmp_path / "azurite") as url:
        wrong = place.with_settings(AZURE_STORAGE_ACCOUNT_URL=url, AZURE_STORAGE_KEY=WRONG_KEY)
        sentence = fails("runs", code=1, at=wrong)
    assert sentence.startswith(f"Blob storage at {url}/runs refused the credential: check AZURE_")
    assert fails("runs", code=1, at=wrong).startswith(
        f"Blob storage at {url}/runs did not answer for 1 s; bring it back and give the same "
    )


def test_a_wanted_port_is_taken(fails: Fails, place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = fails("up", "--cosmos-port", str(port), code=1)
    assert sentence == (
        f"Port {port} for the Cosmos endpoint is taken by another program; stop that program or "
        "choose another port."
    )
    assert place.hyperrec("down").out == "Stopped: nothing was running.\n"


@pytest.fixture
def shop(place: Place, tmp_path: Path) -> Iterator[Place]:
    """Two versions are published, of three items whose names look like markup."""
    names = (("[a]", "[/b]"), ("b", "[red]mug[/red]"), ("[/c]", "50% [off]"))
    items = [
        replace(item, item_id=item_id, title=title)
        for item, (item_id, title) in zip(make_items(3), names, strict=True)
    ]
    with services.cosmos_server(tmp_path / "cosmos") as endpoint:
        account = Account(endpoint, COSMOS_KEY, DATABASE)
        account.create_containers()
        for version in ("one", "two"):
            account.publish(version, items, who="[/tester]")
        yield place.with_settings(COSMOS_ENDPOINT=endpoint)


def test_a_shops_own_words_are_printed_as_they_are(fails: Fails, shop: Place) -> None:
    active, previous, loading = table_rows(shop.hyperrec("status").out)
    assert (active[0], *active[2:4], active[5]) == ("active", "two", "3", "[/tester]")
    assert (previous[0], *previous[2:4], previous[5]) == ("previous", "one", "3", "[/tester]")
    assert loading[:2] == ["loading", "-"]
    done = shop.hyperrec("recommend", "--user-history", "[a],[/nothing]")
    assert "Not in the active version, passed over: [/nothing]\n" in done.out
    assert "history  [a]  [/b]\n" in done.out
    recommended = {row[1]: row[3] for row in table_rows(done.out)}
    assert recommended == {"b": "[red]mug[/red]", "[/c]": "50% [off]"}
    sentence = fails("similar", "[/nothing]", code=1, at=shop)
    assert sentence.startswith("Item '[/nothing]' is not in the active version two; give the id")
