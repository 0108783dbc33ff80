"""Table 1 of Chamberlain et al. 2019: the data sets as networks of users and items.

An interaction is an edge, counted once however often a user took an item, so an item's degree is
the number of its users.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hyperrec_core.analysis import datasets, powerlaw_fit, report
from hyperrec_core.analysis.powerlaw_fit import Degrees

log = logging.getLogger(__name__)

# The standard error of a p-value is then at most 0.035; each set costs seconds.
_RESAMPLES = 200
_SEED = 1
# Clauset et al. 2009, section 4.2: below it a power law is ruled out.
_RULED_OUT_BELOW = 0.1


@dataclass(frozen=True)
class Network:
    """A bipartite network of users and items.

    Attributes:
        users: how many have an edge.
        edges: distinct pairs of a user and an item.
        degrees: users of each item, descending, int64 [items].
    """

    users: int
    edges: int
    degrees: Degrees

    @property
    def density(self) -> float:
        """Share of the possible edges that are there."""
        return self.edges / (self.users * len(self.degrees))


def network(interactions: datasets.Interactions) -> Network:
    """The network of a data set."""
    pairs = np.unique(np.stack((interactions.users, interactions.items)), axis=1)
    _, degrees = np.unique(pairs[1], return_counts=True)
    return Network(
        users=len(np.unique(pairs[0])),
        edges=pairs.shape[1],
        degrees=np.sort(degrees)[::-1].astype(np.int64),
    )


def present(data: Path) -> list[str]:
    """The known data sets that lie in a folder.

    Raises:
        DatasetError: there is none.
    """
    names = [name for name in datasets.NAMES if (data / name / "interactions.parquet").is_file()]
    if not names:
        raise datasets.DatasetError(
            f"{data} holds none of the data sets {', '.join(datasets.NAMES)}: give the folder that "
            "holds their folders with --data or HYPERREC_DATASETS."
        )
    return names


def reproduce(data: Path, to: Path) -> report.Report:
    """Write table 1 for every data set in the folder: `table1.md` and `table1.csv`.

    Args:
        data: folder of data sets.
        to: folder to write in.

    Raises:
        DatasetError: the folder holds no known data set.
    """
    rows: list[list[report.Cell]] = []
    for name in present(data):
        graph = network(datasets.load(name, data))
        law = powerlaw_fit.fit(graph.degrees)
        chance = powerlaw_fit.p_value(graph.degrees, resamples=_RESAMPLES, seed=_SEED)
        items = len(graph.degrees)
        size: list[report.Cell] = [graph.users, items, graph.edges, graph.density]
        tail: list[report.Cell] = [law.alpha, law.xmin, law.tail, law.distance, chance]
        rows.append([name, *size, graph.edges / items, *tail])
        log.info("%s: exponent %.3f from degree %d on, p %.2f", name, law.alpha, law.xmin, chance)
    return report.save(
        to / "table1",
        title="Data sets as networks, and the power law of their item degrees",
        columns=[
            *("data set", "users", "items", "interactions", "density", "degree"),
            *("alpha", "x_min", "tail", "KS", "p"),
        ],
        rows=rows,
        notes=[
            "Interactions are distinct pairs of a user and an item; density is their share of all "
            "pairs; an item's degree is the number of its users; degree is the mean. Sets named "
            "5core hold no item of degree below 5, which cuts off the head of the distribution.",
            "Exponent alpha, x_min and KS distance: discrete maximum likelihood, x_min chosen by "
            "least KS distance (Clauset, Shalizi & Newman 2009; package powerlaw, exponents up to "
            f"{powerlaw_fit.ALPHA_RANGE[1]:g} admitted); tail: how many items have degree x_min or "
            "more. p: semi-parametric bootstrap with the whole search repeated on each of "
            f"{_RESAMPLES} resamples (seed {_SEED}), standard error at most "
            f"{0.5 / _RESAMPLES**0.5:.3f}, 0 meaning none of them; below {_RULED_OUT_BELOW} a "
            "power law is ruled out. A large p on a short tail is weak evidence.",
            "The paper (Chamberlain et al. 2019, arXiv:1902.08648, table 1) has a row for "
            "MovieLens 100K, the set ml-100k here. Its figures could not be obtained when this "
            "table was written, so they do not stand beside ours.",
        ],
    )
