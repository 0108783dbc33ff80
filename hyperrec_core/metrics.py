"""Ranking metrics of one label from its rank; means over labels are taken by whoever has them.

A list has one relevant item, its label, so hit rate and recall are one number: it is called HR
among sampled negatives and recall in the full ranking, as the literature does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (1, 5, 10, 20, 50)

_GAINS: dict[str, Callable[[NDArray[np.int32]], NDArray[np.float64]]] = {
    "hit": lambda ranks: np.ones(len(ranks)),
    # DCG with a gain of 1 (Järvelin & Kekäläinen 2002); the ideal list has DCG 1.
    "ndcg": lambda ranks: 1.0 / np.log2(1.0 + ranks),
    "mrr": lambda ranks: 1.0 / ranks,
}


@dataclass(frozen=True)
class Metric:
    """What a label is worth at a rank up to a cutoff, and 0 beyond it.

    Attributes:
        kind: `hit` 1, `ndcg` 1 / log2(1 + rank), `mrr` 1 / rank.
        cutoff: the last rank that counts.
        ranking: among the sampled negatives, or the full catalogue.
    """

    kind: Literal["hit", "ndcg", "mrr"]
    cutoff: int
    ranking: Literal["sampled", "full"]

    @property
    def name(self) -> str:
        """As in files: `hr_at_10`, `ndcg_at_10`, `recall_at_10_full`, ..."""
        if self.ranking == "full":
            return f"{'recall' if self.kind == 'hit' else self.kind}_at_{self.cutoff}_full"
        return f"{'hr' if self.kind == 'hit' else self.kind}_at_{self.cutoff}"

    @property
    def title(self) -> str:
        """As in tables: `HR@10`, `NDCG@10`, `Recall@10`, ..."""
        hit = "HR" if self.ranking == "sampled" else "Recall"
        return f"{hit if self.kind == 'hit' else self.kind.upper()}@{self.cutoff}"

    def gains(self, ranks: NDArray[np.int32]) -> NDArray[np.float64]:
        """The worth of labels at these ranks, from 1 for the best: [labels]."""
        return np.where(ranks <= self.cutoff, _GAINS[self.kind](ranks), 0.0)


METRICS = {
    metric.name: metric
    for ranking in ("sampled", "full")
    for kind in ("hit", "ndcg", "mrr")
    for cutoff in CUTOFFS
    for metric in [Metric(kind, cutoff, ranking)]
}
"""Every metric by its name."""

HEADLINES = ("hr_at_10", "ndcg_at_10", "recall_at_10_full", "ndcg_at_10_full")
"""Those that a model is told by, of `METRICS`."""
