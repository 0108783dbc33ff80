"""The hyperbolic latent space of the synthetic shop: where items and users lie.

Everything lies in one disc of the hyperbolic plane of curvature -1, in polar coordinates
(radius r, angle θ). With radial density α·sinh(αr)/(cosh(αR) - 1), uniform angles and the Fermi
kernel 1/(1 + exp((d - D)/2T)) on the distance d, degrees follow a power law with exponent
γ = 2α + 1 and expected degree ~ exp((R - r)/2) (Krioukov et al. 2010, section IV). Kitsak,
Papadopoulos & Krioukov 2017 put the two kinds of node of a bipartite network, here users and
items, into the same space. At T = 1/2 and with d ≈ r + r' + 2·ln(Δθ/2) the kernel is
1/(1 + (Δθ/σ)²), a Cauchy density in the angle whose width σ ~ exp(-(r + r')/2) grows with both
weights: niche items are bought by the users next to them, popular ones from all around.

Angles are in radians, radii in units of the curvature radius, time in days and weeks ("slots")
from the first trading day.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.synthesise.config import CatalogueConfig

ITEM_EXPONENT = 2.57  # degree exponent of the items of Chamberlain et al. 2019 (ASOS)
USER_EXPONENT = 3.5  # of the events a user: lighter than the items', no user is a hub
SLOT_DAYS = 7  # items arrive and leave at the start of a trading week

_EVERGREEN_SHARE = 0.15  # items that are sold all the time
_SHORTEST_LIFE, _MEAN_LIFE = 8, 20  # weeks on sale of the others
_LEAST_SEEN = 4  # of them inside the period, where it has as many
_JOINING_SHARE = 0.4  # users whose first visit falls inside the period
_BUSIEST = 200  # events a day, on average: whoever has more came early enough to have fewer
_DRIFT = 0.4 / 365  # standard deviation of a user's angular drift, radians a day
_BLOCK_EVENTS = (
    1 << 19
)  # about 150 MB at work; part of the seed, since it decides who is in a block

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ItemPoints:
    """The items: position and time on sale, one array entry an item.

    Attributes:
        radius: float64[items], in [0, R].
        angle: float64[items], in [0, 2π).
        weight: float64[items], exp((R - radius)/2) >= 1: expected popularity while on sale.
        first_slot: int64[items], first week on sale; negative when before the first day.
        end_slot: int64[items], first week off sale; beyond the last week when still live.
    """

    radius: Floats
    angle: Floats
    weight: Floats
    first_slot: Ints
    end_slot: Ints


@dataclass(frozen=True)
class UserPoints:
    """The users of one block.

    Attributes:
        first: Index of the block's first user.
        radius: float64[block], in [0, R].
        angle: float64[block], position on the first day.
        drift: float64[block], change of the angle, radians a day.
        weight: float64[block], exp((R - radius)/2) >= 1: activity and breadth of taste.
        joined: float64[block], share of the period that had passed when the user first came.
        events: int64[block], number of events, which sums to the block's share exactly.
    """

    first: int
    radius: Floats
    angle: Floats
    drift: Floats
    weight: Floats
    joined: Floats
    events: Ints

    def angle_at(self, user: Ints, day: Floats | Ints) -> Floats:
        """Angle of the given users (indices in the block) on the given days."""
        return np.asarray(self.angle[user] + self.drift[user] * day, dtype=np.float64)


def disc_radius(config: CatalogueConfig) -> float:
    """Radius R = 2·ln(items) of the disc that holds everything."""
    return max(2 * float(np.log(config.items)), 1.0)


def slot_count(config: CatalogueConfig) -> int:
    """Number of trading weeks, the last one possibly short."""
    return -(-config.days // SLOT_DAYS)


def block_count(config: CatalogueConfig) -> int:
    """Number of blocks of users, so many that one block's events fit comfortably in memory."""
    return min(config.users, -(-config.interactions // _BLOCK_EVENTS))


def _radii(uniform: Floats, disc: float, exponent: float) -> Floats:
    """Inverse of the radial distribution (Krioukov et al. 2010, eq. 17), α = (exponent - 1)/2."""
    alpha = (exponent - 1) / 2
    radius = np.arccosh(1 + uniform * (np.cosh(alpha * disc) - 1)) / alpha
    return np.asarray(np.minimum(radius, disc))


def item_points(config: CatalogueConfig) -> ItemPoints:
    """Draws every item's position and time on sale.

    Radii are the expected order statistics of the radial law, in random order: a free draw would
    let one item of a small shop take a tenth of all sales under one seed and none under the next.
    The most popular item is evergreen, so there is something to sell in every week.
    """
    rng = np.random.default_rng([config.seed, 0])
    count, slots, disc = config.items, slot_count(config), disc_radius(config)
    radius = _radii((rng.permutation(count) + 1) / (count + 1), disc, ITEM_EXPONENT)
    life = _SHORTEST_LIFE + rng.geometric(1 / (_MEAN_LIFE - _SHORTEST_LIFE), count) - 1
    evergreen = rng.random(count) < _EVERGREEN_SHARE
    evergreen[np.argmin(radius)] = True
    seen = min(_LEAST_SEEN, slots)
    first = rng.integers(seen - life, slots - seen + 1)
    return ItemPoints(
        radius=radius,
        angle=rng.random(count) * 2 * np.pi,
        weight=np.exp((disc - radius) / 2),
        first_slot=np.where(evergreen, -life, first),
        end_slot=np.where(evergreen, slots + life, first + life),
    )


def user_points(config: CatalogueConfig, block: int) -> UserPoints:
    """Draws the users of one block, from (seed, block) alone."""
    rng = np.random.default_rng([config.seed, 1, block])
    blocks, disc = block_count(config), disc_radius(config)
    first, end = (config.users * b // blocks for b in (block, block + 1))
    count = end - first
    radius = _radii(rng.random(count), disc, USER_EXPONENT)
    weight = np.exp((disc - radius) / 2)
    # The block's share of the rows follows from its users' indices, so blocks need no common sum.
    share = config.interactions * end // config.users - config.interactions * first // config.users
    least = 1 if config.interactions >= config.users else 0
    events = least + rng.multinomial(share - least * count, weight / weight.sum())
    joining = rng.random(count) < _JOINING_SHARE
    latest = np.maximum(1 - events / (_BUSIEST * config.days), 0.0)
    return UserPoints(
        first=first,
        radius=radius,
        angle=rng.random(count) * 2 * np.pi,
        drift=rng.normal(0, _DRIFT, count),
        weight=weight,
        joined=np.where(joining, np.minimum(rng.random(count), latest), 0.0),
        events=events,
    )
