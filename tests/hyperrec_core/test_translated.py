"""An earlier model judges this run's labels as it would have answered as a service."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperrec_core import models
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.histories import Batch, Histories
from hyperrec_core.models import Model, PointsConfig
from hyperrec_core.models.autoencoder import AutoencoderConfig
from hyperrec_core.translated import rows_of, translated_scorer
from tests.hyperrec_core.test_histories import table

ITEMS, LAGS = 12, 3
IDS = [f"i{item}" for item in range(ITEMS)]


@pytest.fixture
def model() -> Model:
    config = PointsConfig(
        dimensions=3,
        lags=LAGS,
        aggregator="exponential",
        recency=0.5,
        tables=1,
        initial_width=1.0,
    )
    counts = torch.arange(ITEMS, 0, -1)
    return models.build(config, counts=counts, users=0, seed=3, device=torch.device("cpu"))


def histories(rows: list[list[int]]) -> Histories:
    """The last item of each row is its label."""
    return Histories.from_tables(
        [
            table(
                [
                    (f"u{n}", items, [*range(len(items))], [False] * (len(items) - 1) + [True])
                    for n, items in enumerate(rows)
                ]
            )
        ],
        items=ITEMS,
    )


def batch(*rows: list[int]) -> Batch:
    found = histories([[*row, 0] for row in rows])
    return found.batch(np.arange(len(rows)), lags=1 << 30)


def test_places_of_ids() -> None:
    assert rows_of(["b", "x", "a"], ["a", "b"]).tolist() == [1, -1, 0]


def test_the_same_items_in_another_order_rank_the_same(model: Model) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, ITEMS, 6).tolist() for _ in range(40)]
    order = rng.permutation(ITEMS)  # order[new] is the old number
    scorer, lags = translated_scorer(model, order)
    assert lags == LAGS
    new = np.argsort(order)
    own = model_scorer(model)(histories(rows).batch(np.arange(40), lags=LAGS))
    renamed = histories([new[row].tolist() for row in rows])
    other = scorer(renamed.batch(np.arange(40), lags=lags))
    assert torch.equal(other, own[:, torch.from_numpy(order)])


def test_unknown_items_are_passed_over_and_never_recommended(model: Model) -> None:
    rows = np.arange(ITEMS)
    rows[[4, 7]] = -1
    scorer, lags = translated_scorer(model, rows)
    assert lags > ITEMS
    # Oldest first: of the newest known ones, as many count as the model looks at.
    found = scorer(batch([1, 2, 3, 4, 7, 5, 7], [7, 6], [9]))
    wanted = model_scorer(model)(batch([2, 3, 5], [6], [9]))
    known = torch.from_numpy(rows >= 0)
    torch.testing.assert_close(found[:, known], wanted[:, known])
    assert (found[:, ~known] == -torch.inf).all()


@pytest.mark.parametrize("encodes", [False, True])
def test_unknown_labels_and_unknown_histories_rank_last(model: Model, encodes: bool) -> None:
    if encodes:  # a user of nothing is a point, too
        config, counts = AutoencoderConfig(dimensions=3, lags=LAGS), torch.arange(ITEMS, 0, -1)
        model = models.build(config, counts=counts, users=0, seed=3, device=torch.device("cpu"))
    rows = np.arange(ITEMS)
    rows[[4, 7]] = -1
    scorer, lags = translated_scorer(model, rows)
    ranks = evaluate(
        scorer,
        histories([[1, 2, 4], [4, 7, 2], [1, 2, 3], [7, 4, 1], [4, 4, 3]]),
        items=ITEMS,
        lags=lags,
        negatives=5,
        seed=1,
    )
    assert ranks.full[0] > ITEMS - 2
    assert ranks.full[2] <= ITEMS - 2
    assert ranks.full[[1, 3, 4]].tolist() == [ITEMS] * 3
