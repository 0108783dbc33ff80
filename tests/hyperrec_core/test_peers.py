"""The rivals: against brute force where there is a formula, else on data with one right answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from hyperrec_core.analysis import peers
from hyperrec_core.evaluate import Scorer
from hyperrec_core.histories import Batch, Histories

FITS: dict[str, Callable[..., Scorer]] = {
    "als": lambda matrix: peers.als(
        matrix, factors=2, regularization=0.1, alpha=5.0, iterations=10, seed=1
    ),
    "bpr": lambda matrix: peers.bpr(
        matrix, factors=8, learning_rate=0.1, regularization=0.01, iterations=200, seed=1
    ),
    "ease": lambda matrix: peers.ease(matrix, regularization=1.0),
    "item_knn": lambda matrix: peers.item_knn(matrix, neighbours=10, shrinkage=1.0),
}


def histories(rows: list[list[int]], items: int) -> Histories:
    """Each row's last item is its label."""
    table = pa.table(
        {
            "user_id": [f"{number:05d}" for number in range(len(rows))],
            "items": pa.array(rows, pa.list_(pa.int32())),
            "times": pa.array([list(range(len(row))) for row in rows], pa.list_(pa.int64())),
            "is_label": [[False] * (len(row) - 1) + [len(row) > 1] for row in rows],
        }
    )
    return Histories.from_tables([table], items=items)


def batch(rows: list[list[int]], items: int) -> Batch:
    split = histories([[*row, 0] for row in rows], items)
    return split.batch(np.arange(len(split)), lags=1 << 40)


def random_rows(users: int, items: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [
        generator.choice(items, generator.integers(1, items // 2), replace=False).tolist()
        for _ in range(users)
    ]


def dense(rows: list[list[int]], items: int) -> NDArray[np.float64]:
    matrix = np.zeros((len(rows), items))
    for number, row in enumerate(rows):
        matrix[number, row] = 1.0
    return matrix


def test_what_is_taken_twice_is_taken() -> None:
    matrix = peers.interaction_matrix(histories([[2, 0, 2], [1]], 4), items=4)
    assert matrix.toarray().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize("name", FITS)
def test_the_missing_square_of_the_checkerboard_is_recommended(name: str) -> None:
    # Even users take even items, odd users odd items, each but one of its own.
    items, users = 12, 120
    rows = [
        [item for item in range(user % 2, items, 2) if item != (user % 2 + 2 * (user // 2)) % items]
        for user in range(users)
    ]
    scores = FITS[name](peers.interaction_matrix(histories(rows, items), items=items))(
        batch(rows, items)
    )
    assert scores.shape == (users, items)
    for user, row in enumerate(rows):
        left = [item for item in range(items) if item not in row]
        best = max(left, key=scores[user].__getitem__)
        assert best % 2 == user % 2


@pytest.mark.parametrize("name", FITS)
def test_a_batch_equals_its_singles(name: str) -> None:
    rows = random_rows(30, 15, seed=3)
    scorer = FITS[name](peers.interaction_matrix(histories(rows, 15), items=15))
    strangers = random_rows(8, 15, seed=4)
    together = scorer(batch(strangers, 15))
    alone = torch.cat([scorer(batch([row], 15)) for row in strangers])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FITS)
def test_labels_that_share_a_history_share_its_scores(name: str) -> None:
    rows = random_rows(30, 15, seed=3)
    scorer = FITS[name](peers.interaction_matrix(histories(rows, 15), items=15))
    one = batch([rows[0]], 15)
    shared = replace(one, labels=torch.tensor([3, 4]), context=torch.tensor([0, 0]))
    scores = scorer(shared)
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[:1], scorer(one))


def test_ease_solves_the_regression_with_an_empty_diagonal() -> None:
    rows, items, penalty = random_rows(60, 10, seed=5), 10, 3.0
    matrix = dense(rows, items)
    weights = np.zeros((items, items))
    for item in range(items):
        # The optimum of each column is a ridge regression on the other items.
        others = [other for other in range(items) if other != item]
        left = matrix[:, others]
        weights[others, item] = np.linalg.solve(
            left.T @ left + penalty * np.eye(items - 1), left.T @ matrix[:, item]
        )
    fitted = peers.ease(peers.interaction_matrix(histories(rows, items), items=items),
                        regularization=penalty)  # fmt: skip
    strangers = random_rows(7, items, seed=6)
    expected = dense(strangers, items) @ weights
    np.testing.assert_allclose(fitted(batch(strangers, items)).numpy(), expected, atol=1e-4)


def test_ease_refuses_a_catalogue_that_does_not_fit() -> None:
    large = peers.EASE_ITEMS + 1
    matrix = peers.interaction_matrix(histories([[0, large - 1]], large), items=large)
    with pytest.raises(peers.PeerError, match="dense 13001 x 13001"):
        peers.ease(matrix, regularization=1.0)


def test_item_knn_is_a_sum_of_the_nearest_shrunk_cosines() -> None:
    rows, items = random_rows(61, 10, seed=13), 10
    matrix = dense(rows, items)
    together = matrix.T @ matrix
    norms = np.sqrt(np.diag(together))
    cosine = together / (np.outer(norms, norms) + 2.0)
    np.fill_diagonal(cosine, 0.0)
    kept = cosine >= np.sort(cosine, axis=1)[:, -3][:, None]
    assert (kept.sum(1) == 3).all(), "the test must have no tie at the third neighbour"
    fitted = peers.item_knn(
        peers.interaction_matrix(histories(rows, items), items=items), neighbours=3, shrinkage=2.0
    )
    strangers = random_rows(7, items, seed=8)
    expected = dense(strangers, items) @ np.where(kept, cosine, 0.0)
    np.testing.assert_allclose(fitted(batch(strangers, items)).numpy(), expected, atol=1e-6)


def test_als_folds_a_user_in_by_weighted_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, items = random_rows(60, 10, seed=9), 10
    made = []
    original = peers.AlternatingLeastSquares

    def remember(**settings: object) -> object:
        made.append(original(**settings))
        return made[-1]

    monkeypatch.setattr(peers, "AlternatingLeastSquares", remember)
    fitted = peers.als(
        peers.interaction_matrix(histories(rows, items), items=items),
        factors=4, regularization=0.5, alpha=7.0, iterations=5, seed=1,
    )  # fmt: skip
    vectors = made[0].item_factors.astype(np.float64)
    stranger = [1, 4, 8]
    confidence = np.ones(items)
    confidence[stranger] = 7.0
    gram = vectors.T @ (confidence[:, None] * vectors) + 0.5 * np.eye(4)
    user = np.linalg.solve(gram, 7.0 * vectors[stranger].sum(0))
    found = fitted(batch([stranger], items))[0].numpy()
    np.testing.assert_allclose(found, vectors @ user, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["als", "bpr"])
def test_the_same_seed_gives_the_same_scores(name: str) -> None:
    rows = random_rows(40, 12, seed=10)
    matrix = peers.interaction_matrix(histories(rows, 12), items=12)
    first, second = (FITS[name](matrix)(batch(rows, 12)) for _ in range(2))
    assert torch.equal(first, second)
