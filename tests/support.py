"""The `hyperrec` command as a child process, and what it leaves in its stores."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from azure.cosmos import CosmosClient

from infra.local.process import free_port
from infra.local.published_keys import AZURITE_KEY, COSMOS_KEY
from pipelines.runs import STAGES
from pipelines.settings import BlobAccount
from pipelines.storage import Storage, open_storage
from serving_export.containers import DATABASE, item_container
from serving_export.documents import Item, from_document
from serving_export.publish import status
from serving_export.slots import Control

_HYPERREC = Path(sys.executable).with_name("hyperrec")
_PREFECT = Path(sys.executable).with_name("prefect")
# Nothing of the caller's own stores may reach a test.
_FOREIGN = ("AZURE_", "COSMOS_", "HYPERREC_", "PREFECT_")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The one sentence of a failed command: the last line of its errors."""
        return self.err.strip().splitlines()[-1]


@dataclass(frozen=True)
class Child:
    """A command that runs, with its output in files: a pipe that nobody reads would stop it."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def running(self) -> bool:
        return self.process.poll() is None

    def done(self, timeout: float = 240) -> Done:
        """Wait for its end."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a command takes too long: {self.err.read_text()}") from None
        return Done(code, self.out.read_text(), self.err.read_text())


@functools.cache
def _prefect_database() -> Path:
    """Prefect's database without a row: each new one would take a command seconds to make."""
    home = Path(tempfile.mkdtemp(prefix="prefect-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    words = [_PREFECT, "server", "database", "upgrade", "--yes"]
    environ = _environ() | {"PREFECT_HOME": str(home)}
    subprocess.run(words, env=environ, check=True, capture_output=True)
    return home / "prefect.db"


def _environ() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}


@dataclass(frozen=True)
class Place:
    """Where commands work: a home folder of their own, and the stores they are told of."""

    home: Path
    settings: Mapping[str, str]

    @classmethod
    def make(
        cls, home: Path, *, blobs: str | None = None, cosmos: str | None = None, patience: float = 5
    ) -> Place:
        """A place whose commands find these endpoints."""
        settings = {
            "HYPERREC_HOME": str(home / "home"),
            "HYPERREC_PATIENCE_SECONDS": f"{patience:g}",
            "PREFECT_HOME": str(home / "prefect"),
            # Wide enough that no cell of a table is folded.
            "COLUMNS": "200",
        }
        if blobs is not None:
            settings["AZURE_STORAGE_ACCOUNT_URL"] = blobs
        if cosmos is not None:
            settings["COSMOS_ENDPOINT"] = cosmos
        database = home / "prefect" / "prefect.db"
        if not database.exists():
            database.parent.mkdir(parents=True)
            shutil.copy(_prefect_database(), database)
        return cls(home, settings)

    @property
    def cosmos(self) -> str:
        return self.settings["COSMOS_ENDPOINT"]

    def with_settings(self, **settings: str) -> Place:
        """The same place with more variables in the environment."""
        return Place(self.home, {**self.settings, **settings})

    def hyperrec(self, *words: str, code: int = 0) -> Done:
        """Run the command to its end, which must have this exit code."""
        with self.started(*words) as child:
            done = child.done()
        assert done.code == code, f"exit code {done.code} of {words}:\n{done.out}\n{done.err}"
        return done

    @contextmanager
    def started(self, *words: str, program: Path = _HYPERREC) -> Iterator[Child]:
        """The command while it runs; killed at the end if it still does."""
        folder = Path(tempfile.mkdtemp(prefix="command-", dir=self.home))
        out, err = folder / "out", folder / "err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [program, *words],
                env=_environ() | dict(self.settings),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
            )
        try:
            yield Child(process, out, err)
        finally:
            process.kill()
            process.wait()

    def killed(self, *words: str, when: Callable[[], Any]) -> None:
        """Start the command and kill -9 its process alone as soon as something holds.

        Its children are not killed with it, as the kernel would not; they must end by themselves.
        """
        with self.started(*words) as child:
            while not when():
                assert child.running(), f"{words} ended too early: {child.done().err}"
                time.sleep(0.005)
            child.process.kill()
            assert child.done().code == -signal.SIGKILL, "it had ended before it was killed"
        wait_until(lambda: not self.processes(), "children of a killed command are left")

    def processes(self) -> list[str]:
        """Command lines of the processes that the commands of this place started.

        They are known by their environment, which every child inherits, however it was started.
        """
        mark = f"HYPERREC_HOME={self.settings['HYPERREC_HOME']}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # another's, or ended meanwhile
        return found

    def storage(self, url: str) -> Storage:
        """The storage of blobs at a URL as the commands see it."""
        blobs = self.settings.get("AZURE_STORAGE_ACCOUNT_URL")
        return open_storage(url, account=BlobAccount(blobs, AZURITE_KEY) if blobs else None)

    def control(self) -> Control:
        """What is active, previous and loading."""
        return status(self.cosmos, COSMOS_KEY)


