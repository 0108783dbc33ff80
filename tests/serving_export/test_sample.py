"""Recommendations through the service against the artefact's, before a version may go live."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving_export import sample
from serving_export.documents import Item
from serving_export.errors import VerificationError
from serving_export.meter import Progress
from tests.serving_export.publishing_support import MODEL, Account, make_items

ITEMS = [item for item in make_items(60) if item.is_live]
VECTORS = np.stack([item.vector for item in ITEMS]).astype(np.float64)
POINT = np.array([1.2, 0.3, -0.4, 0.1, 0.2])
SCORES = VECTORS @ POINT
BEST = np.argsort(-SCORES, kind="stable")[: sample.TOP]
RIGHT = [(ITEMS[n].item_id, float(SCORES[n])) for n in BEST]


def compare(found: list[tuple[str, float]], live: list[Item] = ITEMS) -> str | None:
    vectors = np.stack([item.vector for item in live]).astype(np.float64)
    return sample._compare(found, live, vectors, POINT)


def test_the_same_answer_passes_rounded_and_with_another_of_equals() -> None:
    assert compare(RIGHT) is None
    assert compare([(item_id, float(np.float32(score))) for item_id, score in RIGHT]) is None
    last = ITEMS[int(BEST[-1])]
    with_twin = [*ITEMS, replace(last, item_id="twin")]
    assert compare(RIGHT, with_twin) is None
    assert compare([("twin", RIGHT[-1][1]), *RIGHT[:-1]], with_twin) is None


def test_what_differs_is_told() -> None:
    said = compare(RIGHT[:-1])
    assert said is not None and "finds 19 items and 20" in said
    said = compare([*RIGHT[:-1], RIGHT[0]])
    assert said is not None and "20 different ones" in said
    said = compare([*RIGHT[:-1], ("nobody", 0.0)])
    assert said is not None and "'nobody', which is no live item" in said
    said = compare([(RIGHT[0][0], RIGHT[0][1] + 0.01), *RIGHT[1:]])
    assert said is not None and "and the artefact" in said
    worst = int(SCORES.argmin())
    said = compare([*RIGHT[1:], (ITEMS[worst].item_id, float(SCORES[worst]))])
    assert said is not None
    assert f"leaves out {RIGHT[0][0]!r}, which scores higher than {ITEMS[worst].item_id!r}" in said


def test_a_search_that_ranks_otherwise_stops_the_promotion(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.publish("v1", make_items(30))
    ask = sample._ask

    async def upside_down(container: Any, point: Any, *rest: Any, **more: Any) -> Any:
        return await ask(container, -point, *rest, **more)

    monkeypatch.setattr(sample, "_ask", upside_down)
    with pytest.raises(VerificationError, match=r"for a history of 'i.*vector search in slot b"):
        account.publish("v2", make_items(60, seed=2))
    control = account.status()
    assert control.active.version == "v1" and control.loading is None
    monkeypatch.setattr(sample, "_ask", ask)
    assert account.publish("v2", make_items(60, seed=2)).written == 0


@pytest.mark.parametrize(
    "model",
    [MODEL, MODEL | {"geometry": "spherical"}, MODEL | {"aggregator": {"kind": "none"}}],
    ids=["midpoint", "geometry of a newer package", "no users of a history"],
)
def test_a_few_users_are_compared_whatever_the_model(
    account: Account, model: dict[str, Any]
) -> None:
    told: list[Progress] = []
    account.publish("v1", make_items(60), model=model, progress=told.append)
    compared = [state for state in told if state.doing == "comparing"]
    assert compared[-1].done == sample.USERS
    assert compared[-1].request_units > 0


def test_a_version_without_live_items_and_one_of_a_single_item_pass(account: Account) -> None:
    account.publish("v1", [replace(item, is_live=False) for item in make_items(5)])
    account.publish("v2", make_items(1))
