"""An operator's evening in a real browser: a night by its form, its artefacts, and a rollback.

    pytest -m heavy tests/e2e/test_browser.py

Chromium is the distribution's (`apt-get install chromium`). Pictures of every page are kept in
build/screenshots, to be looked at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, Page, Request, expect, sync_playwright

from tests import data
from tests.support import Place

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = Path("build/screenshots")
# A page waits for a server that shares two cores with Spark.
PATIENCE = 60_000
NIGHT = 900_000

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@dataclass
class Operator:
    """A signed-in page, and all it asked of other addresses."""

    page: Page
    url: str
    outside: list[str]

    def look(self, name: str) -> None:
        """Keep a picture of the whole page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def open(self, path: str) -> None:
        self.go(f"/v2/{path}")

    def go(self, address: str) -> None:
        """Follow a link."""
        self.page.goto(f"{self.url}{address}", wait_until="networkidle")

    def links(self, part: str) -> list[str]:
        """Addresses on this page that hold a part, once each."""
        links = self.page.locator(f'a[href*="{part}"]')
        expect(links.first).to_be_visible()
        return list(dict.fromkeys(str(link.get_attribute("href")) for link in links.all()))

    def form(self, flow: str) -> None:
        """The form of a flow's deployment."""
        self.open("deployments")
        row = self.page.get_by_role("row").filter(has_text=flow)
        row.get_by_role("link", name="hyperrec").first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        expect(self.page.get_by_text("Parameters").first).to_be_visible()

    def field(self, label: str) -> Locator:
        """A text field of the form."""
        return self.page.get_by_label(label)

    def pick(self, day: date) -> None:
        """Choose a day in the calendar of the form's one date."""
        self.page.get_by_text("date", exact=True).first.click()
        self.page.get_by_role("button", name="Pick a date").click()
        while not self.page.get_by_text(f"{day:%B %Y}").count():
            self.page.get_by_role("button", name="Previous Month").click()
        self.page.get_by_role(
            "button", name=re.compile(f"{day:%B} {day.day}(st|nd|rd|th), ")
        ).click()
        self.page.keyboard.press("Escape")

    def submit(self) -> None:
        """Send the form and go to the page of its run."""
        # The page takes up what was typed a moment later, and until then a field for empty.
        self.page.wait_for_timeout(2000)
        self.page.get_by_role("button", name="Submit").click()
        self.page.get_by_role("button", name="View run").click()
        self.page.wait_for_url("**/runs/flow-run/**")

    def expect_state(self, state: str) -> None:
        expect(self.page.get_by_text(state, exact=True).first).to_be_visible(timeout=NIGHT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place.make(tmp_path_factory.mktemp("browser"))
    yield place
    place.hyperrec("down")
    assert place.processes() == []


@pytest.fixture(scope="module")
def last(place: Place, tmp_path_factory: pytest.TempPathFactory) -> date:
    """The last day of the data; everything runs and is deployed, and the night before is done."""
    lines = data.online_retail(tmp_path_factory.mktemp("lines"))
    seconds = max(pq.read_table(lines, columns=["timestamp"])["timestamp"].to_pylist())
    last = date(1970, 1, 1) + timedelta(seconds=seconds)
    place.hyperrec("up", "--no-gpu")
    place.hyperrec("import", str(lines), "--mapping", "online-retail", "--to", "az://raw")
    night = ["--input", "az://raw", "--profile", "online-retail", "--set", "train.epochs=4"]
    with place.started("run", *night, "--as-of", str(last - timedelta(days=1))) as run:
        assert run.done(NIGHT / 1000).code == 0
    place.hyperrec("deploy", *night)
    return last


@pytest.fixture
def operator(place: Place, last: date) -> Iterator[Operator]:
    url = place.hyperrec("ui").out.split()[0]
    password = place.hyperrec("ui", "--password").out.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                "--disable-sync",
            ],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1100}, timezone_id="UTC")
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        outside: list[str] = []

        def note(request: Request) -> None:
            if not request.url.startswith((url, "data:", "blob:")):
                outside.append(request.url)

        page.on("requestfinished", note)
        page.goto(url, wait_until="networkidle")
        page.locator("input").first.fill(password)
        page.get_by_role("button").first.click()
        page.wait_for_url("**/dashboard**")
        yield Operator(page, url, outside)
        browser.close()


def test_a_night_by_its_form_its_artefacts_and_a_rollback(
    operator: Operator, place: Place, last: date
) -> None:
    page = operator.page

    operator.form("daily-retrain")
    operator.look("1-form")
    operator.pick(last)
    operator.submit()
    expect(page.get_by_text(f"{last} retrain").first).to_be_visible(timeout=NIGHT)
    operator.look("2-running")
    operator.expect_state("Completed")
    operator.look("3-completed")
    published = place.hyperrec("status").out
    assert f"{last}-" in published

    page.get_by_role("tab", name="Artifacts").click()
    kinds = {address.rpartition("/")[2]: address for address in operator.links("/artifacts/key/")}
    assert {"summary", "data-report", "training", "metrics", "gates", "export"} <= set(kinds)
    pictures = 0
    for kind, address in kinds.items():
        operator.go(address)
        operator.go(operator.links("/artifacts/artifact/")[0])
        expect(page.get_by_role("tab", name="Raw")).to_be_visible()
        operator.look(f"4-{kind}")
        for picture in page.locator("img").all():
            assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
            pictures += 1
    assert pictures == 2, "the loss curve and the items on the Poincaré disc"

    operator.form("rollback")
    operator.field("Why").fill("odd shoes")
    operator.field("Who you are").fill("the operator of this test")
    operator.look("5-rollback")
    operator.submit()
    operator.expect_state("Completed")
    operator.look("6-rolled-back")
    history = place.hyperrec("history").out
    assert "odd shoes" in history
    assert "rollback" in history
    assert operator.outside == []


def test_a_form_that_contradicts_itself_is_refused(operator: Operator) -> None:
    operator.form("export-only")
    operator.page.get_by_role("textbox", name="Run", exact=True).fill("not a run")
    operator.page.get_by_role("button", name="Submit").click()
    operator.page.wait_for_timeout(2000)
    operator.look("7-refused")
    assert "/run" in operator.page.url, "the form is still there"
