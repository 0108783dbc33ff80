"""The stability index against examples worked by hand, and the bins it is taken over."""

from __future__ import annotations

from math import log

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.preprocess.drift import SHARE_FLOOR, Shift, event_mix, popularity, stability
from tests.pipelines.report_support import vocabulary

counts = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 500))


def by_name(shift: Shift | None) -> dict[str, tuple[float, float]]:
    assert shift is not None
    return {each.name: (each.earlier, each.now) for each in shift.bins}


def test_the_index_by_hand() -> None:
    # (0.6 - 0.5) ln(0.6/0.5) = 0.018232, (0.4 - 0.5) ln(0.4/0.5) = 0.022314
    assert stability([0.5, 0.5], [0.6, 0.4]) == pytest.approx([0.018232, 0.022314], abs=1e-6)
    assert stability([1, 0], [0.95, 0.05])[1] == pytest.approx(
        (0.05 - SHARE_FLOOR) * log(0.05 / SHARE_FLOOR)
    )


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1))
def test_the_index_is_symmetric_and_never_negative(pairs: list[tuple[int, int]]) -> None:
    e, a = (np.array(x) / max(1, sum(x)) for x in zip(*pairs, strict=True))
    assert (stability(e, a) >= 0).all()
    assert stability(e, a) == pytest.approx(stability(a, e))
    assert not stability(e, e).any()


def test_the_event_mix_by_hand() -> None:
    shift = event_mix({"purchase": 25, "view": 75}, {"purchase": 50, "view": 50})
    assert shift is not None
    assert shift.psi == pytest.approx(0.25 * log(2) - 0.25 * log(50 / 75))
    assert by_name(shift) == {"purchase": (0.25, 0.5), "view": (0.75, 0.5)}
    assert event_mix({"view": 3}, {}) is None
    assert event_mix({}, {"view": 3}) is None


def test_new_and_gone_items_have_bins_of_their_own() -> None:
    earlier = vocabulary({"a": 60, "b": 20, "c": 20, "unsold": 0})
    now = vocabulary({"a": 30, "b": 40, "unsold": 20, "d": 10, "e": 0})
    found = popularity(earlier, now)
    assert by_name(found) == {
        "60": (0.6, 0.3),
        "20": (0.2, 0.4),
        "new": (0.0, 0.3),
        "gone": (0.2, 0.0),
    }
    assert found is not None
    assert found.psi == pytest.approx(
        0.3 * log(2)
        + 0.2 * log(2)
        + (0.3 - SHARE_FLOOR) * log(0.3 / SHARE_FLOOR)
        + (0.2 - SHARE_FLOOR) * log(0.2 / SHARE_FLOOR)
    )


def test_ten_bins_of_about_a_tenth_each() -> None:
    rng = np.random.default_rng(3)
    many = {f"i{n}": int(count) for n, count in enumerate(rng.zipf(2.2, 20_000).clip(max=2_000))}
    found = popularity(vocabulary(many), vocabulary(many))
    assert found is not None
    assert found.psi == 0
    assert [each.name for each in found.bins[-2:]] == ["new", "gone"]
    quantiles = found.bins[:-2]
    assert sum(each.earlier for each in quantiles) == pytest.approx(1)
    # Items bought once are one bin, whatever their share.
    assert all(0.05 < each.earlier < 0.16 for each in quantiles if each.name != "1")
    lows = [int(each.name.split(" to ")[0].replace(",", "")) for each in quantiles]
    assert lows == sorted(lows, reverse=True)


@given(counts, counts)
def test_every_interaction_is_in_one_bin(then: dict[str, int], now: dict[str, int]) -> None:
    found = popularity(vocabulary(then), vocabulary(now))
    assert (found is None) == (not sum(then.values()) or not sum(now.values()))
    if found is not None:
        assert sum(each.earlier for each in found.bins) == pytest.approx(1)
        assert sum(each.now for each in found.bins) == pytest.approx(1)
        assert found.psi == pytest.approx(sum(each.psi for each in found.bins))


def test_items_are_matched_by_id_and_not_by_place() -> None:
    some = vocabulary({"a": 60, "b": 30, "c": 10})
    turned = pa.concat_tables([some.slice(1), some.slice(0, 1)])
    found = popularity(some, turned)
    assert found is not None
    assert found.psi == 0
