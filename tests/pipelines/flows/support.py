"""A small shop whose night needs no Spark, and the flows as a Prefect server knows them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from infra.local.services import cosmos_server
from pipelines.preprocess.report import build
from pipelines.runs import Attempt, Run
from pipelines.start import start_run
from pipelines.storage import Folder
from tests.pipelines.report_support import facts
from tests.pipelines.test_evaluate_stage import SMALL
from tests.pipelines.test_train_stage import IDS, preprocessed
from tests.support import Place, prefect_server, wait_until

AS_OF = date(2024, 1, 9)
SETTINGS = [*SMALL, "evaluate.minimum_ratio=0", "train.epochs=3"]
WARNS = "evaluate.gates.hr_at_10.warn=1"
"""A floor that no model reaches: every night needs an approval."""
POOL = "hyperrec-cpu"


@dataclass(frozen=True)
class Shop:
    """Raw files, runs and a Cosmos account of one's own, and a Prefect server."""

    place: Place
    api: str

    @property
    def raw(self) -> str:
        return (self.place.home / "raw").as_uri()

    @property
    def runs(self) -> Folder:
        return Folder(self.place.home / "runs")

    def form(self, *settings: str, **fields: Any) -> dict[str, Any]:
        """The form of a night, as plain values."""
        chosen = {"settings": [*SETTINGS, *settings], "start": "cold", "runs": self.runs.url}
        return {"source": self.raw, **chosen, **fields}

    def night(self, *settings: str, day: date = AS_OF) -> Run:
        """The run of a night, preprocessed by hand."""
        run = start_run(
            source=self.raw, as_of=day, overrides=[*SETTINGS, *settings], runs=self.runs.url
        )
        run.finish("preprocess", _preprocess)
        return run

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer of the API, which must be one of success."""
        answer = self.answer(path, body)
        assert answer.is_success, answer.text
        return answer.json()

    def answer(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Any answer of the API: to a POST where there is a body."""
        method, url = ("GET" if body is None else "POST"), f"{self.api}{path}"
        for _ in range(20):
            # Its database is a file, which another request holds: it waits for that for a minute,
            # and answers 503 then.
            answer = httpx.request(method, url, json=body, timeout=90)
            if answer.status_code != 503:
                break
            time.sleep(0.5)
        return answer

    def start(self, deployment: str, form: dict[str, Any], *, at: datetime | None = None) -> str:
        """Ask for a run of a deployment, as the UI does; its id."""
        found = self.call(f"/deployments/name/{deployment}")
        body: dict[str, Any] = {"parameters": {"form": form}}
        if at is not None:
            details = {"scheduled_time": at.isoformat()}
            body["state"] = {"type": "SCHEDULED", "state_details": details}
        made = self.call(f"/deployments/{found['id']}/create_flow_run", body)
        return str(made["id"])

    def flow_run(self, flow_run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call(f"/flow_runs/{flow_run_id}")
        return found

    def wait(self, flow_run_id: str, *states: str, seconds: float = 180) -> dict[str, Any]:
        """A flow run once its state is of one of these types."""
        found: dict[str, Any] = {}

        def reached() -> bool:
            found.update(self.flow_run(flow_run_id))
            return found["state_type"] in states

        try:
            wait_until(reached, "", seconds)
        except AssertionError:
            raise AssertionError(f"{found['state']} is not {states}") from None
        return found

    def artefacts(self, flow_run_id: str) -> dict[str, list[dict[str, Any]]]:
        """The artefacts of a flow run by key, oldest first."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
        found: dict[str, list[dict[str, Any]]] = {}
        for each in sorted(self.call("/artifacts/filter", wanted), key=lambda a: a["created"]):
            found.setdefault(each["key"], []).append(each)
        return found

    def log(self, flow_run_id: str) -> list[dict[str, Any]]:
        wanted = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_ASC"}
        found: list[dict[str, Any]] = self.call("/logs/filter", wanted)
        return found


def _preprocess(attempt: Attempt) -> dict[str, Any]:
    preprocessed(attempt, cold=False, ids=IDS)
    counted = facts(as_of=AS_OF)
    attempt.write("report.json", build(counted, _limits()).to_json())
    return {"rows_read": counted.rows_read, "rows_quarantined": 0, "interactions": 450}


def _limits() -> Any:
    from pipelines.preprocess.limits import ReportConfig  # noqa: PLC0415

    return ReportConfig()


@contextmanager
def shop(home: Path) -> Iterator[Shop]:
    """A shop with a Prefect server and a Cosmos account that end with the block."""
    for day in (AS_OF - timedelta(days=1), AS_OF):
        folder = home / "raw" / "interactions" / f"dt={day}"
        folder.mkdir(parents=True)
        # What preprocessing by hand stands for; only the file's name and size count.
        (folder / "part.csv").write_text("user_id,item_id\n")
    with ExitStack() as stack:
        cosmos = stack.enter_context(cosmos_server(home / "cosmos"))
        place = Place.make(home, cosmos=cosmos)
        yield Shop(place, stack.enter_context(prefect_server(place)))


@contextmanager
def shop_of_this_process(home: Path) -> Iterator[Shop]:
    """A shop whose environment and Prefect server are this process's, too, for the block."""
    with shop(home) as made, pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AZURE_", "COSMOS_", "HYPERREC_", "PREFECT_")):
                patch.delenv(name)
        for name, value in made.place.settings.items():
            patch.setenv(name, value)
        prefect_home = Path(made.place.settings["PREFECT_HOME"])
        with temporary_settings({PREFECT_API_URL: made.api, PREFECT_HOME: prefect_home}):
            yield made


@contextmanager
def worker(here: Shop) -> Iterator[int]:
    """A process worker of the pool; its pid."""
    place = here.place.with_settings(
        PREFECT_API_URL=here.api,
        PREFECT_WORKER_QUERY_SECONDS="1",
        PYTHONPATH=str(Path(__file__).parents[3]),
    )
    words = ("worker", "start", "--pool", POOL, "--type", "process")
    with place.started(*words, program=Path(sys.executable).with_name("prefect")) as child:
        yield child.process.pid
        if child.running():
            child.process.terminate()
            child.done(60)


def ended(flow: Any, form: Any) -> Any:
    """The state in which a flow ends that runs here."""
    return flow(form, return_state=True)


def flow_run_of(state: Any) -> str:
    return str(state.state_details.flow_run_id)
