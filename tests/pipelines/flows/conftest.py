"""A Prefect server that wants a password, and a receiver of its alerts: fresh for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from pipelines.flows.api import prefect_client
from tests.pipelines.flows.deploying import AUTH
from tests.receiver import Receiver, receiving
from tests.support import Place, prefect_server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place.make(tmp_path_factory.mktemp("deploy"))
    # A server that does not know its own address links nothing.
    return place.with_settings(
        PREFECT_SERVER_API_AUTH_STRING=AUTH, PREFECT_UI_URL="http://prefect.test"
    )


@pytest.fixture(scope="module")
def api(place: Place) -> Iterator[str]:
    with prefect_server(place) as url:
        yield url


@pytest.fixture(scope="module")
def client(api: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: AUTH}),
        prefect_client() as client,
    ):
        yield client


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found
