"""MF-BPR: matrix factorisation by Bayesian personalised ranking (Rendle et al. 2009, UAI).

-ln sigma(<i, j> - <i, k>) + lambda (|i|^2 + |j|^2 + |k|^2) / 2 of each triple, by stochastic
gradient descent, from normal numbers of deviation 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.kernels.triples import Triples, factors
from hyperrec_core.models import ranges
from hyperrec_core.models.triplets import TripletsConfig
from hyperrec_core.scores import ScoreName
from hyperrec_core.spaces import Geometry, space_of

_DEVIATION = 0.1


@dataclass(frozen=True, kw_only=True)
class MFBPRConfig(TripletsConfig):
    """Settings of MF-BPR; see the module, and `TripletsConfig` for those of its users.

    Attributes:
        regularisation: lambda.
    """

    name: Literal["mf-bpr"] = "mf-bpr"
    regularisation: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.not_below_zero(self, "regularisation")

    def metric(self) -> Factors:
        return Factors(self)


class Factors:
    """The `triplets.Metric` of MF-BPR."""

    geometry: ClassVar[Geometry] = "inner_product"
    score: ClassVar[ScoreName] = "inner_product"

    def __init__(self, config: MFBPRConfig) -> None:
        """The metric of a configuration."""
        self._regularisation = config.regularisation

    def initial(self, rows: int, dimensions: int, generator: torch.Generator) -> Tensor:
        return _DEVIATION * torch.randn(rows, dimensions, generator=generator)

    def loss(self, u: Tensor, j: Tensor, k: Tensor) -> Tensor:
        squares = sum(x.square().sum(-1) for x in (u, j, k))
        worse = (u * (k - j)).sum(-1)
        return torch.nn.functional.softplus(worse) + 0.5 * self._regularisation * squares

    def derive(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        triples: Triples,
        by_users: NDArray[np.float32],
        by_items: NDArray[np.float32],
    ) -> float:
        return factors(users, items, triples, np.float32(self._regularisation), by_users, by_items)

    def move(self, points: Tensor, gradient: Tensor, rate: float) -> Tensor:
        return points - rate * gradient

    def lift(self, points: Tensor) -> Tensor:
        return space_of(self.geometry).lift(points)

    def settings(self) -> dict[str, Any]:
        return {}
