"""The reckoning: rates measured at one size, carried to another.

All is linear in the interactions or the items, which the benchmarks bear out from a million
interactions to 28 million; 280 million is beyond what has been measured.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOURS = 730.0  # of a month
NIGHTS = 30.0
_GB = 1e9


class CapacityError(Exception):
    """The sheet cannot be made; one sentence says what is missing."""


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        source: of what and where.
        rows_per_second: preprocess, on one core, with nothing kept from earlier nights.
        kept_share: a night's seconds with all days but the newest kept, to those with none.
        memory_per_million: bytes that preprocess held for a million rows.
        labels_per_interaction: training labels.
        examples_per_second: training, on the machine that was measured.
        epochs: of a night.
        training_memory_per_million: bytes for a million interactions.
        request_units_an_item: writing, reading back and deleting one item's document.
        seconds_an_item: the client's CPU for the same.
        document_bytes: of one item in Cosmos DB.
        bytes_per_interaction: what preprocess leaves in storage.
        bytes_an_item: what training leaves there.
    """

    source: str
    rows_per_second: float
    kept_share: float
    memory_per_million: float
    labels_per_interaction: float
    examples_per_second: float
    epochs: int
    training_memory_per_million: float
    request_units_an_item: float
    seconds_an_item: float
    document_bytes: float
    bytes_per_interaction: float
    bytes_an_item: float


def published(path: Path = HERE / "rates.toml") -> Rates:
    """The rates that come with the package."""
    with path.open("rb") as file:
        given = tomllib.load(file)
    first, train, export = given["preprocess"], given["train"], given["export"]
    return Rates(
        source=f"the project's benchmarks ({path.name})",
        rows_per_second=first["rows"] / first["seconds"] / first["cores"],
        kept_share=first["seconds_next"] / first["seconds"],
        memory_per_million=first["memory_gb"] * _GB / (first["rows"] / 1e6),
        labels_per_interaction=train["examples"] / train["interactions"],
        examples_per_second=train["examples_per_second"],
        epochs=train["epochs"],
        training_memory_per_million=train["memory_gb"] * _GB / (train["interactions"] / 1e6),
        request_units_an_item=export["request_units"] / export["items"],
        seconds_an_item=export["seconds_an_item"],
        document_bytes=export["document_bytes"],
        bytes_per_interaction=given["storage"]["preprocess_bytes_per_interaction"],
        bytes_an_item=given["storage"]["train_bytes_per_item"],
    )


def of_run(folder: Path, cores: int) -> Rates:
    """The rates of a run, by its manifests.

    Args:
        folder: of the run, or a copy with `STAGE/manifest.json` of its stages.
        cores: that its preprocess stage had.

    Raises:
        CapacityError: a stage is not done, or it published nothing new.
    """
    first, train, export = (_manifest(folder, stage) for stage in ("preprocess", "train", "export"))
    rows, labels = first["metrics"]["rows_read"], first["metrics"]["labels"]["train"]
    interactions, written = first["metrics"]["interactions"], export["metrics"]["written"]
    if not (rows and interactions and written):
        raise CapacityError(
            f"The run in {folder} read no rows or published no items, so it has no rates: take one "
            "whose version was published by it."
        )
    return replace(
        published(),
        source=f"run {first['run_id']}, {first['machine']}",
        rows_per_second=rows / first["wall_seconds"] / cores,
        kept_share=1.0,
        memory_per_million=first["peak_memory_bytes"] / (rows / 1e6),
        labels_per_interaction=labels / interactions,
        examples_per_second=train["metrics"]["examples_per_second"],
        epochs=train["metrics"]["epochs"],
        training_memory_per_million=train["peak_memory_bytes"] / (interactions / 1e6),
        request_units_an_item=export["metrics"]["request_units"] / export["metrics"]["written"],
        bytes_per_interaction=_bytes(first) / interactions,
        bytes_an_item=_bytes(train) / first["metrics"]["items"],
    )


def _bytes(manifest: Mapping[str, Any]) -> float:
    return float(sum(output["bytes"] for output in manifest["outputs"]))


def _manifest(folder: Path, stage: str) -> dict[str, Any]:
    path = folder / stage / "manifest.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CapacityError(
            f"{path} cannot be read, so the run has no rates: give the folder of a run whose "
            "preprocess, train and export stages are done."
        ) from error
    return found


