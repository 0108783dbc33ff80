"""Nights in a row at a shop whose deliveries come in, one of them spoilt.

    python -m tests.benchmarks.nights              # tables on the terminal, build/nights.png
    python -m tests.benchmarks.nights --publish    # on the page of the flows, too

Everything is as an operator has it: `hyperrec up`, `hyperrec deploy`, and one run of
`daily-retrain/hyperrec` a night, asked for at the API and done by the local worker, each trained
from the version that is active. It has a home of its own, which is gone at the end.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from infra.local import services
from pipelines.gates import METRICS
from pipelines.runs import STAGES, Run
from pipelines.storage import Storage
from tests import data
from tests.benchmarks.nights_data import WINDOW_DAYS, Shop, misjoined
from tests.benchmarks.nights_report import Night, Report, Stage, draw, outcomes, publish, times
from tests.receiver import Receiver, receiving
from tests.support import Place, wait_until

log = logging.getLogger("nights")

POISONED = 4
_SETTINGS = (
    *("--input", "az://raw", "--profile", "online-retail"),
    *("--set", "preprocess.split=last_week", "--set", "train.epochs=4"),
    # No run but those that are asked for.
    *("--cron", "0 0 1 1 *"),
)
_AHEAD = timedelta(seconds=20)
_PATIENCE_SECONDS = 1800
_BUILD = Path("build")
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.nights", description=__doc__)
    parser.add_argument("--nights", type=int, default=7, help="in a row, up to the newest line")
    parser.add_argument("--whole", action="store_true", help="all of Online Retail, not a slice")
    parser.add_argument(
        "--poisoned-days",
        type=int,
        default=WINDOW_DAYS,
        choices=range(1, WINDOW_DAYS + 1),
        help=f"of the {WINDOW_DAYS} days in the delivery before night {POISONED}",
    )
    parser.add_argument("--publish", action="store_true", help="write pipelines/flows/README.md")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing, show build/nights.json again"
    )
    words = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("azure").setLevel(logging.WARNING)
    _BUILD.mkdir(exist_ok=True)
    if not words.report:
        _measured(words).keep(_BUILD / "nights.json")
    report = Report.kept(_BUILD / "nights.json")
    draw(report.nights, _BUILD / "nights.png")
    for text in (*report.facts, outcomes(report.nights), times(report.nights)):
        print(text, end="\n\n")
    print(_BUILD / "nights.png")
    if words.publish:
        publish(report)


def _measured(words: argparse.Namespace) -> Report:
    busy = f"load before: {os.getloadavg()[0]:.1f} processes"
    with tempfile.TemporaryDirectory(prefix="nights-") as folder, receiving() as receiver:
        path = data.real_lines() if words.whole else data.online_retail(Path(folder) / "lines")
        if path is None:
            raise SystemExit("The whole lines are not here: set HYPERREC_ONLINE_RETAIL.")
        shop = Shop.of(path, words.nights)
        nights, read = simulate(Path(folder), shop, receiver, words.poisoned_days)
        facts = [*_facts(shop, read, words.whole, words.poisoned_days), busy]
        return Report(nights, [*facts, *_told(nights, receiver)])


def simulate(
    home: Path, shop: Shop, receiver: Receiver, poisoned_days: int
) -> tuple[list[Night], dict[int, set[str]]]:
    """Do the nights.

    Args:
        home: an empty folder.
        shop: what is delivered when.
        receiver: who is alerted.
        poisoned_days: how many days of the spoilt delivery are spoilt.

    Returns:
        The nights, and by night the days whose files it read and judged; it took the others as
        earlier nights had kept them.
    """
    place = Place.make(home).with_settings(HYPERREC_ALERT_WEBHOOK=receiver.url)
    try:
        place.hyperrec("up", "--no-gpu")
        _deliver(place, shop.before(1))
        place.hyperrec("deploy", *_SETTINGS)
        office = Office.at(place, receiver)
        nights: list[Night] = []
        read: dict[int, set[str]] = {}
        day = shop.as_of(POISONED)
        for number in range(1, shop.nights + 1):
            lines = shop.delivery(number)
            if number == POISONED:
                lines = misjoined(lines, day - timedelta(days=poisoned_days - 1))
            elif number == POISONED + 1:
                _deliver(place, shop.delivery(POISONED))
            if number > 1:
                _deliver(place, lines)
            before = office.kept_days()
            nights.append(office.night(number, shop.as_of(number)))
            read[number] = {name.split("/")[2] for name in office.kept_days() - before}
            log.info("%s, which read %d days", nights[-1], len(read[number]))
        return nights, read
    finally:
        place.hyperrec("down")


def _deliver(place: Place, lines: pa.Table) -> None:
    """Lines by the shop's file; days that came before as they come now are left alone."""
    path = place.home / "delivery.parquet"
    pq.write_table(lines, path)
    place.hyperrec("import", str(path), "--mapping", "online-retail", "--to", "az://raw")


