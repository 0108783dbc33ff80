import numpy as np
import pytest
import torch

from hyperrec_core.evaluate import evaluate, popularity_scorer
from hyperrec_core.histories import Histories
from tests.hyperrec_core.test_histories import table

ITEMS = 300


def one_label_each(users: int) -> Histories:
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        items = rng.choice(ITEMS, 5, replace=False).tolist()
        rows.append((f"u{user:05d}", items, [1, 2, 3, 4, 5], [False] * 4 + [True]))
    return Histories.from_tables([table(rows)], items=ITEMS)


def judge(scorer, histories, negatives=100):
    return evaluate(scorer, histories, items=ITEMS, lags=5, negatives=negatives, seed=3)


def test_a_scorer_that_knows_the_label_is_perfect_and_its_opposite_is_nothing():
    histories = one_label_each(50)
    right = judge(lambda b: torch.nn.functional.one_hot(b.labels, ITEMS).float(), histories)
    wrong = judge(lambda b: -torch.nn.functional.one_hot(b.labels, ITEMS).float(), histories)
    assert (right.hr_at_10, right.ndcg_at_10, right.ndcg_at_10_full) == (1.0, 1.0, 1.0)
    assert (wrong.hr_at_10, wrong.ndcg_at_10, wrong.recall_at_10_full) == (0.0, 0.0, 0.0)


def test_ties_are_broken_as_chance_would():
    found = judge(lambda b: torch.zeros(len(b.labels), ITEMS), one_label_each(3000))
    assert found.hr_at_10 == pytest.approx(10 / 101, abs=0.02)
    assert found.recall_at_10_full == pytest.approx(10 / ITEMS, abs=0.012)


def test_not_a_number_ranks_last():
    found = judge(lambda b: torch.full((len(b.labels), ITEMS), torch.nan), one_label_each(40))
    assert found.hr_at_10 == 0
    assert found.recall_at_10_full == 0


def test_negatives_are_unseen_and_a_row_that_saw_nearly_all_has_few():
    items = list(range(ITEMS - 3))
    rows = [("u", items, list(range(len(items))), [False] * (len(items) - 1) + [True])]
    histories = Histories.from_tables([table(rows)], items=ITEMS)
    # Three unseen candidates can push the label to fourth place at most.
    found = judge(lambda b: -torch.nn.functional.one_hot(b.labels, ITEMS).float(), histories)
    assert found.ndcg_at_10 == pytest.approx(1 / np.log2(5))


def test_rank_metrics_equal_a_plain_computation_over_the_whole_catalogue():
    histories = one_label_each(64)
    scores = torch.from_numpy(np.random.default_rng(1).normal(size=(64, ITEMS)))
    found = judge(lambda b: scores, histories)
    ranks = [
        1 + sum(row > row[label])
        for row, label in zip(scores.numpy(), histories.labels, strict=True)
    ]
    assert found.recall_at_10_full == pytest.approx(np.mean([r <= 10 for r in ranks]))
    gains = [1 / np.log2(r + 1) if r <= 10 else 0 for r in ranks]
    assert found.ndcg_at_10_full == pytest.approx(np.mean(gains))


def test_popularity_ranks_by_count_and_an_empty_split_is_refused():
    histories = one_label_each(20)
    counts = np.zeros(ITEMS, np.int64)
    counts[histories.labels] = 5
    assert judge(popularity_scorer(counts), histories).recall_at_10_full > 0.2
    with pytest.raises(ValueError, match="no label"):
        judge(popularity_scorer(counts), Histories.from_tables([table([])], items=ITEMS))
