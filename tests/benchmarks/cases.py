"""What is measured at each size of the benchmark, table by table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from hyperrec_core.analysis.contestants import STARTS
from tests.benchmarks.asos import INTERACTIONS, ITEMS
from tests.benchmarks.case import Case
from tests.benchmarks.geoopt_twin import OPTIMISERS
from tests.benchmarks.measure import FRESH_CACHE

AGGREGATORS = ("learned", "exponential", "window", "uniform")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        real: the data set for accuracy, and for speed on dense data.
        asos: interactions of the synthetic set for speed on sparse data.
        interactions: of the scaling table, rising.
        catalogues: numbers of items, rising.
        dimensions: d, rising.
        threads: 1, and what all else is measured with.
        scaled: interactions in the tables of catalogues, dimensions and threads.
        items: of the synthetic sets, where it is not what is scaled, and of the catalogue for which
            similar items are found.
        twin_seconds: how long each geoopt optimiser trains.
        epochs: of the fits of the race, one fit each.
        als: numbers of iterations, rising.
        bpr: likewise.
    """

    real: str
    asos: int
    interactions: tuple[int, ...]
    catalogues: tuple[int, ...]
    dimensions: tuple[int, ...]
    threads: tuple[int, ...]
    scaled: int
    items: int
    twin_seconds: float
    epochs: tuple[int, ...]
    als: tuple[int, ...]
    bpr: tuple[int, ...]


_MILLION = 1_000_000
SIZES = {
    "full": Size(
        real="ml-1m",
        asos=INTERACTIONS,
        interactions=tuple(n * _MILLION for n in (1, 2, 4, 8, 16, 28)),
        catalogues=(10_000, 30_000, 100_000, 300_000, _MILLION),
        dimensions=(16, 50, 100, 256),
        threads=(1, 2),
        scaled=4 * _MILLION,
        items=ITEMS,
        twin_seconds=20.0,
        epochs=(1, 2, 4, 8, 16),
        als=(1, 2, 3, 5, 8, 12, 20),
        bpr=(10, 20, 40, 70, 100, 150),
    ),
    "quick": Size(
        real="ml-100k",
        asos=_MILLION,
        interactions=(250_000, 500_000, _MILLION),
        catalogues=(10_000, 100_000),
        dimensions=(16, 50, 100),
        threads=(1, 2),
        scaled=500_000,
        items=20_000,
        twin_seconds=3.0,
        epochs=(2, 8),
        als=(1, 3, 10),
        bpr=(20, 60),
    ),
    "tiny": Size(
        real="random/2800/60",
        asos=5_600,
        interactions=(2_800, 5_600),
        catalogues=(60, 120),
        dimensions=(4, 8),
        threads=(1,),
        scaled=2_800,
        items=60,
        twin_seconds=0.01,
        epochs=(2,),
        als=(1,),
        bpr=(1,),
    ),
}
"""`full` is what is published, `quick` takes minutes, `tiny` shows that everything runs."""


def cases(size: Size) -> list[Case]:
    """All that is measured on CPUs."""
    groups = (_fits, _geoopt, _race, _scaling, _profile, _scoring, _first_call)
    return list(chain.from_iterable(group(size) for group in groups))


def on_gpu(size: Size, threads: int) -> list[Case]:
    """What is measured again where there is a GPU, with as many threads as the machine has."""
    # What differs in threads alone is the same there.
    size = replace(size, threads=(threads,))
    groups = (_fits, _geoopt, _interactions, _widths, _first_call)
    again = chain.from_iterable(group(size) for group in groups)
    return [replace(case, device="cuda") for case in again]


def _asos(interactions: int, items: int) -> str:
    return f"asos/{interactions}/{items}"


def _fit(size: Size, group: str, name: str, threads: int, **options: Any) -> Case:
    return Case(group=group, kind="fit", data=name, threads=threads, options=options)


def _fits(size: Size) -> list[Case]:
    *fewer, most = size.threads
    sets = (size.real, _asos(size.asos, size.items))
    return [
        *(_fit(size, "fit", size.real, threads, aggregator=AGGREGATORS[0]) for threads in fewer),
        *(_fit(size, "fit", name, most, aggregator=kind) for name in sets for kind in AGGREGATORS),
    ]


def _geoopt(size: Size) -> list[Case]:
    return [
        Case(
            group="geoopt",
            kind="geoopt",
            data=size.real,
            threads=threads,
            options={"geoopt": optimiser, "seconds": size.twin_seconds},
        )
        for threads in size.threads
        for optimiser in OPTIMISERS
    ]


def _race(size: Size) -> list[Case]:
    """Everybody on one thread, which is what implicit's models here have, and ours on all, too."""
    ours = [
        Case(group="race", kind="race", data=size.real, threads=threads, options={"epochs": epochs})
        for threads in size.threads
        for epochs in size.epochs
    ]
    peers = []
    for name, iterations in (("als", size.als), ("bpr", size.bpr)):
        for start in STARTS[name]:
            settings = {key: value for key, value in start.items() if key != "iterations"}
            options: dict[str, Any] = {
                "model": name,
                "settings": settings,
                "iterations": list(iterations),
            }
            peers.append(
                Case(group="race", kind="implicit", data=size.real, threads=1, options=options)
            )
    return ours + peers


def _scaling(size: Size) -> list[Case]:
    most = size.threads[-1]
    catalogues = [_fit(size, "items", _asos(size.scaled, items), most) for items in size.catalogues]
    return [*_interactions(size), *catalogues, *_widths(size)]


def _interactions(size: Size) -> list[Case]:
    return [
        _fit(size, "interactions", _asos(interactions, size.items), size.threads[-1])
        for interactions in size.interactions
    ]


def _widths(size: Size) -> list[Case]:
    return [
        _fit(size, "dimensions", _asos(size.scaled, size.items), threads, dimensions=dimensions)
        for threads in size.threads
        for dimensions in size.dimensions
    ]


def _profile(size: Size) -> list[Case]:
    return [
        Case(group="profile", kind="profile", data=name, threads=size.threads[-1])
        for name in (size.real, _asos(size.asos, size.items))
    ]


def _scoring(size: Size) -> list[Case]:
    most = size.threads[-1]
    return [
        Case(group="scoring", kind="scoring", data=size.real, threads=most),
        Case(
            group="scoring",
            kind="similar",
            data="random/vectors",
            threads=most,
            options={"items": size.items, "dimensions": 50},
        ),
    ]


def _first_call(size: Size) -> list[Case]:
    return [
        Case(
            group="first call",
            kind="first call",
            data="random/histories",
            threads=size.threads[-1],
            options={FRESH_CACHE: fresh},
        )
        for fresh in (True, False)
    ]
