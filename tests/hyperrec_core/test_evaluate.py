import numpy as np
import pytest
import torch

from hyperrec_core import evaluate as module
from hyperrec_core.evaluate import evaluate, model_scorer, popularity_scorer, recent_counts
from hyperrec_core.histories import Histories
from hyperrec_core.models import PointsConfig, build
from tests.hyperrec_core import plain_draws
from tests.hyperrec_core.test_histories import table

ITEMS = 300


def one_label_each(users: int) -> Histories:
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        items = rng.choice(ITEMS, 5, replace=False).tolist()
        rows.append((f"u{user:05d}", items, [1, 2, 3, 4, 5], [False] * 4 + [True]))
    return Histories.from_tables([table(rows)], items=ITEMS)


def judge(scorer, histories, negatives=100, items=ITEMS, **options):
    return evaluate(scorer, histories, items=items, lags=5, negatives=negatives, seed=3, **options)


def knows_the_label(batch):
    return torch.nn.functional.one_hot(batch.labels, ITEMS).float()


def of_history(batch):
    """Scores without ties that depend on the newest item of the history."""
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(ITEMS, ITEMS)))
    return noise[batch.index[batch.offsets]][batch.context]


def baskets(users: int) -> Histories:
    """The last week of users who bought now and then, several things at a time, some of them again.

    Times run from 0 to 7; what was bought from 5 on is a label where something was bought before.
    """
    rng = np.random.default_rng(5)
    rows = []
    for user in range(users):
        length = int(rng.integers(3, 15))
        times = np.sort(rng.integers(0, 8, length))
        items = rng.integers(0, 40, length).tolist()
        labels = (times >= 5) & (times > times[0])
        rows.append((f"u{user:05d}", items, times.tolist(), labels.tolist()))
    return Histories.from_tables([table(rows)], items=ITEMS)


def test_a_scorer_that_knows_the_label_is_perfect_and_its_opposite_is_nothing():
    histories = one_label_each(50)
    right = judge(knows_the_label, histories)
    wrong = judge(lambda b: -knows_the_label(b), histories)
    assert (right.hr_at_10, right.ndcg_at_10, right.ndcg_at_10_full) == (1.0, 1.0, 1.0)
    assert (wrong.hr_at_10, wrong.ndcg_at_10, wrong.recall_at_10_full) == (0.0, 0.0, 0.0)
    assert set(wrong.sampled) == {101}
    assert set(wrong.full) == {ITEMS}


def test_ties_are_broken_as_chance_would():
    found = judge(lambda b: torch.zeros(len(b.labels), ITEMS), one_label_each(3000))
    assert found.hr_at_10 == pytest.approx(10 / 101, abs=0.02)
    assert found.recall_at_10_full == pytest.approx(10 / ITEMS, abs=0.012)
    assert found.sampled.mean() == pytest.approx(51, abs=2.5)
    assert found.full.mean() == pytest.approx((ITEMS + 1) / 2, abs=7)
    assert np.corrcoef(found.sampled, found.full)[0, 1] == pytest.approx(0, abs=0.08)


def test_not_a_number_ranks_last():
    found = judge(lambda b: torch.full((len(b.labels), ITEMS), torch.nan), one_label_each(40))
    assert set(found.sampled) == {101}
    assert set(found.full) == {ITEMS}
    assert found.coverage_at_10 == 0
    # Everything but the label is no number, and the label has the lowest number there is.
    nothing_else = lambda b: torch.where(knows_the_label(b) > 0, -torch.inf, torch.nan)  # noqa: E731
    found = judge(nothing_else, one_label_each(40))
    assert found.hr_at_10 == found.recall_at_10_full == 1


def test_negatives_are_unseen_and_a_row_that_saw_nearly_all_has_few():
    items = list(range(ITEMS - 3))
    rows = [("u", items, list(range(len(items))), [False] * (len(items) - 1) + [True])]
    histories = Histories.from_tables([table(rows)], items=ITEMS)
    # Three unseen candidates can push the label to fourth place at most.
    found = judge(lambda b: -knows_the_label(b), histories)
    assert found.sampled.tolist() == [4]
    assert found.full.tolist() == [ITEMS]


