"""kill -9 at random moments of a publish, each followed by the same call again.

    python -m tests.faults.kill_exports --times 200 --seed 1

After each kill nothing of the publish may be left running and the active version must be whole,
the old one or the new; after the same call it must be the new one, verified, alone in its slot,
promoted once in the history. A reader asks all the time and may only ever see whole versions.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import publish
from serving_export.documents import Item, from_document
from serving_export.events import Event
from tests.faults.exporting import Publisher, publisher, writing_processes
from tests.serving_export.publishing_support import Account, make_items

# Ids that every version has.
_ALWAYS = 40


@dataclass(frozen=True)
class Version:
    """One version of the shop; sizes differ, so that a slot has leftovers to delete."""

    number: int

    @property
    def name(self) -> str:
        return f"v{self.number}"

    @property
    def count(self) -> int:
        return 300 + self.number * 37 % 100

    def items(self) -> dict[str, Item]:
        return {i.item_id: i for i in make_items(self.count, seed=self.number)}


@dataclass
class Result:
    """What was seen.

    Attributes:
        moments: kills by where they struck.
        polls: answers that the reader checked.
        seen: versions that it saw.
        faults: everything that must not be, in words; empty when all is well.
    """

    moments: Counter[str] = field(default_factory=Counter)
    polls: int = 0
    seen: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def kill_and_repeat(endpoint: str, *, times: int, seed: int, shared_every: int = 4) -> Result:
    """Kill so many publishes and finish each by the same call.

    Args:
        endpoint: a local endpoint.
        times: how many kills.
        seed: of the moments.
        shared_every: one publish in so many uses two writing processes.
    """
    moments = random.Random(seed)
    account = Account(endpoint, COSMOS_KEY, f"kills-{uuid.uuid4().hex[:8]}")
    account.create_containers()
    # Time for each part of a publish, so that kills strike in all of them.
    account.faults(
        {"operations": ["upsert", "delete"], "delay_ms": 60},
        {"operations": ["query", "replace", "create"], "delay_ms": 40},
    )
    result = Result()
    with publisher(endpoint, account.database, account.database) as child:
        takes = {}
        for number, processes in enumerate((1, 2)):
            first = Version(number)
            takes[processes] = child.timed(first.name, first.number, first.count, processes)
        active = Version(1)
        with _polling(account, result):
            for turn in range(times):
                version = Version(turn + 2)
                processes = 2 if turn % shared_every == 0 else 1
                after = moments.uniform(0, 1.05 * takes[processes])
                faults = _one(account, child, active, version, processes, after, result)
                result.faults += [f"kill {turn} after {after:.3f} s: {fault}" for fault in faults]
                active = version
                if (turn + 1) % 20 == 0:
                    print(f"{turn + 1} kills, {len(result.faults)} faults", flush=True)
    return result


def _one(
    account: Account,
    child: Publisher,
    old: Version,
    new: Version,
    processes: int,
    after: float,
    result: Result,
) -> Iterator[str]:
    before = len(_history(account))
    process = child.start(new.name, new.number, new.count, processes)
    time.sleep(after)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    code = child.ended()
    if code not in (0, -signal.SIGKILL):
        yield f"the publish ended with code {code}"
    yield from _nothing_runs(account.database)

    control = account.status()
    result.moments[_moment(account, new, code)] += 1
    if control.active.version not in (old.name, new.name):
        yield f"{control.active.version} is active"
    else:
        is_new = control.active.version == new.name
        yield from _is_whole(account, control.active.slot, new if is_new else old)

    child.start(new.name, new.number, new.count, processes)
    if (code := child.ended()) != 0:
        yield f"the same call again ended with code {code}"
        return
    control = account.status()
    if (control.active.version, control.previous.version) != (new.name, old.name):
        yield f"in the end {control.active.version} is active, {control.previous.version} previous"
    if control.loading is not None or control.events:
        yield "the control document is not settled in the end"
    yield from _is_whole(account, control.active.slot, new)
    events = _history(account)
    if [e.version for e in events].count(new.name) != 1 or len(events) != before + 1:
        yield f"the history has {[e.version for e in events[:3]]} at its top"
    if [e.number for e in events] != list(range(len(events), 0, -1)):
        yield "the history has a gap"


def _history(account: Account) -> list[Event]:
    return publish.history(account.endpoint, account.key, limit=1000, database=account.database)


def _moment(account: Account, new: Version, code: int) -> str:
    control = account.status()
    if code == 0:
        return "after its end"
    if control.active.version == new.name:
        return "after the flip"
    if control.loading is None:
        return "before the lease"
    found = account.documents(control.loading.slot)
    written = sum(document["version"] == new.name for document in found)
    if written == 0:
        return "before the first document"
    if written < new.count:
        return "between documents"
    return "leftovers, verification or flip"


def _is_whole(account: Account, slot: str, version: Version) -> Iterator[str]:
    wanted = version.items()
    found = account.documents(slot)
    names = {document["version"] for document in found}
    if names != {version.name} or len(found) != len(wanted):
        yield f"slot {slot} has {len(found)} documents of {sorted(names)}, not {version}"
    elif {document["item_id"]: from_document(document) for document in found} != wanted:
        yield f"slot {slot} has other documents than {version}"


def _nothing_runs(mark: str) -> Iterator[str]:
    end = time.monotonic() + 10
    while left := writing_processes(mark):
        if time.monotonic() > end:
            yield f"writing processes {left} are left"
            return
        time.sleep(0.01)


@contextmanager
def _polling(account: Account, result: Result) -> Iterator[None]:
    """A reader that asks all the time and notes every answer that is not one whole version."""
    stop = threading.Event()
    thread = threading.Thread(target=_poll, args=(account, result, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _poll(account: Account, result: Result, stop: threading.Event) -> None:
    wanted = [f"i{n}" for n in range(_ALWAYS)]
    expected: dict[str, dict[str, Item]] = {}
    with account.reader(refresh_seconds=0.05) as reader:
        while not stop.wait(0.1):
            try:
                found = reader.get(wanted)
                name = reader.active().version
                best = reader.recommend(["i1", "i2"], 5)
            except Exception as error:
                result.faults.append(f"the reader failed: {error!r}")
                continue
            # Looked up after the answer, which may be of the version just before.
            for version in (Version(int(name[1:])), Version(int(name[1:]) - 1)):
                items = expected.setdefault(version.name, version.items())
                if found == {item_id: items[item_id] for item_id in wanted}:
                    result.seen.add(version.name)
                    break
            else:
                result.faults.append(f"the reader saw no whole version about {name}")
            if len(best) != 5:
                result.faults.append(f"the reader got {len(best)} recommendations about {name}")
            result.polls += 1


def main() -> None:
    """Kill as often as asked for and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    # A closed client is still asked for by the SDK's own background check, which logs that.
    logging.getLogger("azure.cosmos").setLevel(logging.CRITICAL)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        cosmos_server(Path(folder)) as endpoint,
    ):
        result = kill_and_repeat(endpoint, times=arguments.times, seed=arguments.seed)
    print(f"{arguments.times} kills, seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    for moment, count in result.moments.most_common():
        print(f"  {count:4} {moment}")
    print(f"{result.polls:,} answers of the reader checked, {len(result.seen)} versions seen")
    for fault in result.faults:
        print(f"FAULT {fault}")
    print(f"{len(result.faults)} faults")
    raise SystemExit(bool(result.faults))


if __name__ == "__main__":
    main()
