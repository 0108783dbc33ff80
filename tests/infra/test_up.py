"""Prefect beside the stores: one start, one password, one end; and a worker that finds the stores.

Everything happens at one home, in the order of the tests: a start is half a minute.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from infra.local import prefect_services
from pipelines.flows.api import call, prefect_client
from pipelines.flows.apply import Channel, apply
from pipelines.flows.deployments import FLOWS, Target
from tests.support import Place, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place.make(tmp_path_factory.mktemp("up"))
    yield place
    place.hyperrec("down")
    assert place.processes() == []


@pytest.fixture(scope="module")
def home(place: Place) -> Path:
    return Path(place.settings["HYPERREC_HOME"])


@pytest.fixture(scope="module")
def up(place: Place, home: Path) -> prefect_services.LocalPrefect:
    done = place.hyperrec("up", "--no-gpu")
    found = prefect_services.running(home)
    assert found is not None
    assert re.search(rf"prefect {found.ui_url}\b", done.out)
    assert found.auth.partition(":")[2] not in done.out + done.err
    return found


def state(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "services.json").read_text())
    return found


def get(url: str, auth: str | None = None) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url)  # noqa: S310
    if auth:
        request.add_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), b""


def test_only_stores_start_without_prefect(place: Place, home: Path) -> None:
    done = place.hyperrec("up", "--only", "stores")
    assert "cosmos  http://127.0.0.1:" in done.out
    assert "prefect" not in done.out
    assert prefect_services.running(home) is None
    assert "`hyperrec up`" in place.hyperrec("ui", code=2).said


def test_the_second_start_finds_what_runs(
    place: Place, home: Path, up: prefect_services.LocalPrefect
) -> None:
    before = state(home)
    place.hyperrec("up", "--no-gpu")
    assert state(home) == before
    assert up.pools == ("hyperrec-cpu",)


def test_nobody_gets_in_without_the_password(
    place: Place, home: Path, up: prefect_services.LocalPrefect
) -> None:
    asked = f"{up.api_url}/admin/settings"
    assert get(asked)[0] == 401
    assert get(asked, "hyperrec:wrong")[0] == 401
    assert get(asked, up.auth)[0] == 200
    assert place.hyperrec("ui", "--password").out.strip() == up.auth
    variables = place.hyperrec("ui", "--env").out
    assert f"PREFECT_API_URL={up.api_url}" in variables and up.auth in variables


def test_the_password_is_in_one_file_and_on_no_command_line(
    place: Place, home: Path, up: prefect_services.LocalPrefect
) -> None:
    path = home / "prefect" / "auth"
    assert path.stat().st_mode & 0o777 == 0o600
    secret = up.auth.partition(":")[2]
    assert len(secret) >= 32
    assert not any(secret in command for command in place.processes())
    for each in home.rglob("*"):
        if each.is_file() and each != path:
            assert secret.encode() not in each.read_bytes(), each


def test_pages_may_talk_to_this_server_alone(up: prefect_services.LocalPrefect) -> None:
    for path in ("/", "/v2/", "/api/health"):
        status, headers, _ = get(up.ui_url + path)
        assert status == 200
        policy = dict(
            rule.strip().partition(" ")[::2]
            for rule in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == policy["connect-src"] == policy["script-src"] == "'self'"
        assert not any("http" in rule or "*" in rule for rule in policy.values())
    settings = json.loads(get(f"{up.api_url}/admin/settings", up.auth)[2])
    assert settings["server"]["analytics_enabled"] is False
    assert settings["server"]["ui"]["show_promotional_content"] is False
    # Asked for by a page, and otherwise fetched from elsewhere by the server.
    status, _, body = get(f"{up.api_url}/collections/views/aggregate-worker-metadata", up.auth)
    assert status == 200 and "process" in json.loads(body)["prefect"]


def test_only_what_was_killed_is_started_again(
    place: Place, home: Path, up: prefect_services.LocalPrefect
) -> None:
    before = state(home)
    os.kill(before["worker-cpu"]["pid"], signal.SIGKILL)
    wait_until(lambda: prefect_services.running(home).pools == (), "the worker still answers")  # type: ignore[union-attr]
    place.hyperrec("up", "--no-gpu")
    after = state(home)
    assert after["prefect"] == before["prefect"]
    assert after["worker-cpu"]["pid"] != before["worker-cpu"]["pid"]
    found = prefect_services.running(home)
    assert found == up


def test_a_worker_s_flow_finds_the_stores_of_this_home(
    up: prefect_services.LocalPrefect, home: Path
) -> None:
    flows = tuple(flow for flow in FLOWS if flow.flow == "health")
    with (
        temporary_settings({PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.auth}),
        prefect_client() as client,
    ):
        apply(client, Target(source="az://raw", runs="az://runs"), Channel(), flows=flows)
        deployment = call(client, "GET", "/deployments/name/health/hyperrec")
        run = call(client, "POST", f"/deployments/{deployment['id']}/create_flow_run", {})
        found: dict[str, Any] = {}

        def is_over() -> bool:
            found.update(call(client, "GET", f"/flow_runs/{run['id']}")["state"])
            return found["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        wait_until(is_over, f"the run does not end: {found}")
    # Azurite and the Cosmos endpoint were found, and hold nothing.
    assert found["name"] == "Unhealthy", found
    assert "There are no days of interactions in az://raw" in found["message"]
    assert "No version is active" in found["message"]


def test_down_stops_everything(place: Place, up: prefect_services.LocalPrefect) -> None:
    done = place.hyperrec("down")
    assert done.out.startswith("Stopped: the worker of hyperrec-cpu, the Prefect server, ")
    assert place.processes() == []
