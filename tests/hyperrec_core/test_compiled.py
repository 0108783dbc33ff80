"""Kernels that a process has just compiled, and the same ones found on disk, give equal bits."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperrec_core.fit import TrainConfig, fit
from hyperrec_core.histories import Histories
from tests.hyperrec_core.test_histories import table

ITEMS = 132_399


def digest() -> str:
    """Of what a training ends with that is long enough to meet what is rare."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{n}", rng.integers(0, ITEMS, 60).tolist(), list(range(60)), [False] + [True] * 59)
        for n in range(3000)
    ]
    data = Histories.from_tables([table(rows)], items=ITEMS)
    config = TrainConfig(epochs=2)
    model, _ = fit(data, data, config, items=ITEMS, seed=3, device=torch.device("cpu"))
    return hashlib.sha256(b"".join(x.numpy().tobytes() for x in model.state().values())).hexdigest()


@pytest.mark.heavy  # a minute of the compiler's
@pytest.mark.slow
def test_the_first_process_and_the_second(tmp_path: Path) -> None:
    # A kernel that merely calls another takes whichever copy of it was there first.
    command = [sys.executable, "-c", f"import {__name__} as this; print(this.digest())"]
    environ = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    said = [
        subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert list(tmp_path.rglob("*.nbc"))
