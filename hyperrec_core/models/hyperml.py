"""HyperML: metric learning of users and items on the Poincaré ball.

Tran et al. 2020, "HyperML: A Boosting Metric Learning Approach in Hyperbolic Space for Recommender
Systems", WSDM. With d the distance 2 / sqrt(c) artanh(sqrt(c) |(-u) + v|), + Möbius addition (eq.
9-10), a user i, an item j of theirs and another item k:

    pull and push   L_P = [m + d(i, j)^2 - d(i, k)^2]_+                                   (eq. 11)
    distortion      L_D = |d(i, j) - d_E(i, j)| / d_E(i, j), and the same of i and k      (eq. 12)
    together        L = L_P + gamma L_D                                                   (eq. 13)
    a step          x <- proj(x - rate (1 - c |x|^2)^2 / 4 grad L), Riemannian SGD        (eq. 14)

d_E is the Euclidean distance of the same two points in the tangent space at the origin, where
`exp_origin` brings them from. Lengths there are those of the ball's metric, 2 |v - w|, so that two
points near the origin have no distortion; by |v - w| itself all distances would be distorted by 1
or more, which is the same loss with twice the gamma, but for a constant.

Points start in a cube of half width alpha = (3 beta^2 / (2 d))^(1/3), beta = 0.01.

The paper has no `regularisation`; without it, users and items of a few interactions stay where
those have pushed them, and the paper's figures are not reached on sparse sets.

HyperTS, the paper's comparison (table 3), has its parameters in the tangent space: `tangent` keeps
v, with exp_origin(v) the point, and descends by v as in flat space. The loss is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core.geometry import poincare
from hyperrec_core.kernels import triples as kernels
from hyperrec_core.models import ranges
from hyperrec_core.models.triplets import TripletsConfig
from hyperrec_core.scores import ScoreName
from hyperrec_core.spaces import Geometry

_BETA = 0.01

# No step is longer, by the metric and in units of the radius of curvature, as Chamberlain et al.
# 2019 clip theirs: a row that many of a batch's triples share would be thrown to the boundary.
_LONGEST_STEP = 0.2

# Tangent vectors nearer than this are taken to be this far apart, where 0 would divide by 0: two
# points that coincide have no distortion.
_NEAREST = 1e-6


@dataclass(frozen=True, kw_only=True)
class HyperMLConfig(TripletsConfig):
    """Settings of HyperML; see the module, and `TripletsConfig` for those of its users.

    Attributes:
        margin: m; the paper tries 0.1, 0.2 and 0.5.
        distortion: gamma, what the distortion weighs; the paper tries 0 to 1.
        curvature: c, where the curvature is -c; the paper tries 0.5 to 8.
        tangent: HyperTS, with parameters in the tangent space at the origin.
        regularisation: lambda, of lambda r^2 / 2 for each point that a step touches, r being how
            far it is from the origin.
    """

    name: Literal["hyperml"] = "hyperml"
    margin: float = 0.5
    distortion: float = 0.1
    curvature: float = 1.0
    tangent: bool = False
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.above_zero(self, "margin", "curvature")
        ranges.not_below_zero(self, "distortion", "regularisation")

    def metric(self) -> Ball:
        return Ball(self)


class Ball:
    """The `triplets.Metric` of HyperML and of HyperTS."""

    geometry: ClassVar[Geometry] = "hyperboloid"
    score: ClassVar[ScoreName] = "distance"

    def __init__(self, config: HyperMLConfig) -> None:
        """The metric of a configuration."""
        self._config = config

    def initial(self, rows: int, dimensions: int, generator: torch.Generator) -> Tensor:
        alpha: float = (3.0 * _BETA**2 / (2.0 * dimensions)) ** (1.0 / 3.0)
        start = alpha * (2.0 * torch.rand(rows, dimensions, generator=generator) - 1.0)
        return start if self._config.tangent else poincare.project(start, self._config.curvature)

    def loss(self, u: Tensor, j: Tensor, k: Tensor) -> Tensor:
        config, c = self._config, self._config.curvature
        points = [self._ball(x) for x in (u, j, k)]
        near, far = (poincare.distance(points[0], x, c) for x in points[1:])
        loss: Tensor = (config.margin + near.square() - far.square()).clamp_min(0.0)
        if config.distortion:
            flat = [self._flat(x) for x in (u, j, k)]
            distorted = [
                _distortion(curved, flat[0], x)
                for curved, x in zip((near, far), flat[1:], strict=True)
            ]
            loss = loss + config.distortion * (distorted[0] + distorted[1])
        return loss

    def derive(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        triples: kernels.Triples,
        by_users: NDArray[np.float32],
        by_items: NDArray[np.float32],
    ) -> float:
        config, c = self._config, np.float32(self._config.curvature)
        flat = config.tangent or config.distortion > 0.0
        loss = kernels.BallLoss(
            np.float32(config.margin), c, np.float32(config.distortion), np.float32(_NEAREST), flat
        )
        if not flat:
            return kernels.ball(users, items, triples, loss, by_users, by_items)
        both_users, both_items = (
            np.empty((len(x), 2 * x.shape[1]), np.float32) for x in (users, items)
        )
        kernels.unfold(users, c, config.tangent, both_users)
        kernels.unfold(items, c, config.tangent, both_items)
        by_both_users, by_both_items = np.zeros_like(both_users), np.zeros_like(both_items)
        total = kernels.ball(both_users, both_items, triples, loss, by_both_users, by_both_items)
        kernels.fold(users, c, config.tangent, by_both_users, by_users)
        kernels.fold(items, c, config.tangent, by_both_items, by_items)
        return total

    def move(self, points: Tensor, gradient: Tensor, rate: float) -> Tensor:
        c = self._config.curvature
        # The regularisation's step goes straight to the origin, by this share of the way.
        stays = max(1.0 - rate * self._config.regularisation, 0.0)
        if points.device.type == "cpu" and points.dtype == torch.float32:
            moved = points.clone()
            kernels.descend(
                moved.numpy(), gradient.numpy(), np.float32(rate), np.float32(c),
                np.float32(_LONGEST_STEP), self._config.tangent, np.float32(stays),
            )  # fmt: skip
            return moved
        if self._config.tangent:
            # The tangent space has the metric of the ball at the origin.
            factor = torch.full_like(points[:, :1], 2.0)
            return stays * (points - _bounded(rate * gradient / 4.0, factor * c**0.5))
        factor = poincare.conformal_factor(points, c).unsqueeze(-1)
        step = rate * poincare.riemannian_gradient(points, gradient, c)
        moved = poincare.project(points - _bounded(step, factor * c**0.5), c)
        if stays == 1.0:
            return moved
        return poincare.exp_origin(stays * poincare.log_origin(moved, c), c)

    def lift(self, points: Tensor) -> Tensor:
        # The hyperboloid is the same space, and what a reader knows: distances are sqrt(c) times as
        # long there, which ranks the same.
        return poincare.to_lorentz(self._ball(points), self._config.curvature)

    def settings(self) -> dict[str, Any]:
        return {"curvature": self._config.curvature, "tangent": self._config.tangent}

    def _ball(self, points: Tensor) -> Tensor:
        c = self._config.curvature
        return (
            poincare.project(poincare.exp_origin(points, c), c) if self._config.tangent else points
        )

    def _flat(self, points: Tensor) -> Tensor:
        """Their tangent vectors at the origin."""
        c = self._config.curvature
        return points if self._config.tangent else poincare.log_origin(points, c)


def _distortion(curved: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """|d - d_E| / d_E of the points over tangent vectors v and w at the origin (eq. 12)."""
    flat = 2.0 * (v - w).norm(dim=-1).clamp_min(_NEAREST)
    distortion: Tensor = (curved - flat).abs() / flat
    return distortion


def _bounded(step: Tensor, factor: Tensor) -> Tensor:
    """Steps [r, d], none longer than the longest in units of 1 / factor, [r, 1]."""
    length: Tensor = factor * step.norm(dim=-1, keepdim=True)
    return step / (length / _LONGEST_STEP).clamp_min(1.0)
