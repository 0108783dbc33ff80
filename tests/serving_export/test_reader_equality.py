"""Memory and vector search give the same answers: the same items, scores and order.

Over models of every geometry, with items that share a vector, as those do that nobody has bought
and that are placed at the midpoint of their category.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.published_keys import COSMOS_KEY
from serving_export import answers, ranking, userpoint
from serving_export.containers import create_missing
from serving_export.documents import Item, checksum, to_document
from serving_export.matrix import Matrix, MatrixBuilder
from serving_export.reader import Reader
from serving_export.slots import Published
from tests.serving_export.publishing_support import Account

D = 6
LAGS = [1.0, 0.6, 0.4, 0.3, 0.2]
GEOMETRIES = ("hyperboloid", "euclidean", "inner_product")


def model(geometry: str, kind: str = "learned") -> dict[str, Any]:
    aggregator = {"kind": kind, "lag_weights": [] if kind == "uniform" else LAGS}
    return {
        "format": 2,
        "geometry": geometry,
        "d": D,
        "users": "midpoint",
        "aggregator": aggregator,
    }


def table(geometry: str, count: int, seed: int, width: float) -> np.ndarray:
    """Published vectors, the last eighth of them equal to one another."""
    space = np.random.default_rng(seed).normal(size=(count, D)) * width
    space[-(count // 8) :] = space[-1]
    first = {
        "hyperboloid": -np.sqrt(1 + (space**2).sum(1)),
        "euclidean": -0.5 * (space**2).sum(1),
        "inner_product": np.zeros(count),
    }[geometry]
    found: np.ndarray = np.c_[first, space].astype(np.float32)
    return found


def make_items(geometry: str, tables: int, count: int, *, width: float = 1.0) -> list[Item]:
    vectors = table(geometry, count, 1, width)
    contexts = table(geometry, count, 2, width)
    counts = np.random.default_rng(3).integers(0, 30, count)  # many are equal
    return [
        # Hashed, so that the order of ids is not that of the rows.
        Item(
            item_id=f"{hash((n, 17)) % 997:03d}-{n}",
            vector=vectors[n],
            context=contexts[n] if tables == 2 else None,
            count=int(counts[n]),
            category=("All", f"Room {n % 5}"),
            is_live=n % 7 != 6,
            title=None if n % 3 else f"Item {n}",
        )
        for n in range(count)
    ]


@pytest.fixture(
    scope="module",
    params=[(g, t) for g in GEOMETRIES for t in (1, 2)],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def both(
    endpoint: str, request: pytest.FixtureRequest
) -> Iterator[tuple[Reader, Reader, list[str]]]:
    geometry, tables = request.param
    account = Account(endpoint, COSMOS_KEY, f"equal-{uuid.uuid4().hex[:12]}")
    create_missing(endpoint, COSMOS_KEY, D + 1, database=account.database)
    items = make_items(geometry, tables, 240)
    kind = "learned" if tables == 2 else "uniform"
    account.publish("v1", items, model=model(geometry, kind))
    with account.reader() as stored, account.reader(search="memory") as loaded:
        yield stored, loaded, [item.item_id for item in items]


def test_recommendations(both: tuple[Reader, Reader, list[str]]) -> None:
    stored, loaded, ids = both
    rng = np.random.default_rng(4)
    for n in range(12):
        history = [ids[i] for i in rng.integers(0, len(ids), n)] + ["nobody"] * (n % 2)
        wanted: dict[str, Any] = {
            "exclude_seen": n % 3 > 0,
            "live_only": n % 4 > 0,
            "category": [None, "Room 2", "All", "nowhere"][n % 4] if n > 3 else None,
        }
        k = [1, 7, 20, 60][n % 4]
        found = loaded.recommend(history, k, **wanted)
        assert stored.recommend(history, k, **wanted) == found, (n, wanted)
        assert bool(found) == (wanted["category"] != "nowhere")
        if n:
            np.testing.assert_array_equal(
                stored.user_point(history[:n]), loaded.user_point(history[:n])
            )


def test_ties_at_the_end_of_the_list(both: tuple[Reader, Reader, list[str]]) -> None:
    """The first k among thirty equal items are those with the lowest ids, in both."""
    stored, loaded, ids = both
    equal = sorted(ids[-30:])
    history = [ids[-1]]
    for k in (3, 12):
        found = loaded.recommend(history, k, exclude_seen=False, live_only=False)
        assert stored.recommend(history, k, exclude_seen=False, live_only=False) == found
    everything = loaded.recommend(history, len(ids), exclude_seen=False, live_only=False)
    assert stored.recommend(history, len(ids), exclude_seen=False, live_only=False) == everything
    assert [each.item_id for each in everything if each.item_id in equal] == equal
    assert [each.item_id for each in stored.similar(ids[-1], 5, live_only=False)] == [
        each.item_id for each in loaded.similar(ids[-1], 5, live_only=False)
    ]


def test_popular_and_similar_items(both: tuple[Reader, Reader, list[str]]) -> None:
    stored, loaded, ids = both
    for k in (1, 25, 239):
        popular = loaded.recommend([], k)
        assert stored.recommend([], k) == popular
        assert popular == sorted(popular, key=lambda each: (-each.score, each.item_id))
    for item_id in ids[:4]:
        for category in (None, "Room 3"):
            found = loaded.similar(item_id, 9, category=category)
            assert stored.similar(item_id, 9, category=category) == found
            assert item_id not in [each.item_id for each in found]
    assert stored.get(ids) == loaded.get(ids)


def in_memory(items: list[Item], geometry: str) -> Matrix:
    """A version as it is loaded, without an endpoint."""
    version = Published(
        slot="a",
        version="v",
        run_id="r",
        model=model(geometry),
        items=len(items),
        checksum=checksum(items),
        metrics={},
        promoted_at=datetime(2026, 1, 1, tzinfo=UTC),
        promoted_by="tests",
        load="l",
    )
    builder = MatrixBuilder(version)
    for start in range(0, len(items), 100):
        builder.add([to_document(item, "v") for item in items[start : start + 100]])
    return builder.finish()


def answer(plan: Any) -> Any:
    """What a plan answers that needs nothing."""
    done = answers.advance(plan, None)
    assert isinstance(done, answers.Done)
    return done.answer


@pytest.mark.parametrize("geometry", GEOMETRIES)
# On the hyperboloid 4 is far out, where the product of two vectors loses most of its digits.
@pytest.mark.parametrize("width", [0.01, 1.0, 4.0, 50.0])
def test_the_matrix_product_misses_none(geometry: str, width: float) -> None:
    items = make_items(geometry, 1, 3000, width=width)
    matrix = in_memory(items, geometry)
    by_id = {item.item_id: item for item in items}
    for n in range(0, 40, 5):
        near = [items[n + i].vector for i in range(3)]
        point = userpoint.user_point(model(geometry), np.stack(near))
        scores = ranking.exact_scores(np.stack([item.vector for item in items]), point)
        expected = sorted(
            (-score, item.item_id) for score, item in zip(scores.tolist(), items, strict=True)
        )
        for k in (1, 10, 500):
            found = answer(matrix.nearest(point, k, without=(), live_only=False, category=None))
            assert [(-each.score, each.item_id) for each in found] == expected[:k]
        assert all(each.title == by_id[each.item_id].title for each in found)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.01, 1e4))
def test_a_score_does_not_depend_on_the_other_rows(seed: int, rows: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(rows, 51)) * width).astype(np.float32)
    point = rng.normal(size=51).astype(np.float32)
    together = ranking.exact_scores(vectors, point)
    alone = [ranking.exact_scores(vectors[n : n + 1], point)[0] for n in range(rows)]
    np.testing.assert_array_equal(together, alone)
    slack = ranking.slack(point, ranking.lengths(vectors))
    assert (np.abs(vectors @ point - together) <= slack).all()
