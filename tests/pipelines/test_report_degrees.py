"""Degree distributions: quantiles and inequality by hand, the exponent on known laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import zeta

from pipelines.preprocess.degrees import PowerLaw, describe, survival

histograms = st.dictionaries(st.integers(1, 3000), st.integers(1, 50), min_size=1, max_size=30)


def test_a_histogram_by_hand() -> None:
    # 1, 1, 1, 1, 2, 2, 2, 10
    found = describe([10, 1, 2, 7], [1, 4, 3, 0])
    assert found is not None
    assert (found.n, found.total, found.mean) == (8, 20, 2.5)
    assert (found.median, found.p90, found.p99, found.largest) == (1, 10, 10, 10)
    # 2 Σ i x_i / (n Σ x_i) - (n + 1) / n = 2 (1+2+3+4 + 2·(5+6+7) + 10·8) / (8·20) - 9/8
    assert found.gini == pytest.approx(2 * (10 + 36 + 80) / 160 - 9 / 8)
    assert [(band.low, band.high, band.n) for band in found.bands] == [
        (1, 1, 4),
        (2, 2, 3),
        (10, 10, 1),
    ]
    assert found.law is None


@given(histograms)
def test_it_agrees_with_the_degrees_one_by_one(histogram: dict[int, int]) -> None:
    values, counts = list(histogram), list(histogram.values())
    found = describe(values, counts)
    assert found is not None
    each = np.sort(np.repeat(values, counts))
    n = len(each)
    assert (found.n, found.total, found.largest) == (n, each.sum(), each[-1])
    for share, quantile in ((0.5, found.median), (0.9, found.p90), (0.99, found.p99)):
        assert quantile == each[int(np.ceil(share * n - 1e-9)) - 1]
    gini = 2 * (np.arange(1, n + 1) * each).sum() / (n * each.sum()) - (n + 1) / n
    assert found.gini == pytest.approx(gini, abs=1e-9)
    assert sum(band.n for band in found.bands) == n
    for band in found.bands:
        assert band.n == ((each >= band.low) & (each <= band.high)).sum()


@pytest.mark.parametrize("degrees", [([], []), ([0], [5]), ([3], [0])])
def test_nobody_has_no_distribution(degrees: tuple[list[int], list[int]]) -> None:
    assert describe(*degrees) is None


@pytest.mark.parametrize(("exponent", "x_min"), [(2.57, 1), (2.2, 20)])
def test_the_exponent_of_a_known_law(exponent: float, x_min: int) -> None:
    # Rounding a continuous draw at x - 1/2 is a power law up to a few thousandths from 20 on; for
    # x_min = 1 the exact chances are drawn.
    rng = np.random.default_rng(5)
    if x_min == 1:
        x = np.arange(1, 200_000)
        chance = x**-exponent / zeta(exponent, 1)
        drawn = rng.choice(x, 30_000, p=chance / chance.sum())
    else:
        steep = (x_min - 0.5) * (1 - rng.random(30_000)) ** (-1 / (exponent - 1)) + 0.5
        flat = rng.integers(1, x_min, 30_000)
        drawn = np.concatenate([np.floor(steep).clip(max=10**9).astype(np.int64), flat])
    found = describe(*np.unique(drawn, return_counts=True))
    assert found is not None
    assert found.law is not None
    assert found.law.exponent == pytest.approx(exponent, abs=0.05)
    assert x_min <= found.law.x_min <= 3 * x_min
    assert found.law.distance < 0.02


def test_the_survival_of_a_law_starts_at_one_and_falls() -> None:
    law = PowerLaw(exponent=2.5, x_min=4, tail=10, distance=0.1)
    shares = survival(law, [4, 5, 40])
    assert shares[0] == 1
    assert shares[1] == pytest.approx(1 - 4**-2.5 / zeta(2.5, 4))
    assert shares[1] > shares[2] > 0
