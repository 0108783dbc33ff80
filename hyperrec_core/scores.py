"""Scores of items for users by the geometry of their points, with closed-form derivatives.

A score is a function of z: the inner product, or the squared chord (the squared distance in flat
space, 4 sinh^2(distance / 2) on the hyperboloid). Its derivatives by all pairs go back to the
points by matrix products alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hyperrec_core.spaces import Space

ScoreName = Literal["inner_product", "distance", "squared_distance"]

# The distance has an infinite slope at 0: pairs whose squared chord is below this are given the
# slope they would have at it. It lies under what float32 resolves beside points of radius 0.1.
_NEAREST = 1e-9


@dataclass(frozen=True)
class Score:
    """A score, higher for nearer items.

    Attributes:
        space: where the points live.
        name: `inner_product` (on the hyperboloid it ranks as the distance does), `distance` or
            `squared_distance`; the latter two are negated.
    """

    space: Space
    name: ScoreName

    def pairs(self, users: Tensor, items: Tensor, scale: float) -> tuple[Tensor, Tensor | float]:
        """Scores of all pairs, and their derivatives by z. [C, D], [N, D] -> [C, N] each."""
        if self.name == "inner_product":
            return (users * scale) @ self.space.dual(items).T, scale
        return self._of_chord(self.space.squared(users, items), scale)

    def each(self, users: Tensor, items: Tensor, scale: float) -> tuple[Tensor, Tensor | float]:
        """Scores pair by pair, and their derivatives by z. [B, D], [B, D] -> [B] each."""
        if self.name == "inner_product":
            return scale * (users * self.space.dual(items)).sum(-1), scale
        return self._of_chord(self.space.squared_each(users, items), scale)

    def pull_pairs(self, users: Tensor, items: Tensor, by_z: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives by users [C, D] and items [N, D] from those by z [C, N]."""
        by_users = by_z @ self.space.dual(items)
        by_items = self.space.dual(by_z.T @ users)
        if self.name != "inner_product":
            by_users.mul_(-2.0)
            by_items.mul_(-2.0)
            if self.space.flat:
                by_users += 2.0 * by_z.sum(1, keepdim=True) * self.space.dual(users)
                by_items += 2.0 * by_z.sum(0).unsqueeze(1) * self.space.dual(items)
        return by_users, by_items

    def pull_each(self, users: Tensor, items: Tensor, by_z: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives by users [B, D] and items [B, D] from those by z [B]."""
        by_z = by_z.unsqueeze(1)
        u, v = self.space.dual(users), self.space.dual(items)
        if self.name == "inner_product":
            return by_z * v, by_z * u
        if self.space.flat:
            difference = 2.0 * by_z * (u - v)
            return difference, -difference
        return -2.0 * by_z * v, -2.0 * by_z * u

    def published(self, points: Tensor) -> Tensor:
        """Item vectors whose dot product with a user point ranks as the score does. [n, D].

        In flat space -|u - v|^2 / 2 = (1, u) . (-|v|^2 / 2, v) but for a term of the user alone.
        """
        vectors = self.space.dual(points)
        if self.space.flat and self.name != "inner_product":
            vectors[:, 0] = -0.5 * (points[:, 1:] ** 2).sum(-1)
        return vectors

    def _of_chord(self, squared: Tensor, scale: float) -> tuple[Tensor, Tensor | float]:
        if self.space.flat and self.name == "squared_distance":
            return -scale * squared, -scale
        squared = squared.clamp_min(_NEAREST)
        root = squared.sqrt()
        if self.space.flat:
            return -scale * root, -0.5 * scale / root
        # d = 2 asinh(sqrt(q) / 2), and its derivative by q is 1 / (2 sqrt(q (1 + q / 4))).
        distance = 2.0 * torch.asinh(0.5 * root)
        slope = torch.rsqrt(squared * (1.0 + 0.25 * squared))
        if self.name == "distance":
            return -scale * distance, (-0.5 * scale) * slope
        return -scale * distance * distance, -scale * distance * slope
