"""Figure 7 of Chamberlain et al. 2019: Rent the Runway's items in two dimensions, and some users.

Scores and midpoints do not change under an isometry, so a fitted model says nothing of where the
origin is: it is where training happened to start. The picture is drawn after the isometry that
takes the items' midpoint, weighted by count, to the origin.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from hyperrec_core.analysis import datasets, report
from hyperrec_core.analysis.disc import poincare_disc
from hyperrec_core.fit import TrainConfig, fit
from hyperrec_core.geometry import lorentz
from hyperrec_core.histories import Histories
from hyperrec_core.midpoint import normalise
from hyperrec_core.models import PointsConfig

log = logging.getLogger(__name__)

_SET = "renttherunway"
_SEED = 1
_STARS = 60  # users drawn; more would hide the items
_LEAST_HISTORY = 4  # items of a user that is drawn
_NEIGHBOURS = 10
_LEAST_COUNT = 10  # of an item whose neighbours are judged: rarer ones have hardly moved


# A small factor on the score and a long first step let two dimensions use the whole disc.
_CONFIG = TrainConfig(
    model=PointsConfig(dimensions=2, tables=1, scale=4.0, learning_rate=1.0), epochs=20
)


def centring(points: Tensor, weights: Tensor) -> Tensor:
    """The isometry that takes a weighted midpoint to the origin, without turning.

    Args:
        points: float64 [n, D].
        weights: not negative, some positive, [n].

    Returns:
        A Lorentz transformation, float64 [D, D], for points as rows from the left: x @ it.
    """
    centre = normalise((weights.unsqueeze(1) * points).sum(0))
    origin = torch.zeros_like(centre)
    origin[0] = 1.0
    # Two reflections in points, -x - 2 <x, p> p: in the centre, which stays, and in the point
    # half-way to the origin, which then takes one to the other.
    reflections = []
    for p in (centre, normalise(centre + origin)):
        reflections.append(
            -torch.eye(len(p), dtype=p.dtype) - 2 * torch.outer(lorentz.flip_time(p), p)
        )
    return reflections[0] @ reflections[1]


def reproduce(data: Path, to: Path) -> report.Report:
    """Fit Rent the Runway in two dimensions and draw `figure7.png`.

    `figure7.md` and `.csv` hold what the picture shows as numbers, `figure7-items.csv` and
    `figure7-users.csv` the points.

    Args:
        data: folder of data sets.
        to: folder to write in.

    Raises:
        DatasetError: renttherunway is not in the folder.
    """
    split = datasets.leave_last_out(datasets.load(_SET, data), seed=_SEED)
    model, progress = fit(
        split.train, split.validation, _CONFIG,
        items=split.items, seed=_SEED, device=torch.device("cpu"),
    )  # fmt: skip
    fitted = lorentz.to_sheet(lorentz.flip_time(model.item_vectors()).double())
    chosen = _drawn_users(split.test, np.random.default_rng(_SEED))
    batch = split.test.batch(chosen, lags=model.lags)
    counts = torch.from_numpy(split.counts).double()
    isometry = centring(fitted, counts)
    items = fitted @ isometry
    users = lorentz.to_sheet(model.user_vectors(batch).double()) @ isometry
    categories = _first(split.categories)

    to.mkdir(parents=True, exist_ok=True)
    picture = to / "figure7.png"
    poincare_disc(
        items.numpy(), split.counts, categories, picture,
        title="Rent the Runway in two dimensions", users=users.numpy(),
    )  # fmt: skip
    report.write_csv(
        to / "figure7-items.csv",
        ["item_id", "category", "count", "x0", "x1", "x2"],
        zip(
            split.item_ids.to_pylist(), categories, split.counts.tolist(),
            *items.T.tolist(), strict=True,
        ),
    )  # fmt: skip
    report.write_csv(to / "figure7-users.csv", ["x0", "x1", "x2"], users.tolist())
    agree, chance = neighbour_agreement(items, split.counts, categories)
    best = progress.epochs[progress.best_epoch - 1]
    return report.save(
        to / "figure7",
        title="Rent the Runway in two dimensions",
        columns=["measure", "value"],
        rows=[
            ("items", split.items),
            ("rank correlation of count and radius, as fitted", _correlation(fitted, split.counts)),
            ("rank correlation of count and radius, centred", _correlation(items, split.counts)),
            (f"share of the {_NEIGHBOURS} nearest items of the same category", agree),
            ("the same for items drawn at random", chance),
            ("NDCG@10 in validation, 100 negatives", best.ndcg_at_10),
        ],
        notes=[
            "Scores and midpoints do not change under an isometry, so where the origin lies is "
            "accidental; the picture shows the points after the one that takes the items' "
            "midpoint, weighted by count, to the origin.",
            f"Nearest items: of those with a count of at least {_LEAST_COUNT}. Users are the "
            f"midpoints of {_STARS} test histories of at least {_LEAST_HISTORY} items, drawn at "
            f"random (seed {_SEED}). Fitted with `{_CONFIG}`.",
            "The points are in figure7-items.csv and figure7-users.csv.",
        ],
        pictures=[picture],
    )


def neighbour_agreement(
    points: Tensor, counts: NDArray[np.int64], categories: list[str | None]
) -> tuple[float, float]:
    """How often an item's nearest items share its category, and how often random ones would.

    Args:
        points: float64 [n, D].
        counts: how often each item occurs, [n].
        categories: of each item; those without one are left out.
    """
    names = np.array([name or "" for name in categories])
    judged = np.flatnonzero((names != "") & (counts >= _LEAST_COUNT))
    names = names[judged]
    distance = lorentz.pairwise_distance(points[judged], points[judged])
    distance.fill_diagonal_(torch.inf)
    nearest = distance.topk(_NEIGHBOURS, largest=False).indices.numpy()
    _, sizes = np.unique(names, return_counts=True)
    chance = float((sizes * (sizes - 1)).sum() / (len(names) * (len(names) - 1)))
    return float((names[nearest] == names[:, None]).mean()), chance


def _correlation(points: Tensor, counts: NDArray[np.int64]) -> float:
    return float(spearmanr(counts, lorentz.radius(points).numpy()).statistic)


def _drawn_users(test: Histories, generator: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of the labels whose histories are drawn."""
    long = np.flatnonzero(test.ends - test.offsets[test.rows] >= _LEAST_HISTORY)
    return np.sort(generator.choice(long, min(_STARS, len(long)), replace=False))


def _first(categories: pa.ListArray | None) -> list[str | None]:
    listed = [] if categories is None else categories.to_pylist()
    return [names[0] if names else None for names in listed]
