"""Starting, finding and stopping the local services; data outlive what kills a server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.cosmos import CosmosClient, PartitionKey
from azure.storage.blob import BlobServiceClient

from infra.local import published_keys, services
from infra.local.process import Process, is_free
from infra.local.services import LocalServiceError

needs_azurite = pytest.mark.skipif(
    not services.azurite_installed(), reason="Node or infra/local/node_modules is missing"
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    services.down(tmp_path / "home")


@pytest.fixture
def without_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def state(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "services.json").read_text())
    return found


def cosmos(endpoint: str) -> CosmosClient:
    return CosmosClient(endpoint, published_keys.COSMOS_KEY, enable_endpoint_discovery=False)


def blob(endpoint: str | None) -> BlobServiceClient:
    assert endpoint is not None
    credential = {
        "account_name": published_keys.AZURITE_ACCOUNT,
        "account_key": published_keys.AZURITE_KEY,
    }
    return BlobServiceClient(endpoint, credential=credential)


def kill(home: Path, service: str) -> None:
    recorded = state(home)[service]
    os.kill(recorded["pid"], signal.SIGKILL)
    process = Process(recorded["pid"], recorded["started"])
    while process.alive():
        time.sleep(0.01)


@needs_azurite
def test_up_is_idempotent_and_down_names_what_it_stopped(home: Path) -> None:
    assert services.running(home) is None
    first = services.up(home)
    before = state(home)
    assert blob(first.blob_endpoint).get_account_information()
    assert cosmos(first.cosmos_endpoint).get_database_account()
    assert services.up(home) == first == services.running(home)
    assert state(home) == before
    assert services.down(home) == ["Azurite", "the Cosmos endpoint"]
    assert services.running(home) is None
    assert services.down(home) == []
    again = services.up(home)
    assert again == first  # the ports of the last time


@needs_azurite
def test_only_the_dead_service_is_started_again(home: Path) -> None:
    first = services.up(home)
    before = state(home)
    kill(home, "blob")
    found = services.running(home)
    assert found is not None
    assert found.blob_endpoint is None
    assert services.up(home) == first
    assert state(home)["cosmos"] == before["cosmos"]
    assert state(home)["blob"]["pid"] != before["blob"]["pid"]


def test_without_node_there_is_no_blob_endpoint(
    home: Path, without_node: None, caplog: pytest.LogCaptureFixture
) -> None:
    found = services.up(home)
    assert found.blob_endpoint is None
    assert "npm ci --prefix infra/local" in caplog.text
    assert services.running(home) == found
    with pytest.raises(LocalServiceError), services.azurite_server(home / "x"):
        pass


def test_data_survive_a_killed_server(home: Path, without_node: None) -> None:
    container = (
        cosmos(services.up(home).cosmos_endpoint)
        .create_database("shop")
        .create_container("items", PartitionKey("/item_id"))
    )
    for i in range(20):
        container.upsert_item({"id": f"i{i}", "item_id": f"i{i}", "vector": [0.1, -1e-7, i / 3]})
    kill(home, "cosmos")
    database = cosmos(services.up(home).cosmos_endpoint).get_database_client("shop")
    items = database.get_container_client("items").read_all_items()
    found = {each["id"]: each["vector"] for each in items}
    assert found == {f"i{i}": [0.1, -1e-7, i / 3] for i in range(20)}


@needs_azurite
def test_blobs_survive_a_restart(home: Path) -> None:
    container = blob(services.up(home).blob_endpoint).create_container("raw")
    container.upload_blob("a/b.txt", b"hello")
    services.down(home)
    container = blob(services.up(home).blob_endpoint).get_container_client("raw")
    assert container.download_blob("a/b.txt").readall() == b"hello"


def test_a_taken_port_is_named(home: Path, without_node: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LocalServiceError, match=rf"Port {port} for the Cosmos endpoint"):
            services.up(home, cosmos_port=port)
    assert services.running(home) is None
    assert services.up(home, cosmos_port=port).cosmos_endpoint.endswith(f":{port}")
    with pytest.raises(LocalServiceError, match="already runs on port"):
        services.up(home, cosmos_port=port + 1)


def test_the_last_port_is_given_up_when_taken(home: Path, without_node: None) -> None:
    first = services.up(home)
    port = state(home)["cosmos"]["port"]
    services.down(home)
    with socket.create_server(("127.0.0.1", port)):
        assert services.up(home) != first


def test_a_recycled_pid_is_neither_found_nor_killed(home: Path, without_node: None) -> None:
    services.up(home)
    recorded = state(home)
    services.down(home)
    # A stranger now has the pid: this very process.
    stranger = recorded["cosmos"] | {"pid": os.getpid()}
    (home / "services.json").write_text(json.dumps({"cosmos": stranger}))
    assert services.running(home) is None
    assert services.down(home) == []


def test_two_at_once_start_one(home: Path, without_node: None) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(services.up(home))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_broken_state_file_is_no_state(home: Path, without_node: None) -> None:
    home.mkdir()
    (home / "services.json").write_text("{")
    assert services.running(home) is None
    assert services.up(home) == services.running(home)


def test_a_service_that_cannot_start_names_its_log(home: Path, without_node: None) -> None:
    home.mkdir()
    (home / "cosmos").mkdir()
    (home / "cosmos" / "cosmos.sqlite").mkdir()  # no file can be opened there
    with pytest.raises(LocalServiceError, match=r"does not start; read .*cosmos\.log"):
        services.up(home)


def test_no_pipe_of_the_caller_stays_open(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "infra.local", "up", "--home", str(home)]
    try:
        # Reads to the end of both pipes: a service that held one would keep this from returning.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=True,
            env=os.environ | {"PATH": str(tmp_path)},
        )  # fmt: skip
        endpoint = done.stdout.split()[-1]
        assert services.running(home) == services.LocalServices(None, endpoint)
    finally:
        services.down(home)


def test_a_test_server_dies_with_its_test_process(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import pathlib, sys, time
        from infra.local.services import cosmos_server
        with cosmos_server(pathlib.Path(sys.argv[1])) as endpoint:
            print(endpoint, flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        endpoint = parent.stdout.readline().strip()
        with urllib.request.urlopen(f"{endpoint}/_local/health") as response:  # noqa: S310
            assert response.status == 200
        parent.kill()
    port = int(endpoint.rpartition(":")[2])
    deadline = time.monotonic() + 20
    while not is_free(port):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_endpoint_serves_loopback_only(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "infra.local.cosmos",
        "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path),  # noqa: S104
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "serves loopback addresses only" in done.stderr


def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    with services.cosmos_server(tmp_path):
        command = [sys.executable, "-m", "infra.local.cosmos", "--port", "0"]
        done = subprocess.run(
            [*command, "--data", str(tmp_path)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Another process serves" in done.stderr


def test_no_key_is_written_anywhere(home: Path) -> None:
    found = services.up(home)
    list(cosmos(found.cosmos_endpoint).list_databases())
    services.down(home)
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert published_keys.COSMOS_KEY.encode() not in content
            assert published_keys.AZURITE_KEY.encode() not in content
