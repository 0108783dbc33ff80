"""Cold items: towards their category, as far out as rare items, and the rest unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core.cold import Category, category_midpoints, with_cold_items
from hyperrec_core.geometry import lorentz
from hyperrec_core.midpoint import normalise
from hyperrec_core.models import PointsConfig, build, restore
from hyperrec_core.scores import Score
from hyperrec_core.similar import top_similar
from hyperrec_core.spaces import Hyperboloid, space_of

CPU = torch.device("cpu")
# Twenty dresses in one direction and twenty hats in another, the later the rarer and farther out.
CATEGORIES: list[Category] = [("wear", "dress"), ("wear", "hat")] * 20
COUNTS = np.arange(40, 0, -1)
COLD: list[Category] = [("wear", "hat"), ("wear", "sock"), ("food",), (), ("wear", "hat", "red")]


def config(**settings) -> PointsConfig:
    return PointsConfig(**{"dimensions": 3, "lags": 2} | settings)


def trained(settings: PointsConfig) -> dict[str, torch.Tensor]:
    model = build(settings, counts=torch.from_numpy(COUNTS), users=0, seed=1, device=CPU)
    state = model.state()
    rng = torch.Generator().manual_seed(2)
    for name in ("target", "context")[: settings.tables]:
        spatial = torch.zeros(40, 3)
        spatial[0::2, 0] = 1.0
        spatial[1::2, 1] = 1.0
        spatial += 0.1 * torch.rand(40, 3, generator=rng)
        spatial *= torch.linspace(0.1, 1.0, 40).unsqueeze(1)
        state[name].copy_(space_of(settings.geometry).lift(spatial))
    return state


def grow(settings: PointsConfig, vectors: torch.Tensor, categories: list[Category]) -> torch.Tensor:
    return with_cold_items(vectors, settings.geometry, counts=COUNTS, categories=categories)


@pytest.mark.parametrize(
    "settings",
    [
        config(tables=1),
        config(tables=2, score="distance"),
        config(tables=2, geometry="euclidean", score="squared_distance"),
        config(tables=1, geometry="inner_product"),
    ],
    ids=lambda settings: f"{settings.geometry} {settings.tables}",
)
def test_cold_items_point_to_their_category_from_where_rare_items_are(settings):
    model = restore(settings, trained(settings), device=CPU)
    space = space_of(settings.geometry)
    tables = [t for t in (model.item_vectors(), model.context_vectors()) if t is not None]
    assert len(tables) == settings.tables
    for vectors in tables:
        before = vectors.clone()
        grown = grow(settings, vectors, CATEGORIES + COLD)
        assert torch.equal(vectors, before)
        assert torch.equal(grown[:40], before)
        added = grown[40:]
        assert len(added) == len(COLD)
        length = added[:, 1:].norm(dim=1)
        rarest = before[torch.from_numpy(COUNTS <= 4), 1:].norm(dim=1)
        assert torch.allclose(length, rarest.median())
        # They are what the model publishes of points there.
        points = space.lift(added[:, 1:])
        assert torch.equal(Score(space, settings.score).published(points), added)
        # The hat points like hats; a sock, with no sock to go by, between hats and dresses.
        hat, sock, food, nothing, red = torch.nn.functional.normalize(added[:, 1:], dim=1)
        assert hat[1] > 0.95 > sock[1] > 0.5
        assert torch.equal(red, hat)
        assert torch.equal(food, nothing)
        assert torch.equal(food, sock)  # all items are wear


def test_a_cold_item_has_the_own_score_of_rare_items_where_items_have_one():
    settings = config(tables=1, geometry="inner_product")
    vectors = restore(settings, trained(settings), device=CPU).item_vectors()
    vectors[:, 0] = torch.linspace(1.0, -1.0, 40)
    grown = grow(settings, vectors, CATEGORIES + COLD)
    assert torch.equal(grown[40:, 0], vectors[COUNTS <= 4, 0].median().expand(len(COLD)))


def test_a_cold_item_is_similar_to_its_category():
    settings = config(tables=1)
    model = restore(settings, trained(settings), device=CPU)
    vectors = grow(settings, model.item_vectors(), CATEGORIES + COLD[:1]).numpy()
    near, scores = top_similar(vectors, flat=False, k=8, allowed=np.ones(41, bool))
    assert (near[40] % 2 == 1).all()
    assert np.isfinite(scores[40]).all()
    # It is named in turn.
    assert (near[:40] == 40).any()


def test_without_cold_items_nothing_changes():
    settings = config(tables=2)
    vectors = restore(settings, trained(settings), device=CPU).item_vectors()
    assert torch.equal(grow(settings, vectors, CATEGORIES), vectors)


PATHS = st.lists(st.sampled_from("ab"), max_size=3).map(tuple)


@given(st.lists(PATHS, min_size=1, max_size=12), st.lists(PATHS, max_size=5))
def test_midpoints_are_those_of_the_narrowest_category_with_points(paths, wanted):
    rng = torch.Generator().manual_seed(len(paths))
    points = lorentz.from_spatial(torch.randn(len(paths), 2, generator=rng, dtype=torch.float64))
    found, levels = category_midpoints(Hyperboloid(), points, paths, wanted)
    assert found.shape == (len(wanted), 3)
    for path, point, level in zip(wanted, found, levels.tolist(), strict=True):
        inside = [row for row, other in enumerate(paths) if other[:level] == path[:level]]
        torch.testing.assert_close(point, normalise(points[inside].sum(0)))
        if level < len(path):
            assert not any(other[: level + 1] == path[: level + 1] for other in paths)
