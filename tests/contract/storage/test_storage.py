"""What every storage promises, asked of a folder and of a blob account over a socket."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

from pipelines.errors import AlreadyExistsError, NotFoundError
from pipelines.settings import BlobAccount
from pipelines.storage import Storage, open_storage, write_if_changed

ODD_NAMES = [
    "day 1/two words.txt",
    "50% off.txt",
    "%41.txt",
    "a+b&c=d.txt",
    "naïve/Größe/日本.txt",
    "🛒/cart.txt",
    "quo'te.txt",
    "semi;colon, comma.txt",
    "[brackets] (and) {braces}.txt",
    "dt=2011-12-09/part-0.parquet",
]


Open = Callable[[str], Storage]


@pytest.fixture(params=["folder", "container"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the storage at a place below a root of this test's own."""
    if request.param == "folder":
        return lambda place: open_storage((tmp_path / place).as_uri())
    account = request.getfixturevalue("account")
    root = f"{request.getfixturevalue('container')}/{uuid.uuid4().hex[:12]}"
    return lambda place: open_storage(f"{root}/{place}".rstrip("/"), account=account)


@pytest.fixture
def storage(opened: Open) -> Storage:
    return opened("")


def names(storage: Storage, prefix: str = "") -> list[str]:
    return [blob.name for blob in storage.list(prefix)]


def etag(storage: Storage, name: str) -> str:
    return next(blob.etag for blob in storage.list(name) if blob.name == name)


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/b/c.txt", b"one")
    storage.write("a/b/c.txt", b"another")
    storage.write("empty", b"")
    assert storage.read("a/b/c.txt") == b"another"
    assert storage.read("empty") == b""
    assert {blob.name: blob.size for blob in storage.list()} == {"a/b/c.txt": 7, "empty": 0}


def test_a_listing_goes_by_name(storage: Storage) -> None:
    given = ["b", "a/z", "a-1", "a/a/a", "B", "a.txt", "10", "9", "é", "a/é", "日本"]
    for name in given:
        storage.write(name, name.encode())
    assert names(storage) == sorted(given)


def test_a_prefix_is_of_names_not_of_folders(storage: Storage) -> None:
    for name in ("runs/1/a", "runs/10/a", "runs/2/a", "runs-old/1", "run"):
        storage.write(name, b"")
    assert names(storage, "runs/1") == ["runs/1/a", "runs/10/a"]
    assert names(storage, "runs/1/") == ["runs/1/a"]
    assert names(storage, "runs/") == ["runs/1/a", "runs/10/a", "runs/2/a"]
    assert names(storage, "run") == ["run", "runs-old/1", "runs/1/a", "runs/10/a", "runs/2/a"]
    assert names(storage, "runs/3/") == []
    assert names(storage, "run/") == []


def test_a_storage_is_what_lies_below_its_url(opened: Open) -> None:
    opened("shop").write("x/1", b"1")
    opened("shop-2").write("x/2", b"2")
    assert names(opened("shop")) == ["x/1"]
    assert names(opened("shop/x")) == ["1"]
    assert opened("shop/x").read("1") == b"1"
    assert names(opened("")) == ["shop-2/x/2", "shop/x/1"]


def test_unfinished_names_are_hidden(storage: Storage) -> None:
    storage.write("a/.part-0.parquet.3f", b"half")
    storage.write("a/part-0.parquet", b"whole")
    storage.write(".hidden", b"half")
    storage.write("a/.staging/part-1.parquet", b"half")
    storage.write(".staging/a", b"half")
    assert names(storage) == ["a/part-0.parquet"]
    assert names(storage, "a/.p") == []


def test_a_reader_never_sees_half_a_blob(storage: Storage) -> None:
    sizes = [200_000, 300_000]
    storage.write("blob", b"0" * sizes[0])
    done = threading.Event()

    def write() -> None:
        try:
            for turn in range(1, 30):
                storage.write("blob", str(turn % 10).encode() * sizes[turn % 2])
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        data = storage.read("blob")
        assert len(data) in sizes
        assert data == data[:1] * len(data)
    writer.join()
    assert names(storage) == ["blob"]


def test_create_puts_only_where_nothing_is(storage: Storage) -> None:
    storage.create("run/manifest.json", b"first")
    with pytest.raises(AlreadyExistsError, match=r"^run/manifest\.json is already in \S+\.$"):
        storage.create("run/manifest.json", b"second")
    assert storage.read("run/manifest.json") == b"first"
    assert names(storage) == ["run/manifest.json"]
    storage.delete("run/manifest.json")
    storage.create("run/manifest.json", b"third")
    assert storage.read("run/manifest.json") == b"third"


