"""The fit of a power law: against samples of known laws, by brute force, and the package's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import zeta

from hyperrec_core.analysis.powerlaw_fit import PowerLawFit, fit, p_value, sample, search


def law(alpha: float, xmin: int) -> PowerLawFit:
    return PowerLawFit(alpha, xmin, 0.0, 0)


def with_body(alpha: float, xmin: int, tail: int, body: int, seed: int) -> np.ndarray:
    """A tail of a power law over values below it that are no part of the law."""
    generator = np.random.default_rng(seed)
    low = generator.integers(xmin // 2, xmin, body)
    return np.concatenate([sample(law(alpha, xmin), tail, generator), low])


@pytest.mark.parametrize(("alpha", "xmin"), [(1.8, 1), (2.5, 6), (3.4, 40)])
def test_samples_have_the_frequencies_of_the_law(alpha: float, xmin: int) -> None:
    n = 200_000
    drawn = sample(law(alpha, xmin), n, np.random.default_rng(1))
    assert drawn.min() == xmin
    for x in (xmin, xmin + 1, 2 * xmin + 3, 10 * xmin):
        share = zeta(alpha, x + 1) / zeta(alpha, xmin)
        assert (drawn > x).mean() == pytest.approx(share, abs=5 * np.sqrt(share / n))


def test_far_samples_continue_the_law() -> None:
    # An eighth of this law lies beyond the exact part of the draw.
    n = 200_000
    drawn = sample(law(1.2, 1), n, np.random.default_rng(2))
    for x in (4_000, 6_000, 10**6, 10**9):
        share = zeta(1.2, x + 1) / zeta(1.2, 1)
        assert (drawn > x).mean() == pytest.approx(share, abs=5 * np.sqrt(share / n))


@pytest.mark.parametrize(("alpha", "xmin", "seed"), [(2.2, 8, 1), (3.6, 30, 2), (2.8, 1, 3)])
def test_the_fit_finds_the_law_and_where_it_begins(alpha: float, xmin: int, seed: int) -> None:
    degrees = with_body(alpha, xmin, 6000, 6000 if xmin > 1 else 0, seed)
    found = fit(degrees)
    assert found.alpha == pytest.approx(alpha, abs=4 * (alpha - 1) / np.sqrt(found.tail))
    assert xmin <= found.xmin <= 2 * xmin + 1
    assert found.tail == (degrees >= found.xmin).sum()


@given(
    alpha=st.floats(1.6, 4.5), xmin=st.integers(2, 60), seed=st.integers(0, 2**32 - 1),
    tail=st.integers(60, 400),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_search_is_the_packages_estimate(alpha: float, xmin: int, seed: int, tail: int) -> None:
    degrees = with_body(alpha, xmin, tail, tail, seed)
    ours, theirs = search(degrees), fit(degrees)
    # The package looks at the distance at occurring values alone, so ours is never less; where it
    # is larger another xmin may win.
    assert ours.distance >= theirs.distance - 1e-3
    if ours.xmin == theirs.xmin:
        assert ours.alpha == pytest.approx(theirs.alpha, rel=2e-3)
        assert ours.tail == theirs.tail
    else:
        assert ours.distance == pytest.approx(theirs.distance, abs=0.03)


def test_search_is_the_likelihoods_maximum_and_the_true_distance() -> None:
    degrees = with_body(2.6, 12, 300, 300, 7)
    found = search(degrees)
    tail = degrees[degrees >= found.xmin]
    alphas = np.linspace(1.2, 6, 48_001)
    likelihood = -len(tail) * np.log(zeta(alphas, found.xmin)) - alphas * np.log(tail).sum()
    assert found.alpha == pytest.approx(alphas[likelihood.argmax()], abs=1.5e-4)
    every = np.arange(found.xmin, tail.max() + 2)
    fitted = zeta(found.alpha, every) / zeta(found.alpha, found.xmin)
    share = (tail[:, None] >= every).mean(axis=0)
    assert found.distance == pytest.approx(np.abs(fitted - share).max(), abs=1e-9)


def test_a_power_law_is_plausible_and_another_distribution_is_not() -> None:
    generator = np.random.default_rng(4)
    assert p_value(with_body(2.4, 10, 1500, 1500, 3), resamples=60, seed=1) > 0.1
    other = 1 + generator.poisson(40, 4000)
    assert p_value(np.concatenate([other, other * 3]), resamples=60, seed=1) < 0.1


def test_p_values_of_true_laws_are_spread_over_the_unit_interval() -> None:
    generator = np.random.default_rng(5)
    values = [p_value(sample(law(2.5, 5), 500, generator), resamples=20, seed=k) for k in range(24)]
    assert 0.3 < np.mean(values) < 0.75
    assert np.std(values) > 0.15


def test_the_same_seed_gives_the_same_p() -> None:
    degrees = with_body(2.4, 10, 300, 300, 3)
    assert p_value(degrees, resamples=20, seed=1) == p_value(degrees, resamples=20, seed=1)


@pytest.mark.parametrize("degrees", [[], [1, 2, 2], [3] * 9, [0, 1, 2, 3]])
def test_what_no_law_can_be_fitted_to_is_refused(degrees: list[int]) -> None:
    for refuse in (fit, lambda d: p_value(d, resamples=1, seed=1)):
        with pytest.raises(ValueError, match="three different positive"):
            refuse(np.array(degrees, dtype=np.int64))
