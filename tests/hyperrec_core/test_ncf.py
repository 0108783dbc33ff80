"""NCF: against cornac's own network, and on data whose structure popularity does not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from cornac.models.ncf.backend_pt import NeuMF

from hyperrec_core.analysis import ncf
from hyperrec_core.analysis.datasets import Interactions, Split, leave_last_out
from hyperrec_core.analysis.ncf import NCF, NCFConfig
from hyperrec_core.evaluate import Scorer, evaluate, popularity_scorer
from hyperrec_core.ranks import Ranks

USERS, ITEMS, EVENTS = 80, 40, 9


@pytest.fixture(scope="module")
def split() -> Split:
    """Even users take even items, odd users odd ones."""
    generator = np.random.default_rng(5)
    taken = [2 * generator.permutation(ITEMS // 2)[:EVENTS] + user % 2 for user in range(USERS)]
    interactions = Interactions(
        name="two kinds",
        order="ordered",
        users=np.repeat(np.arange(USERS, dtype=np.int32), EVENTS),
        items=np.concatenate(taken).astype(np.int32),
        times=np.tile(np.arange(EVENTS), USERS),
        user_ids=pa.array([f"{user:03d}" for user in range(USERS)]),
        item_ids=pa.array([f"{item:03d}" for item in range(ITEMS)]),
        categories=None,
    )
    return leave_last_out(interactions, seed=1)


def fit(split: Split, seed: int, epochs: int = 8) -> tuple[NCF, dict[str, Any]]:
    config = NCFConfig(dimensions=8, learning_rate=0.02)
    return ncf.fit(split, config, epochs=epochs, batch_size=64, seed=seed)


def judge(scorer: Scorer, split: Split) -> Ranks:
    labels = split.test.aligned_to(split.train)
    return evaluate(scorer, labels, items=split.items, lags=1, negatives=20, seed=7)


def network(users: int, items: int) -> NeuMF:
    made = NeuMF(users, items, num_factors=2, layers=(16, 8, 4, 2))
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.5, generator=torch.Generator().manual_seed(3))
    return made


def test_it_finds_the_two_kinds_that_popularity_does_not(split: Split) -> None:
    model, _ = fit(split, seed=1)
    popular = judge(popularity_scorer(split.counts), split)
    assert judge(model.scores, split).ndcg_at_10 > popular.ndcg_at_10 + 0.1


def test_the_kept_epoch_is_the_one_that_evaluate_calls_best(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ncf, "_PATIENCE", 2)
    model, found = fit(split, seed=1, epochs=40)
    assert found["best_epoch"] < 38, "it should have stopped"
    ranks = evaluate(
        model.scores,
        split.validation.aligned_to(split.train),
        items=split.items,
        lags=1,
        negatives=100,
        seed=1,
    )
    assert ranks.ndcg_at_10 == pytest.approx(found["validation"], abs=1e-6)


def test_the_same_seed_gives_the_same_ranks_and_touches_no_other_generator(split: Split) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    first, second, other = (judge(fit(split, s, epochs=2)[0].scores, split) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])
    assert np.array_equal(first.full, second.full)
    assert not np.array_equal(first.full, other.full)


@pytest.mark.parametrize("at_once", [1, 15, ITEMS])
def test_scores_are_those_of_cornac_user_by_user(
    split: Split, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ncf, "_ITEMS_AT_ONCE", at_once)
    theirs = network(USERS, ITEMS)
    batch = split.test.aligned_to(split.train).batch(np.array([5, 0, 41]), lags=1)
    scores = NCF(theirs).scores(batch)
    assert scores.shape == (3, ITEMS)
    everything = torch.arange(ITEMS)
    torch.testing.assert_close(NCF(theirs).logits(batch.users, everything.expand(3, -1)), scores)
    for user, row in zip(batch.users, scores, strict=True):
        with torch.no_grad():
            wanted = theirs(user.expand(ITEMS), everything)
        torch.testing.assert_close(torch.sigmoid(row), wanted)


def test_a_user_without_a_row_has_scores_like_any_other(split: Split) -> None:
    batch = split.test.aligned_to(split.train).batch(np.array([5, 0, 41]), lags=1)
    users = batch.users.clone()
    users[1] = -1
    model = NCF(network(USERS, ITEMS))
    scores, known = model.scores(replace(batch, users=users)), model.scores(batch)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores[[0, 2]], known[[0, 2]])
    assert not torch.equal(scores[1], known[1])


def test_negatives_are_drawn_uniformly_from_what_a_user_has_not_taken() -> None:
    users, items = np.array([0, 0, 1, 2, 2]), np.array([0, 3, 2, 1, 3])
    ones = np.ones(5, np.float32)
    train = ncf._Train(3, 4, {}, {}, (users, items, ones), seed=1)
    batches = [b for _ in range(300) for b in train.uir_iter(2, True, True, num_zeros=4)]
    counts = np.zeros((2, 3, 4))
    for whose, what, taken in batches:
        np.add.at(counts, (taken.astype(int), whose, what), 1)
    assert (counts[1][users, items] == 300).all()
    assert counts[1].sum() == 1500
    assert (counts[0][users, items] == 0).all()
    for user, free in ((0, [1, 2]), (1, [0, 1, 3]), (2, [0, 2])):
        expected = 1200 * (users == user).sum() / len(free)
        np.testing.assert_allclose(counts[0][user, free], expected, rtol=0.1)