@dataclass(frozen=True)
class Environment:
    """What an environment's variable file says, and what things cost.

    Attributes:
        name: dev or prod.
        given: the variables.
        prices: as in prices.toml.
        cores: of one machine of the pool `cpu`, by the digits of its kind's name.
    """

    name: str
    given: Mapping[str, Any]
    prices: Mapping[str, Any]

    @property
    def cores(self) -> int:
        kind: str = self.given["pools"]["cpu"]["vm_size"]
        return int("".join(c for c in kind.split("_")[1] if c.isdigit()))

    def an_hour(self, pool: str) -> float:
        """Price of a pool's machine."""
        price: float = self.prices["hour"][self.given["pools"][pool]["vm_size"]]
        return price


@dataclass(frozen=True)
class Sheet:
    """A size reckoned through: times in seconds, sizes in bytes, costs in the prices' currency."""

    interactions: int
    items: int
    preprocess: float
    preprocess_next: float
    memory: float
    train: float
    training_memory: float
    request_units: float
    export: float
    slot: float
    runs: float
    night: float
    costs: dict[str, float]

    @property
    def month(self) -> float:
        """Costs of a month."""
        return sum(self.costs.values())


def reckon(interactions: int, items: int, rates: Rates, place: Environment) -> Sheet:
    """One size in one environment."""
    millions = interactions / 1e6
    first = interactions / rates.rows_per_second / place.cores
    following = first * rates.kept_share
    train = interactions * rates.labels_per_interaction * rates.epochs / rates.examples_per_second
    request_units = items * rates.request_units_an_item
    # A slot idles at a tenth of its maximum; the load may use it whole.
    budget = float(place.given["slot_max_throughput"])
    export = max(request_units / budget, items * rates.seconds_an_item / place.cores)
    night = following + train + export
    slot = items * rates.document_bytes
    run = interactions * rates.bytes_per_interaction + items * rates.bytes_an_item
    # Those kept, and the days' own kept rows, which are of about one run's size.
    runs = run * (place.given["run_days"] + 1)
    return Sheet(
        interactions=interactions,
        items=items,
        preprocess=first,
        preprocess_next=following,
        memory=rates.memory_per_million * millions,
        train=train,
        training_memory=rates.training_memory_per_million * millions,
        request_units=request_units,
        export=export,
        slot=slot,
        runs=runs,
        night=night,
        costs=_costs(place, following + export, train, export, slot, runs),
    )


def _costs(
    place: Environment, cpu: float, gpu: float, loading: float, slot: float, runs: float
) -> dict[str, float]:
    """By part and month. Machines are paid from their start to ten idle minutes after their end."""
    prices, given = place.prices, place.given
    started = 900.0
    hours = NIGHTS / 3600
    always = given["pools"]["services"]["minimum"] * place.an_hour("services")
    always += prices["hour"]["Standard_D2ads_v5"]
    # control and three slots, at a tenth; one slot at its maximum while it is loaded.
    idle = (3 * given["slot_max_throughput"] + 1000) / 10 / 100
    busy = 0.9 * given["slot_max_throughput"] / 100
    # A begun hour counts as a whole one.
    busy_hours = NIGHTS * (int(loading // 3600) + 1)
    per_100 = prices["request_units"]["hour_per_100"]
    postgres = given["postgres"]
    copies = 2 if postgres["zone_redundant"] else 1
    standing = prices["month"]
    return {
        "nightly machines": hours
        * ((cpu + gpu + started) * place.an_hour("cpu") + (gpu + started) * place.an_hour("gpu")),
        "machines that stand": HOURS * always,
        "request units": per_100 * (idle * HOURS + busy * busy_hours),
        "blobs": runs / _GB * prices["storage"][given["storage_replication"]],
        "documents": 3 * slot / _GB * prices["storage"]["cosmos"],
        "Postgres": copies
        * (
            HOURS * prices["hour"][postgres["sku"]]
            + postgres["storage_mb"] / 1024 * prices["storage"]["postgres"]
        ),
        "network, registry, cluster": standing["registry"]
        + standing["nat_gateway"]
        + 5 * standing["private_endpoint"]
        + (standing["cluster_standard"] if given["cluster_tier"] == "Standard" else 0.0),
    }
