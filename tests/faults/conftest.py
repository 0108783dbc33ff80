"""A small shop, and one undisturbed run of it that every fault is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pytest

from infra.local.services import cosmos_server
from pipelines.runs import STAGES
from pipelines.stages.preprocess import run_preprocess
from pipelines.start import start_run
from pipelines.storage import Folder, Storage
from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.write import write_catalogue
from serving_export.documents import Item
from tests.support import Place, manifests, published, run_id_of, set_words

LAST_DAY = date(2024, 6, 30)
SETTINGS = (
    "train.epochs=20",
    "train.negatives=200",
    "train.model.dimensions=8",
    "train.model.lags=20",
    # Judging takes long enough to be killed in the middle of it.
    "evaluate.negatives=2000",
)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to, with everything in folders and a Cosmos account of its own.

    Attributes:
        job: words after `hyperrec run` or `preprocess` that name the run, all but `--runs`.
        runs: where it is kept.
        items: what it published.
    """

    job: tuple[str, ...]
    run_id: str
    runs: Storage
    items: dict[str, Item]


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder in the raw layout."""
    folder = tmp_path_factory.mktemp("raw")
    shop = CatalogueConfig(
        users=300, items=250, interactions=6000, days=28, last_day=LAST_DAY, seed=3
    )
    write_catalogue(shop, Folder(folder))
    return folder.as_uri()


@pytest.fixture(scope="session")
def undisturbed(
    raw: str, spark: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Undisturbed]:
    home = tmp_path_factory.mktemp("undisturbed")
    with cosmos_server(home / "cosmos") as cosmos:
        place = Place.make(home, cosmos=cosmos)
        runs = place.storage(str(home / "runs"))
        prepare(raw, runs)
        job = ("--input", raw, "--as-of", LAST_DAY.isoformat(), *set_words(SETTINGS))
        done = place.hyperrec("run", *job, "--runs", runs.url)
        assert manifests(runs, run_id_of(done)).keys() == set(STAGES)
        yield Undisturbed(job, run_id_of(done), runs, published(place))


def prepare(raw: str, runs: Storage, *settings: str) -> None:
    """Do the first stage of a run here, in the suite's Spark session: a command starts its own."""
    overrides = [*SETTINGS, *settings]
    run_preprocess(start_run(source=raw, as_of=LAST_DAY, overrides=overrides, runs=runs.url))
