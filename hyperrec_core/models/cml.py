"""CML, collaborative metric learning (Hsieh et al. 2017, "Collaborative Metric Learning", WWW).

HyperML's pull and push in flat space: [m + |i - j|^2 - |i - k|^2]_+ (Tran et al. 2020 compare with
it in this form, without CML's weights by rank and its covariance term), stochastic gradient
descent, and every point drawn back into the unit ball. It is what HyperML becomes as c falls to 0,
but for distances half as long and the ball's bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.kernels.triples import Triples, unit_ball
from hyperrec_core.models import ranges
from hyperrec_core.models.triplets import TripletsConfig
from hyperrec_core.scores import ScoreName
from hyperrec_core.spaces import Geometry, space_of

# Half width of the cube in which points start, |x| being at most 1: that of HyperML's for d = 64.
_INITIAL = 0.0133


@dataclass(frozen=True, kw_only=True)
class CMLConfig(TripletsConfig):
    """Settings of CML; see the module, and `TripletsConfig` for those of its users.

    Attributes:
        margin: m; a squared distance is at most 4.
        regularisation: lambda, of lambda |x|^2 / 2 for each point that a step touches; as HyperML's
            here, and not in the paper.
    """

    name: Literal["cml"] = "cml"
    margin: float = 0.5
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.above_zero(self, "margin")
        ranges.not_below_zero(self, "regularisation")

    def metric(self) -> UnitBall:
        return UnitBall(self)


class UnitBall:
    """The `triplets.Metric` of CML."""

    geometry: ClassVar[Geometry] = "euclidean"
    score: ClassVar[ScoreName] = "distance"

    def __init__(self, config: CMLConfig) -> None:
        """The metric of a configuration."""
        self._margin, self._regularisation = config.margin, config.regularisation

    def initial(self, rows: int, dimensions: int, generator: torch.Generator) -> Tensor:
        return _INITIAL * (2.0 * torch.rand(rows, dimensions, generator=generator) - 1.0)

    def loss(self, u: Tensor, j: Tensor, k: Tensor) -> Tensor:
        near, far = (u - j).square().sum(-1), (u - k).square().sum(-1)
        loss: Tensor = self._margin + near - far
        return loss.clamp_min(0.0)

    def derive(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        triples: Triples,
        by_users: NDArray[np.float32],
        by_items: NDArray[np.float32],
    ) -> float:
        return unit_ball(users, items, triples, np.float32(self._margin), by_users, by_items)

    def move(self, points: Tensor, gradient: Tensor, rate: float) -> Tensor:
        moved = max(1.0 - rate * self._regularisation, 0.0) * (points - rate * gradient)
        length: Tensor = moved.norm(dim=-1, keepdim=True)
        return moved / length.clamp_min(1.0)

    def lift(self, points: Tensor) -> Tensor:
        return space_of(self.geometry).lift(points)

    def settings(self) -> dict[str, Any]:
        return {}
