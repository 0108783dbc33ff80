"""The shop of these tests, with and without its dirt: written once, and only read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.storage import Folder
from pipelines.synthesise.dirt.kinds import parse_shares
from pipelines.synthesise.write import Written, write_catalogue
from tests.pipelines.synthesise.shop import SHARE, SHOP, Row


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    write_catalogue(SHOP, Folder(folder))
    return folder


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    folder = tmp_path_factory.mktemp("dirty")
    return folder, write_catalogue(SHOP, Folder(folder), dirt=parse_shares([str(SHARE)]))


@pytest.fixture(scope="session")
def dirty(written: tuple[Path, Written]) -> Path:
    return written[0]


@pytest.fixture(scope="session")
def ledger(dirty: Path) -> Row:
    return json.loads((dirty / "_planted/ledger.json").read_text())