@contextmanager
def prefect_server(place: Place) -> Iterator[str]:
    """A Prefect server of its own.

    Yields:
        Its API's address.
    """
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    words = ("server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui")
    quiet = place.with_settings(PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
    with quiet.started(*words, program=_PREFECT) as child:

        def healthy() -> bool:
            assert child.running(), f"the Prefect server ended: {child.done()}"
            try:
                with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:  # noqa: S310
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(healthy, "the Prefect server did not start")
        try:
            yield api
        finally:
            child.process.terminate()
            child.done(timeout=30)


def flow_runs(api: str) -> list[dict[str, Any]]:
    """The flow runs that a Prefect server knows."""
    request = urllib.request.Request(  # noqa: S310
        f"{api}/flow_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)
        return found


def wait_until(what: Callable[[], Any], otherwise: str, seconds: float = 120) -> None:
    """Wait for something that other processes bring about."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)


def set_words(settings: Iterable[str]) -> list[str]:
    """Words of a command that give it these settings, `section.setting=value` each."""
    return [word for setting in settings for word in ("--set", setting)]


def run_id_of(done: Done) -> str:
    """The run that a command's output names."""
    found = re.search(r"\b\d{4}-\d\d-\d\d-[0-9a-f]{10}\b", done.out + done.err)
    assert found, f"no run id in:\n{done.out}\n{done.err}"
    return found[0]


def table_rows(text: str) -> list[list[str]]:
    """Cells of the tables that a command printed, headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def slot_documents(place: Place, slot: str) -> list[dict[str, Any]]:
    """Every item document of a slot, as stored."""
    client = CosmosClient(place.cosmos, COSMOS_KEY, enable_endpoint_discovery=False)
    database = client.get_database_client(DATABASE)
    return list(database.get_container_client(item_container(slot)).read_all_items())


def published(place: Place) -> dict[str, Item]:
    """Every item of the active slot, by item id; all documents are of its version."""
    active = place.control().active
    assert active is not None
    documents = slot_documents(place, active.slot)
    assert {document["version"] for document in documents} == {active.version}
    assert len(documents) == active.items
    return {document["item_id"]: from_document(document) for document in documents}


def assert_same_vectors(items: Mapping[str, Item], others: Mapping[str, Item]) -> None:
    """Both hold the same items with bit for bit the same vectors."""
    assert items.keys() == others.keys()
    for item_id, item in items.items():
        assert item.vector.tobytes() == others[item_id].vector.tobytes(), item_id
        assert (item.context is None) == (others[item_id].context is None)
        if item.context is not None and (other := others[item_id].context) is not None:
            assert np.array_equal(item.context, other), item_id


def manifests(storage: Storage, run_id: str) -> dict[str, bytes]:
    """The manifests that a run has, byte for byte, by stage."""
    folders = {blob.name for blob in storage.list(f"{run_id}/")}
    names = {stage: f"{run_id}/{stage}/manifest.json" for stage in STAGES}
    return {stage: storage.read(name) for stage, name in names.items() if name in folders}


def copy_run(source: Storage, run_id: str, target: Storage, stages: tuple[str, ...]) -> None:
    """A run as it was when these stages were done."""
    for blob in list(source.list(f"{run_id}/")):
        part = blob.name.split("/")[1]
        if part == "run.json" or part in stages:
            target.write(blob.name, source.read(blob.name))


def faults(endpoint: str, *rules: dict[str, Any]) -> None:
    """Set what goes wrong at a Cosmos endpoint; nothing at all without rules."""
    request = urllib.request.Request(  # noqa: S310
        f"{endpoint}/_local/faults",
        data=json.dumps({"rules": rules}).encode(),
        method="PUT",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass
