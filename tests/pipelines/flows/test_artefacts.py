"""What an operator sees of a run: text and tables out of manifests, and small pictures."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from hyperrec_core.analysis.disc import poincare_disc
from pipelines.flows.artefacts import markdown, pictures
from pipelines.preprocess.limits import ReportConfig
from pipelines.preprocess.report import build
from pipelines.runs import Run
from pipelines.start import start_run
from serving_export.price import Price
from tests.pipelines.report_support import HOSTILE, facts, vocabulary

EPOCHS = [
    {"number": n, "loss": 4 / n, "hr_at_10": 0.1 * n, "ndcg_at_10": 0.05 * n} for n in range(1, 8)
]
RESULT = {
    "labels": 760,
    "hr_at_10": 0.65,
    "ndcg_at_10": 0.37,
    "recall_at_10_full": 0.48,
    "ndcg_at_10_full": 0.24,
    "intervals": {
        name: [0.1, 0.9]
        for name in ("hr_at_10", "ndcg_at_10", "recall_at_10_full", "ndcg_at_10_full")
    },
}
JUDGED = {
    "results": {"model": RESULT, "recent_popularity": RESULT | {"hr_at_10": 0.4}},
    "verdicts": [
        {"gate": "finite", "outcome": "pass", "reason": "all are finite", "numbers": {}},
        {"gate": "catalogue", "outcome": "refuse", "reason": "half is gone", "numbers": {}},
        {"gate": "active", "outcome": "warn", "reason": "a little worse", "numbers": {}},
    ],
}


@pytest.fixture
def run(tmp_path) -> Run:
    day = tmp_path / "raw" / "interactions" / "dt=2024-03-31"
    day.mkdir(parents=True)
    (day / "part.csv").write_text("user_id,item_id\n")
    found = start_run(
        source=str(tmp_path / "raw"), as_of=facts().as_of, runs=str(tmp_path / "runs")
    )
    found.finish("preprocess", lambda attempt: {})
    return found


def test_the_data_report_has_its_limits_and_counts(run: Run) -> None:
    report = build(facts(), ReportConfig())
    text = markdown.data_report(report, run=run)
    assert f"| read | {report.rows_read:,} |" in text
    assert f"| kept | {report.interactions:,} |" in text
    assert text.count("\n| ✓ |") + text.count("\n| ⚠ |") == len(report.verdicts)
    assert "| 2024-03-31 | 100 |" in text
    assert f"{run.storage.url}/{run.run_id}/preprocess/" in text


def test_what_others_have_named_is_no_markup(run: Run) -> None:
    table = vocabulary({f"a|b{HOSTILE}": 30, "[x](javascript:1)": 3})
    report = build(facts(vocabulary=table), ReportConfig())
    text = markdown.data_report(report, run=run)
    assert re.search(r"(?<!\\)<script", text) is None
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    assert "\x00" not in text
    rows = [line for line in text.splitlines() if "title of" in line]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [5] * len(rows)


def test_metrics_stand_beside_those_of_others_with_intervals() -> None:
    rows = markdown.metric_rows(JUDGED)
    assert [row["scorer"] for row in rows] == ["model", "recent popularity"]
    assert rows[0]["HR@10 (sampled)"] == "0.6500 (0.1000 to 0.9000)"
    assert rows[1]["HR@10 (sampled)"].startswith("0.4000")


def test_the_gravest_verdict_comes_first() -> None:
    rows = markdown.verdict_rows(JUDGED)
    assert [row["outcome"] for row in rows] == ["✗ refuse", "⚠ warn", "✓ pass"]
    assert all(name for row in rows for name in row), "the page fails at a column without a name"
    assert markdown.headline(JUDGED) == ["0.6500", "0.3700", "✗ refuse"]
    assert "half is gone" in markdown.question("2024-03-31-0123456789", JUDGED)


def test_a_price_is_told() -> None:
    price = Price("b", 1200, 0, 1100, 812.5, 9000.4, 12.0, None)
    assert "1,200 documents" in markdown.priced("RUN", price)
    assert "9,000 RU (by the service's published charges)" in markdown.priced("RUN", price)


def opened(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png))
    picture.load()
    return picture


def test_a_loss_curve_is_a_small_picture_of_its_numbers() -> None:
    curve = pictures.loss_curve(EPOCHS)
    flat = pictures.loss_curve([epoch | {"loss": 1.0} for epoch in EPOCHS])
    unjudged = pictures.loss_curve([e | {"hr_at_10": None, "ndcg_at_10": None} for e in EPOCHS])
    assert opened(curve).size[0] <= 760
    assert len({curve, flat, unjudged}) == 3
    assert len(curve) < 40_000


def test_a_poincare_disc_of_many_items_becomes_small(tmp_path) -> None:
    rng = np.random.default_rng(0)
    tangents = rng.normal(size=(5000, 8)) * 0.6
    length = np.linalg.norm(tangents, axis=1, keepdims=True)
    points = np.concatenate([np.cosh(length), np.sinh(length) * tangents / length], axis=1)
    path = tmp_path / "items.png"
    poincare_disc(points, rng.integers(1, 900, 5000), ["a", "b"] * 2500, path, title="Items")
    small = pictures.small(path.read_bytes())
    assert max(opened(small).size) <= 760
    assert len(small) < 150_000 < 4 * path.stat().st_size


def test_a_picture_stands_in_the_text() -> None:
    png = pictures.loss_curve(EPOCHS)
    text = pictures.embedded(png, "Loss by epoch")
    found = re.fullmatch(r"!\[Loss by epoch\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
    assert found
    assert base64.b64decode(found[1]) == png
