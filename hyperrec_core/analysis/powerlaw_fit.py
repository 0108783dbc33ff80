"""How well a power law describes the degrees of a network (Clauset, Shalizi & Newman 2009).

p(x) = x^-alpha / zeta(alpha, xmin) for whole x >= xmin, with zeta that of Hurwitz. For each
candidate xmin, alpha is the maximum-likelihood one; the xmin is kept whose fit has the least
Kolmogorov-Smirnov distance to the data above it. The p-value is the share of semi-parametric
bootstrap samples whose own best fit lies further from them than the data's does from the data;
below 0.1 a power law is ruled out.

The fit that is reported is that of the package `powerlaw`. The bootstrap repeats the whole search
hundreds of times and does so with `search`, the same estimator for all candidates at once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import powerlaw
from numpy.typing import NDArray
from scipy.special import zeta

Degrees = NDArray[np.int64]
Floats = NDArray[np.float64]

# Newton's method on the exact likelihood starts at the continuous approximation, which is at worst
# some tenths off (xmin = 1), and doubles its digits a step.
_NEWTON_STEPS = 12
# Step of the central differences of log zeta by alpha: error 1e-8 in the first, 1e-7 in the second.
_STEP = 1e-4
# The likelihood has no maximum at or below 1, where zeta diverges; above 30 no term but the first
# counts and candidates are tails of one repeated value.
ALPHA_RANGE = (1.01, 30.0)
# Samples up to xmin + this come from the exact distribution; beyond, the continuous formula's error
# is below 1e-6 of the value.
_EXACT_UP_TO = 5_000
# A law with an exponent near 1 gives values that no int64 holds; no network has such a degree.
_LARGEST = 1e15


@dataclass(frozen=True)
class PowerLawFit:
    """A fitted power law.

    Attributes:
        alpha: the exponent.
        xmin: the least degree that the law is fitted to.
        distance: Kolmogorov-Smirnov distance of the degrees >= xmin to the law.
        tail: how many degrees are >= xmin.
    """

    alpha: float
    xmin: int
    distance: float
    tail: int


def fit(degrees: Degrees) -> PowerLawFit:
    """The discrete maximum-likelihood fit of the package `powerlaw`, xmin chosen by the data.

    Args:
        degrees: positive whole numbers, int64 [n], of at least three different values.

    Raises:
        ValueError: there are fewer values.
    """
    _check(degrees)
    with warnings.catch_warnings():
        # For an xmin near the largest degree the package's sums underflow; such an xmin has a large
        # distance and loses.
        warnings.simplefilter("ignore", RuntimeWarning)
        # The package warns of a name of its own that it uses itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        found: Any = powerlaw.Fit(
            degrees,
            discrete=True,
            estimate_discrete=False,  # the exact likelihood, where the package would approximate
            # By itself the package passes over every xmin whose exponent is above 3.
            parameter_ranges={"alpha": ALPHA_RANGE},
            verbose=0,
        )
    law, xmin = found.power_law, int(found.xmin)
    return PowerLawFit(float(law.alpha), xmin, float(law.D), int((degrees >= xmin).sum()))


def search(degrees: Degrees) -> PowerLawFit:
    """The same estimate as `fit`, all candidates for xmin at once.

    Args:
        degrees: positive whole numbers, int64 [n], of at least three different values.

    Returns:
        The fit; its distance is the exact supremum over all whole numbers.
    """
    values, counts = np.unique(degrees, return_counts=True)
    # A tail of one value is a point that any alpha large enough fits.
    candidates = values[:-1].astype(float)
    below = np.cumsum(counts) - counts
    tail = (len(degrees) - below)[:-1].astype(float)
    logs = np.cumsum((counts * np.log(values))[::-1])[::-1][:-1]
    alpha = _alphas(candidates, tail, logs / tail)

    # Pairs (candidate, value at or above it), row by row.
    size = len(values)
    row, column = np.triu_indices(size - 1, m=size)
    at, normaliser = values[column].astype(float), zeta(alpha, candidates)[row]
    survival = zeta(alpha[row], at) / normaliser
    empirical = 1.0 - (below[column] - below[row]) / tail[row]
    # The two step functions lie furthest apart just before a value that occurs (and steps) or at
    # it: P(X >= x) at x and P(X >= x + 1), which is a term of the series less.
    past = survival - at ** -alpha[row] / normaliser
    gap = np.maximum(
        np.abs(empirical - survival), np.abs(empirical - counts[column] / tail[row] - past)
    )
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    distance = np.maximum.reduceat(gap, starts)
    best = int(distance.argmin())
    return PowerLawFit(
        float(alpha[best]), int(values[best]), float(distance[best]), int(tail[best])
    )


def _alphas(xmin: Floats, tail: Floats, mean_log: Floats) -> Floats:
    """Maximum-likelihood exponents: d/d alpha of log zeta(alpha, xmin) is -mean log x. [c]."""
    low, high = ALPHA_RANGE
    alpha = np.clip(1.0 + 1.0 / (mean_log - np.log(xmin - 0.5)), low + _STEP, high)
    for _ in range(_NEWTON_STEPS):
        less, here, more = (np.log(zeta(alpha + h, xmin)) for h in (-_STEP, 0.0, _STEP))
        slope = (more - less) / (2 * _STEP) + mean_log
        curvature = (more - 2 * here + less) / _STEP**2
        # A candidate without a finite optimum leaves the range; the clip keeps it finite and its
        # large distance keeps it from being chosen.
        alpha = np.clip(alpha - slope / np.maximum(curvature, _STEP), low + _STEP, high)
    return np.asarray(alpha)


def p_value(degrees: Degrees, *, resamples: int, seed: int) -> float:
    """Share of bootstrap samples that lie further from their own fit than the degrees from theirs.

    A sample has as many values as the data: each is drawn from the law with the share of degrees
    >= xmin as probability, and otherwise from the degrees below xmin (Clauset et al. 2009, section
    4.1). The standard error of the result is at most 1 / (2 sqrt(resamples)).

    Args:
        degrees: positive whole numbers, int64 [n], of at least three different values.
        resamples: number of samples.
        seed: of the draws.

    Raises:
        ValueError: there are fewer values.
    """
    _check(degrees)
    generator = np.random.default_rng(seed)
    law = search(degrees)
    body = degrees[degrees < law.xmin]
    further = 0
    for _ in range(resamples):
        tail = int(generator.binomial(len(degrees), law.tail / len(degrees)))
        drawn = [sample(law, tail, generator)]
        if len(body):
            drawn.append(generator.choice(body, len(degrees) - tail))
        further += search(np.concatenate(drawn)).distance >= law.distance
    return further / resamples


def sample(law: PowerLawFit, size: int, generator: np.random.Generator) -> Degrees:
    """Draws from the law by the inverse of its survival function, int64 [size]."""
    grid = np.arange(law.xmin, law.xmin + _EXACT_UP_TO, dtype=float)
    survival = zeta(law.alpha, grid) / zeta(law.alpha, float(law.xmin))
    chance = generator.random(size)
    # survival[k] = P(X >= xmin + k) falls from 1; X is the last x whose survival is >= the chance.
    place = np.searchsorted(-survival, -chance, side="right") - 1
    far = place == _EXACT_UP_TO - 1
    # Past the grid the continuous law continues it: P(X >= x) ~ (x - 1/2)^(1 - alpha).
    ratio = np.maximum(survival[-1] / np.where(far, chance, 1.0), 1.0)
    reach = (grid[-1] - 0.5) * ratio ** (1.0 / (law.alpha - 1.0)) + 0.5
    drawn = np.where(far, np.minimum(reach, _LARGEST), law.xmin + place)
    return np.asarray(drawn, dtype=np.int64)


def _check(degrees: Degrees) -> None:
    if len(np.unique(degrees)) < 3 or degrees.min() < 1:
        raise ValueError(
            f"A power law was asked of {len(degrees)} degrees that are not at least three "
            "different positive values; fit a network with more items."
        )
