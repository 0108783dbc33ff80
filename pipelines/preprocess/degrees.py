"""How interactions are spread over items or users: quantiles, inequality and the power law.

SciPy is imported by what fits and draws: reading a report does without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

_EXPONENTS = (1.01, 10.0)
"""Below, zeta diverges; above, a tail is one repeated value."""

_TAIL_AT_LEAST = 50
"""The standard error of an exponent is (exponent - 1) over the root of so many: here about 0.2."""

_CANDIDATES = 40


class Band(BaseModel):
    """How many have a degree from `low` to `high`, both included."""

    model_config = ConfigDict(frozen=True)

    low: int
    high: int
    n: int


class PowerLaw(BaseModel):
    """p(x) = x^-exponent / zeta(exponent, x_min) for whole x >= x_min.

    Attributes:
        exponent: the maximum-likelihood one.
        x_min: the least degree that it holds for.
        tail: how many degrees are at least that.
        distance: Kolmogorov-Smirnov distance of those to the law.
    """

    model_config = ConfigDict(frozen=True)

    exponent: float
    x_min: int
    tail: int
    distance: float


class Degrees(BaseModel):
    """A degree distribution.

    Attributes:
        n: how many items or users.
        total: their interactions.
        mean: interactions of one.
        median: half have at most as many.
        p90: nine tenths have at most as many.
        p99: all but a hundredth have at most as many.
        largest: the most that one has.
        gini: 0 when all have equally many, towards 1 when one has nearly all.
        bands: five a decade; those without anybody are left out.
        law: None when no power law can be fitted.
    """

    model_config = ConfigDict(frozen=True)

    n: int
    total: int
    mean: float
    median: int
    p90: int
    p99: int
    largest: int
    gini: float
    bands: tuple[Band, ...]
    law: PowerLaw | None


@dataclass(frozen=True)
class _Histogram:
    """Different degrees, rising, and how often each occurs; both int64 [m]."""

    values: NDArray[np.int64]
    counts: NDArray[np.int64]


def describe(values: ArrayLike, counts: ArrayLike) -> Degrees | None:
    """Describe degrees that are given as a histogram.

    Args:
        values: whole degrees, [m], in any order; those below 1 are left out.
        counts: how many have that degree, [m].

    Returns:
        None when nobody has an interaction.
    """
    v, c = np.asarray(values, np.int64), np.asarray(counts, np.int64)
    wanted = (v > 0) & (c > 0)
    different, place = np.unique(v[wanted], return_inverse=True)
    if not len(different):
        return None
    h = _Histogram(different, np.bincount(place, c[wanted]).astype(np.int64))
    n, mass = int(h.counts.sum()), h.values * h.counts
    up_to = np.cumsum(h.counts)

    def quantile(share: float) -> int:
        return int(h.values[np.searchsorted(up_to, share * n - 1e-9)])

    held = np.cumsum(mass)
    # Area under the Lorenz curve by trapezia, one a degree.
    lorenz = float((h.counts * (2 * held - mass)).sum()) / (n * int(held[-1]))
    return Degrees(
        n=n,
        total=int(held[-1]),
        mean=float(held[-1] / n),
        median=quantile(0.5),
        p90=quantile(0.9),
        p99=quantile(0.99),
        largest=int(h.values[-1]),
        gini=max(0.0, 1 - lorenz),
        bands=_bands(h),
        law=_power_law(h),
    )


def _bands(h: _Histogram) -> tuple[Band, ...]:
    fifths = np.arange(int(5 * np.log10(h.values[-1])) + 2)
    lows = np.unique(np.ceil(np.round(10 ** (fifths / 5), 9)).astype(np.int64))
    lows = lows[lows <= h.values[-1]]
    of_value = np.searchsorted(lows, h.values, side="right") - 1
    n = np.bincount(of_value, h.counts, len(lows)).astype(int)
    highs = [*(lows[1:] - 1).tolist(), int(h.values[-1])]
    rows = zip(lows.tolist(), highs, n.tolist(), strict=True)
    return tuple(Band(low=low, high=high, n=many) for low, high, many in rows if many)


def _power_law(h: _Histogram) -> PowerLaw | None:
    """The law whose x_min gives the least distance to the data (Clauset, Shalizi & Newman 2009).

    Forty candidates for x_min, spaced by logarithm, stand for all of them: the report follows the
    exponent from night to night and tests no hypothesis.
    """
    at_least = np.cumsum(h.counts[::-1])[::-1]
    # At least three different degrees: two fit any law.
    possible = h.values[:-2][at_least[:-2] >= _TAIL_AT_LEAST]
    if not len(possible):
        return None
    steps = np.geomspace(possible[0], possible[-1], _CANDIDATES)
    starts = np.unique(np.minimum(np.searchsorted(possible, steps), len(possible) - 1))
    return min((_fit(h, int(start)) for start in starts), key=lambda law: law.distance)


def _fit(h: _Histogram, start: int) -> PowerLaw:
    from scipy.optimize import minimize_scalar  # noqa: PLC0415
    from scipy.special import zeta  # noqa: PLC0415

    x, n = h.values[start:].astype(np.float64), h.counts[start:]
    tail, x_min = int(n.sum()), float(x[0])
    mean_log = float((n * np.log(x)).sum()) / tail

    def minus_log_likelihood(alpha: float) -> float:
        return float(np.log(zeta(alpha, x_min))) + alpha * mean_log

    found: Any = minimize_scalar(minus_log_likelihood, bounds=_EXPONENTS, method="bounded")
    alpha = float(found.x)
    # Two step functions lie furthest apart at a degree that occurs or just behind it.
    here, behind = (zeta(alpha, x + step) / zeta(alpha, x_min) for step in (0, 1))
    from_here = np.cumsum(n[::-1])[::-1] / tail
    gap = np.maximum(np.abs(from_here - here), np.abs(from_here - n / tail - behind))
    return PowerLaw(exponent=alpha, x_min=int(x_min), tail=tail, distance=float(gap.max()))


def survival(law: PowerLaw, x: ArrayLike) -> NDArray[np.float64]:
    """P(X >= x) of the law among the degrees of its tail, for x >= x_min."""
    from scipy.special import zeta  # noqa: PLC0415

    return np.asarray(zeta(law.exponent, np.asarray(x, float)) / zeta(law.exponent, law.x_min))
