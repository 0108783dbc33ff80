"""Two processes of a gloo group fit what one does."""

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from hyperrec_core import processes
from hyperrec_core.examples import Shuffled
from hyperrec_core.fit import TrainConfig, TrainingError, fit
from hyperrec_core.histories import Histories
from hyperrec_core.models import PointsConfig
from hyperrec_core.models.cml import CMLConfig
from tests.hyperrec_core.test_histories import table

ITEMS = 40
SMALL = {"dimensions": 6, "lags": 8, "scale": 30.0, "initial_width": 0.3}
CONFIGS = {
    "kernels, two tables": {"tables": 2, "learn_scale": True},
    "kernels, one table": {"tables": 1, "score": "distance", "scale": 10.0},
    "tensors, two tables": {"tables": 2, "loss": "softmax"},
    "tensors, one table": {"tables": 1, "loss": "bpr", "learn_scale": True},
    "tensors, users with points": {"tables": 1, "users": "table"},
}


def histories() -> Histories:
    rng = np.random.default_rng(5)
    rows = [
        (f"u{n:02d}", rng.integers(0, ITEMS, 14).tolist(), list(range(14)), [False] + [True] * 13)
        for n in range(30)
    ]
    return Histories.from_tables([table(rows)], items=ITEMS)


def fitted(settings):
    data = histories()
    # A batch is of one to four segments, so that a process may have nothing of its own to do.
    config = TrainConfig(
        model=PointsConfig(**(SMALL | settings)),
        epochs=1,
        batch_size=31,
        negatives=20,
    )
    model, progress = fit(data, data, config, items=ITEMS, seed=3, device=torch.device("cpu"))
    return model.state(), progress.epochs[-1].loss


def test_a_model_that_does_not_share_its_steps_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "place", lambda: (1, 2))
    config = TrainConfig(model=CMLConfig(dimensions=4), epochs=1)
    with pytest.raises(TrainingError, match="name cml is trained by one process and not by 2: sta"):
        fit(histories(), histories(), config, items=ITEMS, seed=3, device=torch.device("cpu"))


def work(rank, size, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    torch.save({name: fitted(settings) for name, settings in CONFIGS.items()}, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, args=(2, str(folder)), nprocs=2)
    return [torch.load(folder / str(rank), weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_fit_what_one_does(of_two, name):
    alone, loss = fitted(CONFIGS[name])
    (first, first_loss), (second, _) = (found[name] for found in of_two)
    assert first_loss == pytest.approx(loss, rel=1e-4)
    for key, tensor in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], tensor, rtol=5e-3, atol=5e-4)


def test_shares_are_the_whole_batch():
    data = histories()
    shuffled = Shuffled(
        data, seed=1, number=1, batch_size=90, lags=8, per_history=9, negatives=4, items=ITEMS
    )
    for batch in shuffled.batches():
        shares = [batch.share(rank, 3) for rank in range(3)]
        assert sum(weight for _, weight in shares) == pytest.approx(1.0)
        own = [share for share, weight in shares if weight]
        for field in ("items", "rows", "ends", "lengths", "labels", "seen"):
            together = np.concatenate([getattr(share, field) for share in own])
            np.testing.assert_array_equal(together, getattr(batch, field))
        for share, _ in shares:
            np.testing.assert_array_equal(share.negatives, batch.negatives)
            assert share.segments[-1] == len(share.items)
            assert share.heads[-1] == len(share.ends) == len(share.first_labels) - 1
            assert share.first_labels[-1] == len(share.labels)
