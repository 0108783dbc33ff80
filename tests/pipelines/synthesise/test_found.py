"""Preprocess finds every planted row and file under its own rule, and loses none."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.files import UnreadableFileError
from pipelines.preprocess.formats import decode
from pipelines.preprocess.rules import DROP_RULES, FILE_RULES, QUARANTINE_RULES
from pipelines.preprocess.tables import INTERACTIONS
from pipelines.storage import Folder
from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.dirt.kinds import KINDS, parse_shares
from pipelines.synthesise.write import write_catalogue
from tests.pipelines.preprocess.support import AS_OF, rows_of, run_job

SHOP = CatalogueConfig(users=150, items=120, interactions=3000, days=40, last_day=AS_OF, seed=11)
# The shop itself must lose nothing: no cap on histories, whatever the share of dirt.
CONFIG = PreprocessConfig(maximum_quarantined_share=1, maximum_history=100_000)


def made(folder: Path, *dirt: str) -> Folder:
    target = Folder(folder)
    write_catalogue(SHOP, target, dirt=parse_shares(dirt))
    return target


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return made(tmp_path_factory.mktemp("raw"), "0.004")


@pytest.fixture(scope="module")
def ledger(dirty: Folder) -> dict[str, Any]:
    return json.loads(dirty.read("_planted/ledger.json"))


@pytest.fixture(scope="module")
def found(spark, dirty: Folder, tmp_path_factory: pytest.TempPathFactory):
    metrics, tables, _ = run_job(spark, dirty, Folder(tmp_path_factory.mktemp("runs")), CONFIG)
    return metrics, rows_of(tables, "quarantine/")


def test_every_rule_counts_what_was_planted(found, ledger: dict[str, Any]) -> None:
    metrics, _ = found
    assert ledger["as_of"] == AS_OF.isoformat()
    assert metrics["quarantined"] == ledger["quarantined"]
    assert metrics["dropped"] == ledger["dropped"]
    assert metrics["rows_read"] == ledger["rows"]["read"]
    assert metrics["rows_kept"] == ledger["rows"]["kept"]


@pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if kind.fate == "quarantined"]
)
def test_each_row_is_in_quarantine_with_its_file_and_rule(
    kind: str, found, ledger: dict[str, Any]
) -> None:
    _, quarantine = found
    entry = ledger["kinds"][kind]
    rows = [row for row in quarantine if row["source_file"] in entry["files"]]
    assert Counter(row["reasons"][0] for row in rows) == entry["rules"]


def test_files_are_in_quarantine_and_no_others(found, ledger: dict[str, Any]) -> None:
    metrics, _ = found
    planted = {
        name
        for entry in ledger["kinds"].values()
        if entry["fate"] == "files"
        for name in entry["files"]
    }
    assert metrics["files_quarantined"].keys() == planted


def test_each_bad_file_breaks_its_own_rule(dirty: Folder, ledger: dict[str, Any]) -> None:
    for kind, entry in ledger["kinds"].items():
        if entry["fate"] == "files":
            for name in entry["files"]:
                with pytest.raises(UnreadableFileError) as refusal:
                    decode(dirty.read(name), name, INTERACTIONS)
                assert {refusal.value.rule: 1} == entry["rules"], kind


def test_days_that_drift_are_read_as_the_days_they_were(tmp_path: Path) -> None:
    drift = [name for name, kind in KINDS.items() if kind.plant is None]
    clean, drifted = (
        events(made(tmp_path / "clean")),
        events(made(tmp_path / "drift", *(f"{name}=0.01" for name in drift))),
    )
    assert len(clean) == SHOP.interactions
    assert drifted == clean
    assert len(list((tmp_path / "drift").rglob("part-*"))) > len(drift)


def events(source: Folder) -> list[str]:
    """All interactions, in no file's order; a market may be left out of a day's columns."""
    batches = [
        batch.drop_columns(["market", "source_file"])
        for blob in source.list("interactions/")
        for batch in decode(source.read(blob.name), blob.name, INTERACTIONS)
    ]
    return sorted(map(repr, pa.Table.from_batches(batches).to_pylist()))


def test_every_rule_of_preprocess_is_planted_under() -> None:
    known = {"quarantined": QUARANTINE_RULES, "dropped": DROP_RULES, "files": FILE_RULES}
    dirt = [kind for kind in KINDS.values() if kind.fate != "kept"]
    for kind in dirt:
        assert set(kind.rules) <= set(known[kind.fate]), kind.name
    # All but those that only a run's settings bring about.
    of_settings = {"outside_window", "user_below_minimum", "item_below_minimum", "history_cap"}
    rules = {*QUARANTINE_RULES, *DROP_RULES, *FILE_RULES} - of_settings
    assert {rule for kind in dirt for rule in kind.rules} == rules
