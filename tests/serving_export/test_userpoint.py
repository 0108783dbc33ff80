"""User points from published vectors: the Lorentz centroid, the mean, and their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_export import userpoint
from serving_export.errors import ExportError


def model(
    weights: list[float], geometry: str = "hyperboloid", kind: str = "learned", **rest: Any
) -> dict[str, Any]:
    return {
        "format": 2,
        "geometry": geometry,
        "aggregator": {"kind": kind, "lag_weights": weights, **rest},
    }


def published(space: np.ndarray) -> np.ndarray:
    time = np.sqrt(1 + (space**2).sum(1, keepdims=True))
    return np.concatenate([-time, space], axis=1).astype(np.float32)


def points(seed: int, rows: int, d: int = 4) -> np.ndarray:
    return published(np.random.default_rng(seed).normal(size=(rows, d)))


def test_one_item_is_its_own_user_point() -> None:
    vectors = points(0, 1)
    found = userpoint.user_point(model([0.3]), vectors)
    np.testing.assert_allclose(found, userpoint.like(model([1.0]), vectors[0]), rtol=1e-6)


def test_the_midpoint_of_two_points_on_a_line() -> None:
    # On the curve (cosh t, sinh t) equal weights meet in the middle of t = 0.5 and t = 1.5.
    vectors = np.array([[-np.cosh(t), np.sinh(t)] for t in (0.5, 1.5)], dtype=np.float32)
    found = userpoint.user_point(model([1.0, 1.0]), vectors)
    np.testing.assert_allclose(found, [np.cosh(1.0), np.sinh(1.0)], rtol=1e-6)


def test_the_newest_takes_the_first_weight() -> None:
    vectors = np.array([[-np.cosh(t), np.sinh(t)] for t in (0.0, 2.0)], dtype=np.float32)
    near_newest = userpoint.user_point(model([10.0, 1.0]), vectors)
    near_oldest = userpoint.user_point(model([1.0, 10.0]), vectors)
    assert near_newest[1] < near_oldest[1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.01, 100.0))
def test_on_the_sheet_and_indifferent_to_the_scale_of_weights(
    seed: int, rows: int, scale: float
) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, rows)
    found = userpoint.user_point(model(weights.tolist()), points(seed, rows)).astype(float)
    assert found[0] >= 1
    assert found[0] ** 2 - (found[1:] ** 2).sum() == pytest.approx(1.0, rel=1e-4)
    scaled = userpoint.user_point(model((weights * scale).tolist()), points(seed, rows))
    np.testing.assert_allclose(scaled, found, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_the_dot_product_ranks_by_hyperbolic_distance(seed: int) -> None:
    items = points(seed, 20)
    user = userpoint.user_point(model([1.0, 0.5]), points(seed + 1, 2)).astype(float)
    lorentz = items.astype(float) @ user
    assert (lorentz <= -1 + 1e-5).all()
    true = items.astype(float) * np.r_[-1.0, np.ones(4)]  # the points themselves
    distance = np.arccosh(np.maximum(1.0, user[0] * true[:, 0] - true[:, 1:] @ user[1:]))
    assert (np.argsort(-lorentz) == np.argsort(distance)).all()


@pytest.mark.parametrize("geometry", ["euclidean", "inner_product"])
def test_in_flat_space_the_user_is_the_weighted_mean_after_a_one(geometry: str) -> None:
    vectors = np.array([[-0.5, 1.0, 0.0], [-8.0, 0.0, 4.0]], dtype=np.float32)
    found = userpoint.user_point(model([3.0, 1.0], geometry), vectors)
    np.testing.assert_allclose(found, [1.0, 0.75, 1.0])
    np.testing.assert_array_equal(userpoint.like(model([1.0], geometry), vectors[1]), [1, 0, 4])
    assert vectors[1, 0] == -8.0  # the caller's own


@given(st.integers(0, 2**32 - 1))
def test_the_dot_product_ranks_by_euclidean_distance(seed: int) -> None:
    space = np.random.default_rng(seed).normal(size=(20, 3))
    vectors = np.c_[-0.5 * (space**2).sum(1), space].astype(np.float32)
    euclidean = model([1.0, 0.5], "euclidean")
    user = userpoint.user_point(euclidean, vectors[:2]).astype(float)
    distance = np.linalg.norm(space - user[1:], axis=1)
    assert (np.argsort(-(vectors @ user)) == np.argsort(distance)).all()
    near = np.argsort(-(vectors @ userpoint.like(euclidean, vectors[7])))
    assert (near == np.argsort(np.linalg.norm(space - space[7], axis=1))).all()


def test_uniform_takes_all_of_a_history_alike() -> None:
    uniform, vectors = model([], kind="uniform"), points(3, 200)
    assert userpoint.most_items(uniform) is None
    found = userpoint.user_point(uniform, vectors)
    np.testing.assert_allclose(found, userpoint.user_point(model([1.0] * 200), vectors))
    np.testing.assert_allclose(found, userpoint.user_point(uniform, vectors[::-1]), rtol=1e-5)


@pytest.mark.parametrize("kind", ["window", "exponential", "learned", "learned_lags"])
def test_any_other_aggregator_is_its_lag_weights(kind: str) -> None:
    weighted = model([1.0, 0.25], "euclidean", kind)
    assert userpoint.most_items(weighted) == 2
    vectors = np.array([[0.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(userpoint.user_point(weighted, vectors), [1.0, 0.2])


def test_event_types_weigh_beside_lags() -> None:
    weights = {"purchase": 2.0, "view": 0.5}
    vectors = np.array([[0.0, 0.0], [0.0, 1.0]], dtype=np.float32)

    def found(events: list[str] | None, **rest: Any) -> float:
        return float(
            userpoint.user_point(model([1.0, 0.5], "inner_product", **rest), vectors, events)[1]
        )

    told = {"event_weights": weights}
    assert found(["view", "purchase"], **told) == pytest.approx(1.0 / 1.5)
    assert found(["purchase", "view"], **told) == pytest.approx(0.25 / 2.25)
    bought = found(["purchase", "purchase"], **told)
    assert found(None, **told) == bought == pytest.approx(0.5 / 1.5)
    # A model that does not weigh them says nothing of what callers tell it.
    assert found(["wave", "view"]) == bought
    with pytest.raises(ExportError, match=r"'wave' has no weight .* give purchase, view"):
        found(["wave", "view"], **told)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (model([1.0], "spherical"), "'spherical'"),
        (model([]), "'learned' without lag weights"),
        (model([1.0], kind="gated"), "'gated' and this reader knows uniform, window"),
        ({"geometry": "hyperboloid"}, "by None"),
        ({}, "None"),
        (
            {"geometry": "hyperboloid", "users": "table", "aggregator": {"kind": "none"}},
            "a point for each user of its training and none for a history; publish one trained",
        ),
    ],
)
def test_what_this_reader_does_not_know_is_refused_by_name(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ExportError, match=named):
        userpoint.user_point(wrong, points(0, 1))


def test_damaged_vectors_and_weights_are_told() -> None:
    spacelike = np.array([[-1.0, 5.0]], dtype=np.float32)
    with pytest.raises(ExportError, match="no centroid"):
        userpoint.user_point(model([1.0]), spacelike)
    for geometry in ("hyperboloid", "euclidean"):
        with pytest.raises(ExportError, match="no centroid"):
            userpoint.user_point(model([0.0], geometry), points(0, 1))
        with pytest.raises(ExportError, match="no centroid"):
            userpoint.user_point(model([float("nan")], geometry), points(0, 1))
