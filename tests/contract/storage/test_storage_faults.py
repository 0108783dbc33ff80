"""What a folder or a blob account alone can meet: odd addresses, refused keys, absence."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra.local import services
from infra.local.process import free_port
from infra.local.published_keys import AZURITE_ACCOUNT, AZURITE_KEY
from pipelines.errors import StorageDeniedError, StorageError, StorageUnavailableError, UsageError
from pipelines.settings import BlobAccount
from pipelines.storage import Container, Folder, Storage, open_storage

WRONG_KEY = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc="


def test_a_folder_has_several_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spaced = tmp_path / "my data #1"
    Folder(spaced).write("x", b"1")
    assert open_storage(str(spaced)).read("x") == b"1"
    assert open_storage("my data #1").read("x") == b"1"
    assert open_storage("file://my%20data%20%231").read("x") == b"1"
    assert open_storage(open_storage("my data #1").url).read("x") == b"1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://bucket/x", r"^s3://bucket/x has the scheme s3://, .* az:// and abfss://\.$"),
        ("https://acc.blob.core.windows.net/raw", r"has the scheme https://"),
        ("az:///raw", r"^az:///raw names no container: write az://CONTAINER"),
        ("abfss://raw/x", r"^abfss://raw/x is not whole: write abfss://CONTAINER@ACCOUNT\.dfs"),
        ("abfss://raw@acc.blob.core.windows.net", r"is not whole: write abfss://CONTAINER@ACC"),
    ],
)
def test_an_address_that_is_none_is_told(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_storage(url)


def test_the_address_that_spark_reads_names_the_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", AZURITE_KEY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_URL", "https://another.blob.core.windows.net")
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    storage = open_storage("abfss://raw@acc.dfs.core.windows.net/shop/day 1/")
    assert isinstance(storage, Container)
    assert storage.url == "abfss://raw@acc.dfs.core.windows.net/shop/day 1"
    assert storage._client.url == "https://acc.blob.core.windows.net/raw"
    assert storage._prefix == "shop/day 1/"
    # A connection string counts where it is that account's.
    for name, key in (("acc", "b25l"), ("another", AZURITE_KEY)):
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"DefaultEndpointsProtocol=https;AccountName={name};AccountKey=b25l;"
            "EndpointSuffix=core.windows.net",
        )
        opened = open_storage("abfss://raw@acc.dfs.core.windows.net")
        assert isinstance(opened, Container)
        assert opened._client.url == "https://acc.blob.core.windows.net/raw"
        assert opened._client.credential.account_key == key


def test_what_spark_reads_by_another_address_is_the_same_blobs(
    account: BlobAccount, container: str
) -> None:
    name = container.removeprefix("az://")
    other = open_storage(f"abfss://{name}@acc.dfs.core.windows.net/shop", account=account)
    open_storage(f"{container}/shop", account=account).write("a/b", b"1")
    assert [blob.name for blob in other.list()] == ["a/b"]
    assert other.read("a/b") == b"1"
    other.delete("a/b")


def test_a_folder_that_cannot_be_read_does_not_seem_empty(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    storage = open_storage(str(tmp_path / "loop"))
    with pytest.raises(StorageError, match=r"^Cannot list \S+/loop: .*; check its permissions\.$"):
        list(storage.list())


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.write("a", b"")
    for name in ("a/b", "a/b/c", "long" * 100):
        with pytest.raises(StorageError, match=rf"^Cannot write \S+{name}: .*permissions"):
            storage.write(name, b"")
    assert [blob.name for blob in storage.list()] == ["a"]


@pytest.mark.parametrize("key", [WRONG_KEY, "not base64!", "sv=2024-01-01&sig=c2VjcmV0"])
def test_a_refused_key_is_told_and_not_repeated(account: BlobAccount, key: str) -> None:
    storage = open_storage("az://hyperrec-test-refused/x", account=replace(account, credential=key))
    for work in (
        lambda: list(storage.list()),
        lambda: storage.read("blob"),
        lambda: storage.write("blob", b""),
        lambda: storage.create("blob", b""),
        lambda: storage.delete("blob"),
    ):
        with pytest.raises(StorageDeniedError) as caught:
            work()
        message = str(caught.value)
        assert message.startswith(f"Blob storage at {account.url}/hyperrec-test-refused refused")
        assert "AZURE_STORAGE_KEY" in message
        assert key.rpartition("sig=")[2] not in message
        assert message.count(". ") == 0
        assert message.endswith(".")


def unavailable(storage: Storage) -> list[str]:
    """What each method says of a store that stays away."""

    def said(work: Callable[[], object]) -> str:
        started = time.monotonic()
        with pytest.raises(StorageUnavailableError) as caught:
            work()
        # Bounded by the patience, not by the SDK's own minutes; the rest is a slow machine's.
        assert time.monotonic() - started < 20
        return str(caught.value)

    works = (
        lambda: list(storage.list()),
        lambda: storage.read("blob"),
        lambda: storage.write("blob", b"data"),
        lambda: storage.create("blob", b"data"),
        lambda: storage.delete("blob"),
    )
    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(said, works))


def local(port: int) -> BlobAccount:
    return BlobAccount(f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}", AZURITE_KEY)


def test_a_store_that_is_away_is_given_up(patience: Callable[[str], None]) -> None:
    patience("1")
    away = local(free_port())
    for message in unavailable(open_storage("az://raw", account=away)):
        assert message == (
            f"Blob storage at {away.url}/raw did not answer for 1 s; bring it back and give the "
            "same command again, which resumes."
        )


def test_a_store_that_hangs_is_given_up(patience: Callable[[str], None]) -> None:
    patience("0.2")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        storage = open_storage("az://raw", account=local(mute.getsockname()[1]))
        for message in unavailable(storage):
            assert "did not answer for 0.2 s" in message


@pytest.fixture
def busy_server(request: pytest.FixtureRequest) -> Iterator[int]:
    """A store that answers 503 to everything, or only so often when the test says so."""
    left = [getattr(request, "param", 1_000_000)]

    class Busy(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            left[0] -= 1
            self.send_response(503 if left[0] >= 0 else 202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to say."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_store_that_stays_busy_is_given_up(
    busy_server: int, patience: Callable[[str], None]
) -> None:
    patience("0.5")
    for message in unavailable(open_storage("az://raw", account=local(busy_server))):
        assert "answered 503 for 0.5 s" in message


# One more than the SDK would bear by itself.
@pytest.mark.parametrize("busy_server", [4], indirect=True)
def test_a_store_that_is_busy_for_a_while_is_waited_for(
    busy_server: int, patience: Callable[[str], None]
) -> None:
    patience("60")
    open_storage("az://raw", account=local(busy_server)).delete("blob")


class Gate:
    """A door before a server: it refuses everybody, until it passes everybody through."""

    def __init__(self, server: int) -> None:
        self.port = free_port()
        self._server = server
        self._listener: socket.socket | None = None

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_a_store_that_comes_back_is_waited_for(
    tmp_path: Path, patience: Callable[[str], None]
) -> None:
    if not services.azurite_installed():
        pytest.skip("Node or infra/local/node_modules is missing")
    patience("60")
    with services.azurite_server(tmp_path) as endpoint:
        gate = Gate(int(endpoint.rpartition(":")[2].partition("/")[0]))
        storage = open_storage("az://raw", account=local(gate.port))
        # Longer than the three connections that the SDK would try by itself.
        opening = threading.Timer(6, gate.open)
        opening.start()
        try:
            storage.write("blob", b"patience")
            assert opening.finished.is_set()
            assert storage.read("blob") == b"patience"
        finally:
            opening.join()
            gate.close()