@dataclass(frozen=True)
class Office:
    """What an operator has: the API, the stores, and the messages that came."""

    api: httpx.Client
    place: Place
    runs: Storage
    receiver: Receiver

    @classmethod
    def at(cls, place: Place, receiver: Receiver) -> Office:
        """The services of a place that are up."""
        told = place.hyperrec("ui", "--env").out
        found = dict(re.findall(r"^export (\w+)=(\S+)$", told, re.MULTILINE))
        user, _, password = found["PREFECT_API_AUTH_STRING"].partition(":")
        api = httpx.Client(base_url=found["PREFECT_API_URL"], auth=(user, password), timeout=60)
        stores = services.running(Path(place.settings["HYPERREC_HOME"]))
        if stores is None or stores.blob_endpoint is None:
            raise SystemExit("No Azurite here: install Node and run npm ci --prefix infra/local.")
        place = place.with_settings(
            AZURE_STORAGE_ACCOUNT_URL=stores.blob_endpoint, COSMOS_ENDPOINT=stores.cosmos_endpoint
        )
        return cls(api, place, place.storage("az://runs"), receiver)

    def night(self, number: int, as_of: date) -> Night:
        """Ask for a night and wait for its end; a question is answered as a careful person would.

        What waits for approval is declined on the poisoned night and approved on the others.
        """
        alerts = len(self.receiver.about("gate-refused"))
        scheduled = datetime.now(UTC) + _AHEAD
        deployment = self._call("GET", "/deployments/name/daily-retrain/hyperrec")
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": scheduled.isoformat()}}
        form = deployment["parameters"]["form"] | {"as_of": as_of.isoformat()}
        flow_run = self._call(
            "POST",
            f"/deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"form": form}, "state": state},
        )["id"]
        found, outcome = self._end(flow_run), ""
        if found["state_type"] == "PAUSED":
            decision = "decline" if number == POISONED else "approve"
            answer = {"decision": decision, "who": "the operator", "why": "looked at its metrics"}
            self._call("POST", f"/flow_runs/{flow_run}/resume", {"run_input": answer})
            found, outcome = self._end(flow_run, "PAUSED", "SCHEDULED"), f", {decision}d by hand"
        run_id = found["labels"].get("hyperrec.run_id")
        if run_id is None:
            raise SystemExit(f"Night {number} made no run: {found['state']}")
        refused = found["state"]["name"] == "Refused"
        alert = self.receiver.wait("gate-refused", more_than=alerts)["what"] if refused else ""
        return self._night(number, Run.open(self.runs, run_id), found, outcome, alert)

    def _night(
        self, number: int, run: Run, found: dict[str, Any], answered: str, alert: str
    ) -> Night:
        active = self.place.control().active
        version = "none" if active is None else active.version
        published = version == run.run_id
        manifests = [done for stage in STAGES if (done := run.manifest(stage)) is not None]
        judged = [each.metrics["results"] for each in manifests if each.stage == "evaluate"]
        state = found["state"]
        return Night(
            number=number,
            as_of=run.record.as_of,
            run_id=run.run_id,
            start=run.record.configuration["warm_start"],
            outcome=("published" if published else state["name"].lower()) + answered,
            published=published,
            active=version,
            metrics={
                scorer: {
                    metric: (values[metric], *values["intervals"][metric]) for metric in METRICS
                }
                for results in judged
                for scorer, values in results.items()
            },
            scheduled=datetime.fromisoformat(found["expected_start_time"]),
            began=datetime.fromisoformat(found["start_time"]),
            ended=datetime.fromisoformat(found["end_time"]),
            stages=[
                Stage(name=each.stage, began=each.started_at, seconds=each.wall_seconds)
                for each in manifests
            ],
            said="" if published else state["message"] or "",
            alert=alert,
        )

    def kept_days(self) -> set[str]:
        """Days as they are kept for later nights, by the content that they were read with."""
        names = {blob.name for blob in self.runs.list("compacted/")}
        return {name for name in names if name.endswith("/manifest.json")}

    def _end(self, flow_run: str, *passing: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def over() -> bool:
            found.update(self._call("GET", f"/flow_runs/{flow_run}"))
            return found["state_type"] in _ENDED and found["state_type"] not in passing

        wait_until(over, f"the flow run {flow_run} does not end", _PATIENCE_SECONDS)
        return found

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.api.request(method, path, json=body)
        if not answer.is_success:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


def _facts(shop: Shop, read: dict[int, set[str]], whole: bool, poisoned_days: int) -> list[str]:
    kind = "all of the Online Retail lines" if whole else data.kind().partition(" in ")[0]
    day = shop.as_of(POISONED)
    facts = [
        f"data: {kind}, {len(shop.lines):,} lines; nights {shop.as_of(1)} to {shop.last}",
        f"hardware: {platform.machine()}, {os.cpu_count()} cores, no GPU used",
        f"settings: {' '.join(word for word in _SETTINGS if '=' in word)}",
    ]
    if shop.nights >= POISONED:
        facts.append(
            f"night {POISONED}: the newest {poisoned_days} of the {WINDOW_DAYS} days of its "
            "delivery have their items on other lines"
        )
    counts = ", ".join(f"{len(read[number])}" for number in sorted(read))
    facts.append(f"days whose files each night read: {counts}; the others were kept from before")
    if again := [f"{number}" for number in sorted(read) if day.isoformat() in read[number]]:
        facts.append(f"the day {day} was read by night {' and '.join(again)}")
    return facts


def _told(nights: Sequence[Night], receiver: Receiver) -> list[str]:
    told = []
    for night in nights:
        if night.alert:
            told.append(f"alert of night {night.number}: {night.alert}")
        elif night.said:
            told.append(f"night {night.number} ended: {night.said}")
    kinds = sorted({each["alert"] for each in receiver.told})
    return [*told, f"alerts by name: {', '.join(kinds) or 'none'}"]


if __name__ == "__main__":
    main()
