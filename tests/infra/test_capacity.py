"""The capacity sheet: its sums, whence its rates come, and what it says when they are missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.capacity.__main__ import SIZES, environment, table
from infra.capacity.sheet import HERE, CapacityError, of_run, published, reckon
from pipelines.profile import load_profile

PRICES = HERE / "prices.toml"


def manifests(folder: Path, *, written: int = 100) -> Path:
    """A run's manifests, as the stages write them, as far as the sheet reads them."""
    said = {
        "preprocess": {
            "metrics": {
                "rows_read": 2_000_000,
                "interactions": 1_000_000,
                "items": 500,
                "labels": {"train": 900_000, "validation": 1, "test": 1},
            },
            "outputs": [{"bytes": 6_000_000}, {"bytes": 2_000_000}],
        },
        "train": {
            "metrics": {"device": "cuda", "epochs": 4, "examples_per_second": 9_000_000},
            "outputs": [{"bytes": 1_000_000}],
        },
        "export": {"metrics": {"written": written, "request_units": 700.0}, "outputs": []},
    }
    for stage, manifest in said.items():
        (folder / stage).mkdir(parents=True)
        common = {
            "run_id": "2026-11-20-0123456789",
            "machine": "x86_64 Linux Python 3.11.14",
            "wall_seconds": 100.0,
            "peak_memory_bytes": 3_000_000_000,
        }
        (folder / stage / "manifest.json").write_text(json.dumps(common | manifest))
    return folder


def test_rates_of_a_run(tmp_path):
    rates = of_run(manifests(tmp_path), cores=4)
    assert rates.rows_per_second == 5_000
    assert rates.labels_per_interaction == 0.9
    assert rates.examples_per_second == 9_000_000
    assert rates.request_units_an_item == 7
    assert rates.bytes_per_interaction == 8
    assert rates.bytes_an_item == 2_000
    assert rates.memory_per_million == 1_500_000_000
    assert rates.source.startswith("run 2026-11-20-0123456789")


def test_a_run_without_rates_is_refused(tmp_path):
    with pytest.raises(CapacityError, match="published no items"):
        of_run(manifests(tmp_path / "nothing", written=0), cores=2)
    with pytest.raises(CapacityError, match=r"preprocess/manifest.json cannot be read"):
        of_run(tmp_path / "absent", cores=2)


def test_the_sums_are_right(tmp_path):
    place = environment("prod", PRICES)
    sheet = reckon(10_000_000, 50_000, of_run(manifests(tmp_path), cores=4), place)
    assert place.cores == 8
    assert sheet.preprocess == pytest.approx(10_000_000 / 5_000 / 8)
    assert sheet.train == pytest.approx(10_000_000 * 0.9 * 4 / 9_000_000)
    assert sheet.request_units == pytest.approx(350_000)
    # As fast as the slot's maximum allows.
    assert sheet.export == pytest.approx(350_000 / place.given["slot_max_throughput"])
    assert sheet.night == pytest.approx(sheet.preprocess_next + sheet.train + sheet.export)
    run = 10_000_000 * 8 + 50_000 * 2_000
    assert sheet.runs == pytest.approx(run * (place.given["run_days"] + 1))
    assert sheet.month == pytest.approx(sum(sheet.costs.values()))
    idle = (3 * place.given["slot_max_throughput"] + 1000) / 10 / 100 * 730
    busy = 0.9 * place.given["slot_max_throughput"] / 100 * 30
    assert sheet.costs["request units"] == pytest.approx(0.012 * (idle + busy))


def test_more_takes_longer_and_costs_more():
    place, rates = environment("dev", PRICES), published()
    sheets = [reckon(interactions, items, rates, place) for interactions, items in SIZES]
    for attribute in ("preprocess", "train", "export", "memory", "runs", "month"):
        values = [getattr(sheet, attribute) for sheet in sheets]
        assert values == sorted(values)
        assert len(set(values)) == 3


def test_the_published_epochs_are_the_default_profiles():
    assert published().epochs == load_profile("default").train.epochs


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_every_machine_has_a_price(name):
    place = environment(name, PRICES)
    assert all(place.an_hour(pool) > 0 for pool in place.given["pools"])
    assert place.given["postgres"]["sku"] in place.prices["hour"]
    assert place.given["storage_replication"] in place.prices["storage"]


def test_the_command_prints_a_table(tmp_path):
    run = manifests(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "infra.capacity", "--run", run, "--cores", "4"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0] == "| interactions | 1 M | 28 M | 280 M |"
    place, rates = environment("prod", PRICES), of_run(run, 4)
    sheets = [reckon(interactions, items, rates, place) for interactions, items in SIZES]
    assert done.stdout == table(sheets, place, rates) + "\n"


def test_the_command_names_what_is_missing(tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES.read_text().replace("Standard_D8as_v5", "Standard_Other"))
    done = subprocess.run(
        [sys.executable, "-m", "infra.capacity", "--prices", prices],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"{prices} has no price for 'Standard_D8as_v5': add it.\n"


def test_the_operations_guide_shows_what_the_command_says():
    place, rates = environment("prod", PRICES), published()
    sheets = [reckon(interactions, items, rates, place) for interactions, items in SIZES]
    guide = (HERE.parent / "OPERATIONS.md").read_text()
    assert table(sheets, place, rates) in guide
