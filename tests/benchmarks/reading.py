"""How fast a service reads: in memory over a whole catalogue, and through Cosmos DB.

python -m tests.benchmarks.reading [--items N] [--questions N] [--compared N] [--publish]

A synthetic catalogue in the proportions of ASOS's is published to a local endpoint, read into
memory and asked; everything in memory is measured on one core. The local endpoint is an emulator in
Python: what goes through it shows the client's part and not the service's time. CPU is what the
asking thread used itself, which other programs of a busy machine do not add to. `--publish` writes
the table into serving_export/README.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hyperrec_core.analysis.provenance import hardware
from hyperrec_core.analysis.report import write_between
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import containers, publish, ranking
from serving_export.documents import Item
from serving_export.reader import Reader

D, LAGS, K, MANY, SIMILAR = 50, 100, 20, 50, 20
README = Path(__file__).resolve().parents[2] / "serving_export" / "README.md"
MODEL: dict[str, Any] = {
    "format": 2,
    "geometry": "hyperboloid",
    "d": D,
    "users": "midpoint",
    "aggregator": {"kind": "learned", "lag_weights": [0.97**lag for lag in range(LAGS)]},
}


def catalogue(count: int) -> list[Item]:
    """Items by falling popularity, the popular near the origin, each with 20 similar ones."""
    rng = np.random.default_rng(0)
    radius = np.linspace(0.5, 3.0, count)[:, None]

    def table() -> np.ndarray:
        way = rng.normal(size=(count, D))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        found: np.ndarray = np.c_[-np.cosh(radius), np.sinh(radius) * way].astype(np.float32)
        return found

    vectors, contexts = table(), table()
    near = rng.integers(0, count, (count, SIMILAR)).tolist()
    scores = -1.0 - np.sort(rng.random((count, SIMILAR)).astype(np.float32)).astype(float)
    counts = np.maximum(1, 1e5 / np.arange(1, count + 1) ** 0.8).astype(int).tolist()
    return [
        Item(
            item_id=f"{10_000_000 + n}",
            vector=vectors[n],
            context=contexts[n],
            count=counts[n],
            category=("All", f"Room {n % 20}", f"Shelf {n % 300}"),
            is_live=n % 10 != 9,
            title=f"Item number {n} of the catalogue",
            similar=tuple(
                (f"{10_000_000 + other}", score)
                for other, score in zip(near[n], scores[n].tolist(), strict=True)
            ),
        )
        for n in range(count)
    ]


def histories(count: int, items: int) -> list[list[str]]:
    """Users of 1 to 60 items, popular ones more often."""
    rng = np.random.default_rng(1)
    return [
        [f"{10_000_000 + int(items * share**2)}" for share in rng.random(rng.integers(1, 61))]
        for _ in range(count)
    ]


class Report:
    """A table of times, and sentences."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.said: list[str] = []

    def measure(self, what: str, where: str, asks: Iterable[Callable[[], Any]]) -> list[Any]:
        """Ask all, one after another, and add a row of their times."""
        wall, cpu, answers = [], [], []
        for ask in asks:
            started, worked = time.perf_counter(), time.thread_time()
            answers.append(ask())
            wall.append((time.perf_counter() - started) * 1000)
            cpu.append((time.thread_time() - worked) * 1000)
        figures = [*np.percentile(wall, [50, 99]), *np.percentile(cpu, [50, 99])]
        told = " | ".join(f"{figure:.2f}" for figure in figures)
        self.rows.append(f"| {what} | {where} | {len(wall):,} | {told} |")
        self.say(self.rows[-1])
        return answers

    def note(self, sentence: str) -> None:
        self.said.append(f"- {sentence}")
        self.say(sentence)

    @staticmethod
    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def text(self) -> str:
        head = (
            "| question | answered by | times asked | p50, ms | p99, ms | CPU p50 | CPU p99 |\n"
            "|---|---|---|---|---|---|---|"
        )
        return "\n".join([head, *self.rows, "", *self.said]) + "\n"


def asks(reader: Reader, users: Sequence[Sequence[str]]) -> list[Callable[[], Any]]:
    """recommend(k = 20) for each user."""
    return [lambda user=user: reader.recommend(user, K) for user in users]  # type: ignore[misc]


def gets(reader: Reader, count: int, items: int) -> list[Callable[[], Any]]:
    """get(50 items), other ones each time."""
    rng = np.random.default_rng(2)
    wanted = [
        [f"{10_000_000 + n}" for n in rng.integers(0, items, MANY).tolist()] for _ in range(count)
    ]
    return [lambda ids=ids: reader.get(ids) for ids in wanted]  # type: ignore[misc]


