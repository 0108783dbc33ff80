"""The lease of runs: one holder, renewed, given back, and taken from a holder that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines import lease
from pipelines.errors import HeldError
from pipelines.lease import holding
from pipelines.storage import Folder

TARGET = "item-embeddings"


def hold(runs: Folder, owner: str, holder: str = "a night"):
    return holding(runs, TARGET, holder=holder, owner=owner)


def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be told of a holder's process."""
    monkeypatch.setattr(lease, "process_identity", lambda *_: None)


def blobs(runs: Folder) -> list[str]:
    return [blob.name for blob in runs.list("leases/")]


def test_a_second_holder_is_told_who_holds_it_since_when(tmp_path: Path) -> None:
    runs = Folder(tmp_path)
    told = r"2024-06-30 retrain on .* since \d{4}-.* UTC: wait"
    with (
        hold(runs, "one", "2024-06-30 retrain"),
        pytest.raises(HeldError, match=told),
        hold(runs, "two"),
    ):
        pass
    with hold(runs, "two") as mine:
        mine.check()
    assert blobs(runs) == [f"leases/{TARGET}/00000002.json"]


def test_another_try_at_the_same_flow_run_takes_over_and_the_first_one_notices(
    tmp_path: Path,
) -> None:
    runs = Folder(tmp_path)
    with hold(runs, "one") as first:
        first.check()
        with hold(runs, "one", "the second try") as second:
            second.check()
            with pytest.raises(HeldError, match=r"lost its lease .* to the second try"):
                first.check()
        # What the first one releases is no longer its own.
    with hold(runs, "two"):
        pass


def test_a_holder_that_renews_elsewhere_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_another_machine(monkeypatch)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.2)
    runs = Folder(tmp_path)
    with hold(runs, "one"), pytest.raises(HeldError), hold(runs, "two"):
        pass


def test_a_holder_that_renews_no_more_elsewhere_loses_it_when_its_term_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_another_machine(monkeypatch)
    monkeypatch.setattr(lease, "TERM_SECONDS", 0.5)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.1)
    runs = Folder(tmp_path)
    with (
        hold(runs, "one") as first,
        hold(runs, "two"),
        pytest.raises(HeldError, match="lost its lease"),
    ):
        first.check()


def test_a_killed_process_of_this_machine_loses_it_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pipelines.lease import holding\n"
        "from pathlib import Path\nfrom pipelines.storage import Folder\n"
        f"with holding(Folder(Path(sys.argv[1])), {TARGET!r}, holder='a night', owner='one'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(lease.__file__).parents[1])},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(HeldError), hold(Folder(tmp_path), "two"):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    started = time.monotonic()
    with hold(Folder(tmp_path), "two"):
        assert time.monotonic() - started < lease.TERM_SECONDS / 2


def test_of_many_who_want_it_at_a_time_one_gets_it(tmp_path: Path) -> None:
    runs, ready, over = Folder(tmp_path), threading.Barrier(8), threading.Event()
    held: list[str] = []
    refused: list[str] = []

    def want(owner: str) -> None:
        ready.wait()
        try:
            with hold(runs, owner):
                held.append(owner)
                over.wait(60)
        except HeldError:
            refused.append(owner)
            if len(refused) == 7:
                over.set()

    threads = [threading.Thread(target=want, args=(f"{n}",)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert (len(held), len(refused)) == (1, 7)
