"""The cells of `hyperml`: one setting of a model on one set each.

A cell is fitted on train, its epoch chosen by validation, and judged on test among 100 uniform
negatives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from hyperrec_core.analysis import ncf
from hyperrec_core.analysis.datasets import SPLIT_SEED, Split, random_split_of, split_of
from hyperrec_core.analysis.kept import Record
from hyperrec_core.analysis.ncf import NCF, NCFConfig
from hyperrec_core.analysis.provenance import key_of, stamp
from hyperrec_core.evaluate import evaluate, model_scorer
from hyperrec_core.fit import TrainConfig, TrainingError, fit
from hyperrec_core.geometry import lorentz
from hyperrec_core.models import Model, ModelConfig
from hyperrec_core.models.cml import CMLConfig
from hyperrec_core.models.hyperml import HyperMLConfig
from hyperrec_core.models.mf_bpr import MFBPRConfig

_VERSION = 2  # of the protocol and of code that changes results
SEED, _CANDIDATES_SEED = 1, 7
_NEGATIVES = 100
_BATCH = 512
EXAMPLES, EPOCHS = 12_000_000, 40  # of a cell: as many epochs as these allow, no more than those
QUICK_EPOCHS = 4

_HYPERML = HyperMLConfig(
    users="table", negatives_per_label=4, margin=0.5, distortion=0.0, learning_rate=0.05
)
_CML = CMLConfig(users="table", negatives_per_label=4, margin=0.5, learning_rate=0.05)
_BPR = MFBPRConfig(users="table", regularisation=0.05, learning_rate=0.4)
_NCF = NCFConfig()


Distance = TypeVar("Distance", HyperMLConfig, CMLConfig)


def _regularised(config: Distance) -> tuple[Distance, ...]:
    """Not in the papers; with steps long enough to leave the origin all the same."""
    return tuple(replace(config, learning_rate=0.2, regularisation=weight) for weight in (0.5, 0.2))


Config = ModelConfig | NCFConfig

GRIDS: Mapping[str, tuple[Config, ...]] = {
    "HyperML": (
        _HYPERML,
        replace(_HYPERML, margin=2.0),
        replace(_HYPERML, margin=0.2),
        replace(_HYPERML, distortion=0.1),
    ),
    "HyperML, regularised": _regularised(_HYPERML),
    "CML": (_CML, replace(_CML, learning_rate=0.02), replace(_CML, margin=0.2)),
    "CML, regularised": _regularised(_CML),
    "MF-BPR": (
        _BPR,
        replace(_BPR, regularisation=0.02),
        replace(_BPR, regularisation=0.02, learning_rate=0.1),
    ),
    "NCF": (_NCF, replace(_NCF, dimensions=64)),
    "HyperTS": (replace(_HYPERML, tangent=True), replace(_HYPERML, tangent=True, margin=2.0)),
}
"""What is tried of each model, first the setting that a quick run keeps to."""


@dataclass(frozen=True)
class Cell:
    """One setting of a model on one set."""

    dataset: str
    config: Config
    quick: bool
    held_out: Literal["last", "random"] = "last"

    @property
    def key(self) -> str:
        """Changes with all that decides the result."""
        effort = QUICK_EPOCHS if self.quick else [EXAMPLES, EPOCHS]
        seeds = [SEED, SPLIT_SEED, _CANDIDATES_SEED]
        decides = [_VERSION, self.dataset, asdict(self.config), effort, _BATCH, seeds, _NEGATIVES]
        return key_of([*decides, *["random"] * (self.held_out == "random")], 16)


def compute(cell: Cell, data: Path) -> Record:
    """Fit and judge one cell."""
    split = (split_of if cell.held_out == "last" else random_split_of)(cell.dataset, data)
    started = time.monotonic()
    record: Record = {
        "key": cell.key,
        "dataset": cell.dataset,
        "held_out": cell.held_out,
        "settings": asdict(cell.config),
        **stamp(),
    }
    try:
        model, epochs = fit_cell(cell, split)
    except TrainingError as error:
        return record | {"problem": str(error)}
    seconds = time.monotonic() - started
    ranks = evaluate(
        model.scores if isinstance(model, NCF) else model_scorer(model),
        split.test.aligned_to(split.train),
        items=split.items,
        lags=model.lags,
        negatives=_NEGATIVES,
        seed=_CANDIDATES_SEED,
    )
    return record | {
        **epochs,
        "seconds": seconds,
        "hr_at_10": ranks.hr_at_10,
        "ndcg_at_10": ranks.ndcg_at_10,
        **_radii(model, split),
    }


def fit_cell(cell: Cell, split: Split) -> tuple[Model | NCF, Record]:
    """A cell's model as after its best epoch, and which that was."""
    positions = len(split.train.items)
    epochs = QUICK_EPOCHS if cell.quick else min(EPOCHS, max(1, EXAMPLES // positions))
    if isinstance(cell.config, NCFConfig):
        network, chosen = ncf.fit(split, cell.config, epochs=epochs, batch_size=_BATCH, seed=SEED)
        return network, {"epochs": epochs, **chosen}
    config = TrainConfig(
        model=cell.config,
        epochs=epochs,
        batch_size=_BATCH,
        negatives=_BATCH,
    )
    model, progress = fit(
        split.train, split.validation, config, items=split.items, seed=SEED,
        device=torch.device("cpu"),
    )  # fmt: skip
    best = progress.epochs[progress.best_epoch - 1]
    found = {"epochs": epochs, "best_epoch": best.number, "validation": best.ndcg_at_10}
    return model, found


def _radii(model: Model | NCF, split: Split) -> Record:
    """Mean distances on the hyperboloid: of items and users to the origin, of each to its own."""
    if isinstance(model, NCF) or model.description()["geometry"] != "hyperboloid":
        return {}
    train = split.train
    batch = train.whole_rows().batch(np.arange(len(train.user_ids)), lags=1)
    users = model.user_vectors(batch)
    items = lorentz.flip_time(model.item_vectors())
    own = torch.from_numpy(np.repeat(np.arange(len(users)), np.diff(train.offsets)))
    apart = lorentz.distance(users[own], items[torch.from_numpy(train.items).long()])
    return {
        "items_radius": float(lorentz.radius(items).mean()),
        "users_radius": float(lorentz.radius(users).mean()),
        "own_items_distance": float(apart.mean()),
    }


def best_of(cells: Sequence[Cell], records: Mapping[str, Record]) -> tuple[Cell, Record]:
    """The cell that ranks validation best; one that could not be fitted is last."""
    found = [(cell, records[cell.key]) for cell in cells]
    return max(found, key=lambda one: one[1].get("validation") or 0.0)