def in_memory(report: Report, reader: Reader, items: list[Item], questions: int) -> None:
    """Time what memory answers, and hold it against its definition."""
    users = histories(questions, len(items))
    for ask in (*asks(reader, users[:20]), *gets(reader, 20, len(items))):
        ask()  # the first touch of the arrays is not what is measured
    where = f"memory, {len(items):,} items"
    report.measure(f"get({MANY} items)", where, gets(reader, questions, len(items)))
    answers = report.measure(f"recommend(k = {K})", where, asks(reader, users))
    shelf = [lambda user=user: reader.recommend(user, K, category="Room 3") for user in users]
    report.measure(f"recommend(k = {K}, category)", where, shelf)
    vectors = np.stack([item.vector for item in items])
    wrong = 0
    for user, found in zip(users, answers, strict=True):
        scores = ranking.exact_scores(vectors, reader.user_point(user))
        seen = set(user)
        order = np.argsort(-scores, kind="stable")[: 10 * (K + len(user))].tolist()
        best = [items[n].item_id for n in order if items[n].is_live]
        wrong += [each.item_id for each in found] != [i for i in best if i not in seen][:K]
    report.note(
        f"Of {questions:,} users over {len(items):,} items, {questions - wrong:,} got from memory "
        "exactly the items that scoring and sorting all of them gives."
    )


def while_loading(report: Report, reader: Reader, other: Reader, items: int) -> None:
    """Time recommendations while another thread reads a version into memory beside."""
    loading = threading.Thread(target=other.refresh)
    users = asks(reader, histories(500, items))

    def as_long_as_it_loads() -> Iterator[Callable[[], Any]]:
        loading.start()
        for ask in itertools.cycle(users):
            if not loading.is_alive():
                return
            time.sleep(0.01)  # a service is asked now and then, not without a pause
            yield ask

    where = "memory, while a version is loaded beside"
    report.measure(f"recommend(k = {K})", where, as_long_as_it_loads())
    loading.join()


def compared(report: Report, endpoint: str, count: int, users: int) -> None:
    """Ask both ways for every user."""
    items = catalogue(count)
    at = publish_to(endpoint, items, "compared")
    with Reader(**at) as stored, Reader(**at, search="memory") as loaded:
        loaded.refresh()
        who = histories(users, count)
        where = f"VectorDistance, emulator, {count:,} items"
        found = report.measure(f"recommend(k = {K})", where, asks(stored, who))
        equal = sum(loaded.recommend(user, K) == f for user, f in zip(who, found, strict=True))
    report.note(
        f"Of {users:,} users over {count:,} items, {equal:,} got the same items, scores and order "
        "from memory and through VectorDistance."
    )


def publish_to(endpoint: str, items: list[Item], database: str) -> dict[str, Any]:
    """Publish a version; what a reader needs to find it."""
    place = {"endpoint": endpoint, "credential": COSMOS_KEY, "database": database}
    containers.create_missing(endpoint, COSMOS_KEY, D + 1, database=database)
    facts: dict[str, Any] = {"version": "v1", "run_id": "r", "metrics": {}, "who": "benchmark"}
    publish.publish(**place, **facts, model=MODEL, items=items)  # type: ignore[arg-type]
    return place


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with threadpool_limits(1):
            yield
    finally:
        os.sched_setaffinity(0, before)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bench(items: int, questions: int, compared_items: int) -> Report:
    """Measure everything."""
    report = Report()
    packages = ", ".join(
        f"{p} {metadata.version(p)}" for p in ("hyperrec", "numpy", "azure-cosmos")
    )
    load = f"load before {os.getloadavg()[0]:.1f} processes"
    report.note(f"{hardware()}; {load}; {packages}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.")
    with tempfile.TemporaryDirectory() as folder, cosmos_server(Path(folder)) as endpoint:
        made = catalogue(items)
        at = publish_to(endpoint, made, "whole")
        with (
            one_core(),
            Reader(**at, search="memory") as loaded,
            Reader(**at, search="memory") as beside,
            Reader(**at) as stored,
        ):
            held, started = resident(), time.perf_counter()
            loaded.refresh()
            report.note(
                f"A version of {items:,} items ({D + 1} floats, two tables, {SIMILAR} similar "
                f"items) was read into memory in {time.perf_counter() - started:.0f} s; the "
                f"process then held {(resident() - held) / 1e6:.0f} MB more."
            )
            in_memory(report, loaded, made, questions)
            while_loading(report, loaded, beside, items)
            where = f"point reads, emulator, {items:,} items"
            report.measure(f"get({MANY} items)", where, gets(stored, questions // 5, items))
        compared(report, endpoint, compared_items, questions)
    return report


def _main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.reading", description=__doc__)
    parser.add_argument("--items", type=int, default=132_399, help="items of the catalogue")
    parser.add_argument("--questions", type=int, default=1000, help="users, and questions a row")
    parser.add_argument("--compared", type=int, default=1000, help="items asked for in both ways")
    parser.add_argument("--publish", action="store_true", help="write the tables into the README")
    asked = parser.parse_args()
    text = bench(asked.items, asked.questions, asked.compared).text()
    sys.stdout.write("\n" + text)
    if asked.publish:
        write_between(README, "figures", text)


if __name__ == "__main__":
    _main()
