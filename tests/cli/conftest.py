"""The command in a place of its own, and how it must end when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import services
from infra.local.published_keys import AZURITE_KEY, COSMOS_KEY
from tests.support import Place

Fails = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """No store is configured, none runs."""
    return Place.make(tmp_path, patience=1)


@pytest.fixture
def fails(place: Place) -> Fails:
    """Runs a command that must fail as a person should see it; returns its one sentence."""

    def run(*words: str, code: int, at: Place = place) -> str:
        done = at.hyperrec(*words, code=code)
        lines = done.err.splitlines()
        assert [line for line in lines if line.startswith("hyperrec: ")] == lines[-1:], done.err
        assert "Traceback" not in done.err
        assert lines[-1].endswith((".", "?")), done.err
        keys = [COSMOS_KEY, AZURITE_KEY, *(v for k, v in at.settings.items() if k.endswith("_KEY"))]
        assert not any(key in done.out + done.err for key in keys)
        return lines[-1].removeprefix("hyperrec: ")

    return run


@pytest.fixture(scope="session")
def cosmos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An endpoint at which nothing has ever been published."""
    with services.cosmos_server(tmp_path_factory.mktemp("cosmos")) as endpoint:
        yield endpoint
