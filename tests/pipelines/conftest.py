"""Stages look for local services in the home folder: here, in one where none run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_local_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERREC_HOME", str(tmp_path_factory.mktemp("home")))
        yield
