import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperrec_core import similar
from hyperrec_core.similar import top_similar
from hyperrec_core.topk import best_of_rows


def few_valued(rng, items, d=3):
    """Vectors whose products are exact and often equal, some of them twice."""
    vectors = rng.integers(-2, 3, (items, d + 1)).astype(np.float32)
    vectors[rng.integers(0, items, items // 3)] = vectors[rng.integers(0, items, items // 3)]
    return vectors


def by_sorting(vectors, *, flat, k, allowed):
    """Every item's list by a sort of exact scores: best first, of equals the lower number first."""
    points = vectors.astype(np.float64)
    points[:, 0] = 1.0 if flat else -points[:, 0]
    scores = points @ vectors.T.astype(np.float64)
    scores[:, ~allowed] = -np.inf
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, max(allowed.sum() - 1, 0))]
    return order, np.take_along_axis(scores, order, axis=1)


def by_tensors(vectors, *, flat, k, allowed):
    """What `top_similar` does on a GPU, on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        cpu, work = torch.device("cpu"), similar._by_tensors
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(similar, "_by_tensors", lambda *a: work(*a[:-1], cpu))
        patch.setattr(similar, "_SCORES_AT_ONCE", 300)
        return top_similar(vectors, flat=flat, k=k, allowed=allowed)


@pytest.mark.parametrize("way", [top_similar, by_tensors])
@settings(deadline=None, max_examples=60)
@given(
    items=st.integers(1, 90),
    k=st.integers(0, 100),
    share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    flat=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_the_list_is_the_top_of_a_sort(way, items, k, share, flat, seed):
    rng = np.random.default_rng(seed)
    vectors, allowed = few_valued(rng, items), rng.random(items) < share
    before = vectors.copy()
    near, scores = way(vectors, flat=flat, k=k, allowed=allowed)
    expected, expected_scores = by_sorting(vectors, flat=flat, k=k, allowed=allowed)
    assert np.array_equal(near, expected)
    assert np.array_equal(scores, expected_scores)
    assert (near.dtype, scores.dtype) == (np.int64, np.float32)
    assert np.array_equal(vectors, before)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("flat", [False, True])
def test_a_catalogue_of_several_blocks_each_way(flat, threads):
    rng = np.random.default_rng(2)
    items = 2 * similar._COLUMNS + 83
    vectors, allowed = few_valued(rng, items, d=6), rng.random(items) < 0.8
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        near, scores = top_similar(vectors, flat=flat, k=20, allowed=allowed)
    finally:
        torch.set_num_threads(before)
    expected, expected_scores = by_sorting(vectors, flat=flat, k=20, allowed=allowed)
    assert np.array_equal(near, expected)
    assert np.array_equal(scores, expected_scores)


def test_equal_items_of_real_numbers_have_equal_scores_wherever_they_stand():
    rng = np.random.default_rng(3)
    items, some = similar._COLUMNS + 300, 40
    vectors = rng.normal(size=(items, 51)).astype(np.float32)
    twins = np.sort(rng.choice(items, some, replace=False))
    vectors[twins] = vectors[twins[0]]
    near, scores = top_similar(vectors, flat=True, k=some - 1, allowed=np.ones(items, bool))
    for twin in twins:
        assert near[twin].tolist() == [other for other in twins if other != twin]
        assert len(set(scores[twin].tolist())) == 1


def test_the_order_of_equal_and_of_odd_scores():
    scores = torch.tensor(
        [
            [0.0, -0.0, 1.0, 1.0, -1.0],
            [torch.nan, -torch.inf, torch.inf, -3.0, -2.0],
            [-1e-45, 1e-45, 0.0, -3e38, 3e38],
        ]
    )
    best, columns = best_of_rows(scores, 5)
    assert columns[0].tolist() == [2, 3, 0, 1, 4]
    assert columns[1].tolist()[:3] == [2, 4, 3]
    assert columns[2].tolist() == [4, 1, 2, 0, 3]
    assert best[1].tolist() == [torch.inf, -2.0, -3.0, -torch.inf, -torch.inf]
