"""How fast a version is published, against what the client alone could write.

python -m tests.benchmarks.export [--items N] [--processes N] [--ceiling N] [--ru N]

A synthetic catalogue in the proportions of ASOS's (51 floats and 20 similar items each) is written,
read back, compared and promoted at a local endpoint. Before that, in the same run, the same client
writes to an account that answers at once and stores nothing: nothing can be faster than that. Both
servers are processes of the same machine and take their share of its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from hyperrec_core.analysis.provenance import hardware
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export import containers, publish
from serving_export.client import async_client
from serving_export.documents import Item, to_document
from serving_export.meter import Meter, Progress
from serving_export.pacing import Pace
from serving_export.processes import Target, upsert
from serving_export.publish import PublishReport
from serving_export.writer import Writer
from tests.benchmarks.instant_cosmos import instant_account
from tests.benchmarks.reading import MODEL, D, catalogue
from tests.serving_export.publishing_support import Account

_CONTAINER = "item-embeddings-a"


@dataclass(frozen=True)
class Rate:
    """Documents written and what they took: wall seconds, and CPU seconds of the client."""

    documents: int
    seconds: float
    cpu: float

    @property
    def per_second(self) -> float:
        return self.documents / self.seconds


def ceiling(items: Sequence[Item], processes: int) -> Rate:
    """What the client writes to an account that answers at once."""
    pace = Pace(processes=processes)
    meter = Meter("writing", len(items), None)
    documents = (to_document(item, "v1") for item in items)

    async def alone(endpoint: str) -> None:
        async with async_client(endpoint, COSMOS_KEY, patience=10.0) as client:
            container = client.get_database_client("d").get_container_client(_CONTAINER)
            writer = Writer(container, endpoint, lambda: float("inf"), 10.0, pace.budget())
            await writer.upsert(documents, meter)

    async def shared(endpoint: str) -> None:
        target = Target(endpoint, COSMOS_KEY, "d", _CONTAINER, 10.0)
        await upsert(
            target,
            documents,
            pace=pace,
            processes=processes,
            held_until=lambda: time.monotonic() + 60,
            meter=meter,
        )

    with instant_account() as endpoint:
        began, worked = time.perf_counter(), _cpu()
        asyncio.run(alone(endpoint) if processes == 1 else shared(endpoint))
        return Rate(meter.done, time.perf_counter() - began, _cpu() - worked)


def export(
    items: Sequence[Item], pace: Pace, ru_per_second: float | None
) -> tuple[PublishReport, dict[str, Progress]]:
    """Publish to a local endpoint; also how each part of it ended."""
    parts: dict[str, Progress] = {}

    def keep(state: Progress) -> None:
        parts[state.doing] = state

    with tempfile.TemporaryDirectory() as folder, cosmos_server(Path(folder)) as endpoint:
        account = Account(endpoint, COSMOS_KEY, "hyperrec")
        containers.create_missing(endpoint, COSMOS_KEY, D + 1, items=len(items))
        if ru_per_second is not None:
            account.faults(ru_per_second=ru_per_second)
        report = publish.publish(
            endpoint,
            COSMOS_KEY,
            version="v1",
            run_id="r",
            model=MODEL,
            items=items,
            metrics={},
            who="benchmark",
            pace=pace,
            progress=keep,
        )
    return report, parts


def bench(count: int, processes: int, ceiling_items: int, ru: float | None) -> list[str]:
    """Measure everything; sentences."""
    packages = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("hyperrec", "azure-cosmos", "aiohttp")
    )
    say(
        f"{hardware()}; Python {sys.version.split()[0]}; {packages}; load before "
        f"{os.getloadavg()[0]:.1f} processes; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    )
    items = [replace(item, context=None) for item in catalogue(count)]
    said = []
    best = {}
    for number in sorted({1, processes}):
        rate = best[number] = ceiling(list(itertools.islice(items, ceiling_items)), number)
        said.append(
            f"The client alone, {number} process(es): {rate.per_second:,.0f} documents/s, "
            f"{1000 * rate.cpu / rate.documents:.2f} ms of CPU a document."
        )
        say(said[-1])
    report, parts = export(items, Pace(processes=processes, request_units=ru), ru)
    writing = parts["writing"]
    said.append(
        f"{report.items:,} items of {D + 1} floats exported, verified and promoted by {processes} "
        f"process(es) in {report.seconds:,.0f} s: {writing.seconds:,.0f} s writing "
        f"({writing.documents_per_second:,.0f} documents/s, "
        f"{writing.documents_per_second / best[processes].per_second:.0%} of the client alone), "
        f"{parts['verifying'].seconds:,.0f} s reading back, "
        f"{parts['comparing'].seconds:,.0f} s comparing recommendations; "
        f"{report.request_units:,.0f} RU, {report.throttled:,} throttled, "
        f"{report.retries:,} sent again."
    )
    say(said[-1])
    return said


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def _main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.export", description=__doc__)
    parser.add_argument("--items", type=int, default=132_399, help="items of the catalogue")
    parser.add_argument("--processes", type=int, default=2, help="writing processes")
    parser.add_argument("--ceiling", type=int, default=10_000, help="documents for the client")
    parser.add_argument("--ru", type=float, help="RU/s that the endpoint has and the client keeps")
    asked = parser.parse_args()
    bench(asked.items, asked.processes, asked.ceiling, asked.ru)


if __name__ == "__main__":
    _main()