def test_of_many_that_create_at_once_one_wins(
    storage: Storage, request: pytest.FixtureRequest
) -> None:
    # Threads take turns as often as they can, so that one that looks before it puts is caught.
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    storage.write("there", b"")  # the container is made before the race
    for turn in range(50):
        results: list[str] = []
        line = threading.Barrier(4)

        def create(who: str, name: str, line: threading.Barrier, results: list[str]) -> None:
            line.wait()
            try:
                storage.create(name, who.encode())
                results.append(who)
            except AlreadyExistsError:
                results.append("late")

        threads = [
            threading.Thread(target=create, args=(str(who), f"m-{turn}", line, results))
            for who in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results)[1:] == ["late"] * 3
        assert storage.read(f"m-{turn}").decode() == sorted(results)[0]


def test_one_deletes_the_last_blob_of_a_folder_while_another_writes(storage: Storage) -> None:
    problems: list[Exception] = []

    def come_and_go(name: str) -> None:
        try:
            for _ in range(60):
                storage.write(name, b"x")
                storage.delete(name)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=come_and_go, args=(f"a/b/{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert names(storage) == []


@pytest.mark.parametrize("name", ["nothing", "no/such/blob", "folder", "folder/a/below"])
def test_a_missing_blob_is_named(storage: Storage, name: str) -> None:
    storage.write("folder/a", b"")
    with pytest.raises(NotFoundError, match=rf"^There is no {name} in \S+\.$"):
        storage.read(name)


def test_delete_takes_one_and_asks_nothing(storage: Storage) -> None:
    storage.write("a/b", b"1")
    storage.write("a/c", b"2")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete("never/was")
    storage.delete("a/c/below")
    assert names(storage) == ["a/c"]
    storage.delete("a/c")
    assert names(storage) == []


def test_odd_names_come_back_as_they_are(opened: Open) -> None:
    place = opened("odd place/50%")
    for name in ODD_NAMES:
        place.create(name, name.encode())
    assert names(place) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert place.read(name) == name.encode()
        assert names(place, name) == [name]
        with pytest.raises(AlreadyExistsError):
            place.create(name, b"")
        place.delete(name)
    assert names(place) == []


def test_large_blobs_are_whole(storage: Storage) -> None:
    data = os.urandom(20_000_000)
    storage.create("large", data)
    assert storage.read("large") == data
    assert [blob.size for blob in storage.list()] == [len(data)]


def test_the_etag_changes_with_the_content(storage: Storage) -> None:
    # Rewritten as fast as the storage can, at one length: nothing but the tag tells.
    seen = []
    for turn in range(10):
        storage.write("blob", f"{turn}".encode())
        seen.append(etag(storage, "blob"))
    assert len(set(seen)) == 10


def test_the_etag_stays_without_a_change(storage: Storage) -> None:
    storage.write("blob", b"1")
    first = etag(storage, "blob")
    assert first == first.strip('"') != ""
    storage.read("blob")
    storage.write("other", b"2")
    with pytest.raises(AlreadyExistsError):
        storage.create("blob", b"3")
    assert not write_if_changed(storage, "blob", b"1")
    assert etag(storage, "blob") == first
    assert write_if_changed(storage, "blob", b"4")
    assert etag(storage, "blob") != first
    assert storage.read("blob") == b"4"


def test_an_absent_root_is_empty_to_read_and_made_to_write(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    roots: list[Storage] = [open_storage(str(tmp_path / "not" / "there"))]
    with contextlib.suppress(pytest.skip.Exception):
        account = request.getfixturevalue("account")
        url = f"az://hyperrec-test-{uuid.uuid4().hex[:12]}/below"
        roots.append(open_storage(url, account=account))
    for storage in roots:
        assert names(storage) == []
        with pytest.raises(NotFoundError):
            storage.read("blob")
        storage.delete("blob")
        storage.create("blob", b"1")
        assert storage.read("blob") == b"1"
        assert names(storage) == ["blob"]
        storage.delete("blob")


def test_the_folder_markers_of_a_hierarchical_account_are_no_blobs(
    account: BlobAccount, container: str
) -> None:
    storage = open_storage(f"{container}/hierarchy", account=account)
    storage.write("day/part-0.parquet", b"rows")
    with BlobServiceClient(account.url, credential=account.credential) as service:
        blob = service.get_blob_client(container.removeprefix("az://"), "hierarchy/day")
        blob.upload_blob(b"", metadata={"hdi_isfolder": "true"})
    assert [blob.name for blob in storage.list()] == ["day/part-0.parquet"]


def test_a_linked_folder_is_read_like_any_other(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "elsewhere")).write("part-0.parquet", b"rows")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dt=2024-01-01").symlink_to(tmp_path / "elsewhere")
    found = list(open_storage(str(tmp_path / "raw")).list())
    assert [blob.name for blob in found] == ["dt=2024-01-01/part-0.parquet"]