def seen_by_position(histories: Histories, example: int, *, whole_row: bool) -> set[int]:
    start = histories.offsets[histories.rows[example]]
    end = histories.offsets[histories.rows[example] + 1] if whole_row else histories.ends[example]
    return set(histories.items[start:end].tolist())


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_every_label_of_a_last_week_is_ranked_as_a_plain_computation_does(exclude_seen):
    histories = baskets(60)
    assert np.bincount(histories.rows).max() > 4
    assert len(np.unique(histories.ends)) < len(histories)
    found = judge(of_history, histories, exclude_seen=exclude_seen)
    covered = set()
    for example, label in enumerate(histories.labels.tolist()):
        batch = histories.batch(np.array([example]), lags=5)
        scores = of_history(batch)[0].numpy()
        history = seen_by_position(histories, example, whole_row=False)
        row = seen_by_position(histories, example, whole_row=True)
        seen = np.isin(np.arange(ITEMS), list(row))[None]
        drawn = plain_draws.unseen_items(seen, np.array([example]), size=100, seed=3)[0]
        assert not row & set(drawn.tolist())
        assert found.sampled[example] == 1 + (scores[drawn] > scores[label]).sum()
        allowed = [i for i in range(ITEMS) if not (exclude_seen and i in history)]
        best = sorted(allowed, key=lambda i: -scores[i])
        assert found.full[example] == (best.index(label) + 1 if label in best else ITEMS)
        assert found.repeat[example] == (label in history)
        assert (
            found.history[example]
            == histories.ends[example] - histories.offsets[histories.rows[example]]
        )
        covered |= set(best[:10])
    assert found.repeat.any()
    assert found.coverage_at_10 == pytest.approx(len(covered) / ITEMS)
    assert found.item.tolist() == histories.labels.tolist()
    assert found.user.tolist() == histories.rows.tolist()


def test_a_rank_depends_neither_on_the_batch_nor_on_what_else_is_ranked(monkeypatch):
    histories = baskets(80)
    levels = lambda b: of_history(b).round()  # noqa: E731  many ties
    whole = judge(levels, histories)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 7 * ITEMS)
    by_sevens = judge(levels, histories)
    some = np.array([30, 3, 31, 99])
    few = judge(levels, histories, examples=some)
    assert by_sevens.coverage_at_10 == whole.coverage_at_10
    for name in ("sampled", "full", "repeat", "history", "item", "user"):
        assert np.array_equal(getattr(by_sevens, name), getattr(whole, name)), name
        assert np.array_equal(getattr(few, name), getattr(whole, name)[some]), name


def test_scores_may_come_by_history_or_by_label_and_from_any_number_of_threads():
    histories = baskets(60)
    config = PointsConfig(dimensions=4, initial_width=1.0)
    model = build(config, counts=torch.ones(ITEMS), users=1, seed=1, device=torch.device("cpu"))
    by_history = model_scorer(model)
    batch = histories.batch(np.arange(len(histories)), lags=5)
    scores = by_history(batch)
    assert scores.shape == (len(batch.offsets), ITEMS)
    assert len(scores) < len(histories)
    torch.testing.assert_close(scores, model.user_vectors(batch) @ model.item_vectors().T)
    found = judge(by_history, histories)
    assert found.coverage_at_10 > 0.1
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        others = [
            judge(by_history, histories),
            judge(lambda b: by_history(b)[b.context], histories),
            judge(lambda b: by_history(b).double(), histories),
        ]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for other in others:
        assert other.coverage_at_10 == found.coverage_at_10
        assert np.array_equal(other.sampled, found.sampled)
        assert np.array_equal(other.full, found.full)


@pytest.mark.parametrize("items", [11, 300, 2048, 2056, 4101])
def test_equal_items_have_equal_scores_wherever_they_stand(items):
    config = PointsConfig(dimensions=50, initial_width=1.0)
    model = build(config, counts=torch.ones(items), users=1, seed=1, device=torch.device("cpu"))
    model.state()["target"][:] = model.state()["target"][0].clone()
    rows = [("u", [1, 2, 3], [1, 2, 3], [False, False, True])]
    histories = Histories.from_tables([table(rows)], items=items)
    scores = model_scorer(model)(histories.batch(np.arange(1), lags=5))
    assert torch.equal(scores, scores[:, :1].expand(1, items))


def test_another_seed_draws_other_negatives_and_the_full_ranks_stay():
    histories = one_label_each(200)
    one, two = (
        evaluate(of_history, histories, items=ITEMS, lags=5, negatives=20, seed=seed)
        for seed in (1, 2)
    )
    assert not np.array_equal(one.sampled, two.sampled)
    assert np.array_equal(one.full, two.full)


def test_popularity_ranks_by_count_and_an_empty_split_is_refused():
    histories = one_label_each(20)
    counts = np.zeros(ITEMS, np.int64)
    counts[histories.labels] = 5
    found = judge(popularity_scorer(counts), histories)
    assert found.recall_at_10_full > 0.2
    assert found.full.max() <= 20
    assert found.coverage_at_10 == 10 / ITEMS
    with pytest.raises(ValueError, match="no label"):
        judge(popularity_scorer(counts), Histories.from_tables([table([])], items=ITEMS))


def test_recent_popularity_counts_the_newest_share_and_what_ties_with_it():
    items = np.array([0, 0, 0, 1, 2, 1], np.int32)
    times = np.array([1, 2, 3, 9, 8, 8])
    counts = lambda share: recent_counts(items, times, catalogue=4, share=share).tolist()  # noqa: E731
    assert counts(1) == [3, 2, 1, 0]
    assert counts(0.5) == [0, 2, 1, 0]
    assert counts(0.34) == [0, 2, 1, 0]
    assert counts(0.01) == [0, 1, 0, 0]
    assert recent_counts(items[:0], times[:0], catalogue=2, share=0.5).tolist() == [0, 0]
