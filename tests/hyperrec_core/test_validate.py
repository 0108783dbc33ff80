import numpy as np
import pytest
import torch

from hyperrec_core import validate
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.models import PointsConfig, build
from hyperrec_core.validate import Validation
from tests.hyperrec_core.test_fit import ITEMS, chains


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("most", "negatives"), [(700, 20), (10_000, 20), (10_000, ITEMS)])
def test_it_ranks_as_evaluate_does(monkeypatch, most, negatives, broken, gpu):
    """On the same labels and candidates, fewer than asked for where few items are unseen."""
    monkeypatch.setattr(validate, "_LABELS_AT_ONCE", 512)
    if gpu:
        monkeypatch.setattr(validate, "_by_kernel", validate._by_tensors)
    data = chains(900, 5, last=True)
    config = PointsConfig(dimensions=4, initial_width=1.0)
    model = build(config, counts=torch.ones(ITEMS), users=1, seed=1, device=torch.device("cpu"))
    if broken:  # all items level, one not a number
        model.state()["target"][:] = model.state()["target"][0].clone()
        model.state()["target"][7] = torch.nan
    validation = Validation(data, items=ITEMS, lags=3, most=most, negatives=negatives, seed=3)
    assert len(validation) == min(most, 900)
    hr, ndcg = validation.judge(model)
    labels = np.arange(900)
    if most < 900:
        labels = np.sort(np.random.default_rng(3).choice(900, most, replace=False))
    ranks = evaluate(
        model_scorer(model),
        data,
        items=ITEMS,
        lags=3,
        negatives=negatives,
        seed=3,
        examples=labels,
    )
    # One rounding of a sum of products may order two nearly equal scores otherwise.
    assert hr == pytest.approx(ranks.hr_at_10, abs=3 / 900)
    assert ndcg == pytest.approx(ranks.ndcg_at_10, abs=3 / 900)
