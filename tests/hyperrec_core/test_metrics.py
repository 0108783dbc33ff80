import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import RR, R, ScoredDoc, Success, nDCG

from hyperrec_core.evaluate import evaluate
from hyperrec_core.metrics import CUTOFFS, METRICS
from tests.hyperrec_core import plain_draws
from tests.hyperrec_core.test_evaluate import ITEMS, one_label_each

THEIRS = {"hr": (Success, R), "recall": (Success, R), "ndcg": (nDCG,), "mrr": (RR,)}


def test_every_metric_equals_an_independent_implementation_in_both_rankings():
    histories, negatives, seed = one_label_each(150), 80, 4
    rng = np.random.default_rng(2)
    scores = rng.permuted(np.tile(np.linspace(-1, 1, ITEMS), (len(histories), 1)), axis=1)
    # Better than chance, so that every cutoff has hits and misses; still without ties.
    scores[np.arange(len(histories)), histories.labels] += rng.random(len(histories)) + 1e-4
    ranks = evaluate(
        lambda _: torch.from_numpy(scores),
        histories,
        items=ITEMS,
        lags=5,
        negatives=negatives,
        seed=seed,
    )
    seen = np.zeros(scores.shape, bool)
    np.put_along_axis(seen, histories.items.reshape(len(histories), -1).astype(int), True, axis=1)
    drawn = plain_draws.unseen_items(seen, np.arange(len(histories)), size=negatives, seed=seed)
    labels = histories.labels.tolist()
    relevant = {str(q): {str(label): 1} for q, label in enumerate(labels)}

    def documents(candidates):
        return [
            ScoredDoc(str(q), str(item), float(scores[q, item]))
            for q, items in enumerate(candidates)
            for item in items
        ]

    lists = {
        "sampled": documents([[label, *row] for label, row in zip(labels, drawn, strict=True)]),
        "full": documents([range(ITEMS)] * len(labels)),
    }
    for ranking, run in lists.items():
        ours = {name: m for name, m in METRICS.items() if m.ranking == ranking}
        wanted = {
            name: [measure @ m.cutoff for measure in THEIRS[name.partition("_")[0]]]
            for name, m in ours.items()
        }
        every = {measure for measures in wanted.values() for measure in measures}
        theirs = ir_measures.calc_aggregate(every, relevant, run)
        for name, measures in wanted.items():
            for measure in measures:
                assert ranks.mean(name) == pytest.approx(theirs[measure], abs=1e-9), (name, measure)


def test_the_names_are_those_of_files_and_tables():
    assert len(METRICS) == 2 * 3 * len(CUTOFFS)
    names = ("hr_at_10", "ndcg_at_10", "mrr_at_50", "recall_at_10_full", "mrr_at_1_full")
    titles = ("HR@10", "NDCG@10", "MRR@50", "Recall@10", "MRR@1")
    assert tuple(METRICS[name].title for name in names) == titles
    assert all(METRICS[name].name == name for name in METRICS)


def test_gains_at_and_beyond_the_cutoff():
    ranks = np.array([1, 2, 10, 11], np.int32)
    assert METRICS["hr_at_10"].gains(ranks).tolist() == [1, 1, 1, 0]
    assert METRICS["mrr_at_10_full"].gains(ranks).tolist() == [1, 0.5, 0.1, 0]
    assert METRICS["ndcg_at_10"].gains(ranks) == pytest.approx(
        [1, 1 / np.log2(3), 0.28906, 0], abs=1e-5
    )
