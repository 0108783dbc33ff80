from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from hyperrec_core import compare as module
from hyperrec_core.compare import compare, estimates, slices
from hyperrec_core.ranks import Ranks, RanksError, read_pair, to_parquet

ITEMS = 1000


def ranks_of(sampled, *, user=None, item=None, full=None, history=None, repeat=None) -> Ranks:
    sampled = np.asarray(sampled, np.int32)
    count = len(sampled)
    return Ranks(
        user=np.arange(count) if user is None else np.asarray(user),
        item=np.asarray(np.arange(count) % ITEMS if item is None else item, np.int32),
        history=np.asarray(np.full(count, 3) if history is None else history, np.int32),
        repeat=np.asarray(np.zeros(count) if repeat is None else repeat, bool),
        sampled=sampled,
        full=np.asarray(sampled if full is None else full, np.int32),
        items=ITEMS,
        negatives=100,
        exclude_seen=False,
        coverage_at_10=0.5,
    )


def uniform(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 102, count)


def test_an_interval_is_that_of_the_binomial_where_each_user_has_one_label():
    found = estimates([ranks_of(uniform(4000, 0))], ["hr_at_50"], seed=1)["hr_at_50"]
    p = found.value
    half = 1.96 * np.sqrt(p * (1 - p) / 4000)
    assert (p - found.low, found.high - p) == pytest.approx((half, half), rel=0.1)
    assert found.spread is None


def test_users_are_resampled_and_not_labels():
    # Ten labels of a user that all fare alike say no more than one does.
    alone = ranks_of(uniform(500, 0))
    tenfold = ranks_of(np.repeat(alone.sampled, 10), user=np.repeat(alone.user, 10))
    one = estimates([alone], ["hr_at_50"], seed=1)["hr_at_50"]
    ten = estimates([tenfold], ["hr_at_50"], seed=1)["hr_at_50"]
    assert ten == one
    apart = estimates([replace(tenfold, user=np.arange(5000))], ["hr_at_50"], seed=1)["hr_at_50"]
    assert (one.high - one.low) / (apart.high - apart.low) == pytest.approx(10**0.5, rel=0.1)


def test_the_value_is_the_mean_over_labels_whatever_the_users():
    # User 0 has three hits, user 1 one miss.
    found = estimates([ranks_of([1, 1, 1, 99], user=[0, 0, 0, 1])], ["hr_at_10"], seed=0)
    assert found["hr_at_10"].value == 0.75
    assert (found["hr_at_10"].low, found["hr_at_10"].high) == (0, 1)


def test_resamples_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    ranks = ranks_of(uniform(300, 0))
    whole = estimates([ranks], seed=1)
    assert whole != estimates([ranks], seed=2)
    monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", 2000)
    assert estimates([ranks], seed=1) == whole


def test_seeds_are_averaged_label_by_label_and_their_spread_is_told():
    runs = [ranks_of(uniform(400, seed)) for seed in range(3)]
    found = estimates(runs, ["ndcg_at_10"], seed=0)["ndcg_at_10"]
    means = [run.ndcg_at_10 for run in runs]
    assert found.value == pytest.approx(np.mean(means))
    assert found.spread == pytest.approx(np.std(means, ddof=1))
    single = estimates(runs[:1], ["ndcg_at_10"], seed=0)["ndcg_at_10"]
    assert found.high - found.low < 0.75 * (single.high - single.low)


def test_a_difference_is_that_of_the_means_with_the_sign_of_a_minus_b():
    a, b = ranks_of(uniform(800, 0)), ranks_of(uniform(800, 1))
    there, back = compare([a], [b], seed=1), compare([b], [a], seed=1)
    for name, found in there.items():
        assert (found.a, found.b) == pytest.approx((a.mean(name), b.mean(name)))
        assert found.difference == pytest.approx(found.a - found.b)
        assert found.low <= found.difference <= found.high
        assert (back[name].low, back[name].high) == pytest.approx((-found.high, -found.low))
        assert back[name].p == found.p
        if found.p < 0.045 or found.p > 0.055:
            assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


def test_pairing_finds_a_small_steady_gain_that_unpaired_intervals_hide():
    b = ranks_of(uniform(1000, 0))
    better = np.where(np.arange(1000) % 20 == 0, np.maximum(b.sampled - 25, 1), b.sampled)
    a = replace(b, sampled=better)
    found = compare([a], [b], ["hr_at_50"], seed=0)["hr_at_50"]
    apart = [estimates([r], ["hr_at_50"], seed=0)["hr_at_50"] for r in (a, b)]
    assert found.difference > 0
    assert found.p < 0.01
    assert apart[0].low < apart[1].value < apart[0].high


def test_a_run_does_not_differ_from_itself():
    ranks = ranks_of(uniform(50, 0))
    for found in compare([ranks], [ranks], seed=0).values():
        assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_where_there_is_no_difference_p_is_small_as_seldom_as_it_says(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 300)
    rng = np.random.default_rng(7)
    small = 0
    for trial in range(300):
        # Users with one to four labels; what a user likes moves all of its labels.
        user = np.repeat(np.arange(80), rng.integers(1, 5, 80))
        ease = rng.integers(0, 40, 80)[user]
        a, b = (ranks_of(1 + ease + rng.integers(0, 60, len(user)), user=user) for _ in "ab")
        a = replace(a, item=b.item)
        small += compare([a], [b], ["mrr_at_50"], seed=trial)["mrr_at_50"].p <= 0.1
    assert 0.04 <= small / 300 <= 0.17


def test_seeds_of_two_models_are_compared_as_two_means():
    a, b = ([ranks_of(uniform(300, s)) for s in seeds] for seeds in ((0, 1, 2), (3, 4)))
    found = compare(a, b, ["hr_at_20"], seed=0)["hr_at_20"]
    assert found.a == pytest.approx(np.mean([run.mean("hr_at_20") for run in a]))
    assert found.b == pytest.approx(np.mean([run.mean("hr_at_20") for run in b]))


def test_ranks_of_other_labels_are_refused():
    a = ranks_of(uniform(20, 0))
    others = (a.take(np.arange(19)), replace(a, item=a.item[::-1]), replace(a, user=a.user + 1))
    for other in others:
        with pytest.raises(RanksError, match="same labels"):
            compare([a], [other], seed=0)
        with pytest.raises(RanksError, match="same labels"):
            estimates([a, other], seed=0)


def test_slices_are_by_thirds_of_the_interactions_by_length_and_by_novelty():
    # 60 interactions: item 4 has the first third, items 0 and 2 the second, the rest the last.
    counts = np.array([10, 5, 10, 5, 20, 5, 5, 0])
    ranks = ranks_of(
        np.ones(8),
        item=np.arange(8),
        history=[1, 4, 5, 9, 10, 199, 200, 5000],
        repeat=[1, 0, 0, 0, 0, 0, 0, 0],
    )
    found = {
        way: {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
        for way, masks in slices(ranks, counts).items()
    }
    assert found == {
        "popularity": {"head": [4], "torso": [0, 2], "tail": [1, 3, 5, 6, 7]},
        "history": {"1-4": [0, 1], "5-9": [2, 3], "10-19": [4], "50-199": [5], "200+": [6, 7]},
        "novelty": {"new": [1, 2, 3, 4, 5, 6, 7], "repeat": [0]},
    }


def stored(ranks: Ranks, users: list[str], items: list[str]) -> bytes:
    return to_parquet(ranks, user_ids=pa.chunked_array([users]), item_ids=items)


def test_stored_ranks_come_back_as_they_were():
    ranks = ranks_of(
        [3, 1, 4, 1, 5],
        user=[0, 0, 0, 1, 2],
        item=[1, 0, 1, 2, 2],
        full=[30, 10, 40, 10, 50],
        history=[5, 6, 7, 1, 1],
        repeat=[0, 0, 1, 0, 0],
    )
    data = stored(ranks, ["anna", "ben", "cleo"], ["x", "y", "z"])
    one, other = read_pair(data, data)
    # Ordered by user, item and place.
    order = [1, 0, 2, 3, 4]
    for name in ("history", "repeat", "sampled", "full"):
        assert getattr(one, name).tolist() == getattr(ranks, name)[order].tolist(), name
        assert getattr(one, name).dtype == getattr(ranks, name).dtype, name
    assert (one.items, one.negatives, one.exclude_seen, one.coverage_at_10) == (
        *(ITEMS, 100, False),
        0.5,
    )
    assert compare([one], [other], ["hr_at_1"], seed=0)["hr_at_1"].difference == 0


def test_runs_over_other_vocabularies_are_paired_by_ids_on_common_labels():
    # The same purchases; the second run numbers items and users otherwise and lacks one label.
    first = ranks_of([1, 2, 3, 4], user=[0, 0, 1, 1], item=[0, 0, 0, 1])
    second = ranks_of([40, 30, 10, 20], user=[0, 0, 1, 1], item=[1, 0, 1, 1])
    a, b = read_pair(
        stored(first, ["anna", "ben"], ["x", "y"]),
        stored(second, ["ben", "anna"], ["y", "x"]),
    )
    # anna x, anna x again, ben x, ben y.
    assert a.sampled.tolist() == [1, 2, 3, 4]
    assert b.sampled.tolist() == [10, 20, 40, 30]
    a, b = read_pair(
        stored(first, ["anna", "ben"], ["x", "y"]),
        stored(second.take(np.array([0, 2])), ["ben", "anna"], ["y", "x"]),
    )
    assert (a.sampled.tolist(), b.sampled.tolist()) == ([1, 3], [10, 40])
    assert np.array_equal(a.user, b.user)
    assert np.array_equal(a.item, b.item)


def test_what_cannot_be_paired_is_said():
    ranks = ranks_of([1, 2])
    names = [f"n{number}" for number in range(ITEMS)]
    data = stored(ranks, names, names)
    with pytest.raises(RanksError, match="negatives 100 and 50"):
        read_pair(data, stored(replace(ranks, negatives=50), names, names))
    with pytest.raises(RanksError, match="exclude_seen False and True"):
        read_pair(data, stored(replace(ranks, exclude_seen=True), names, names))
    with pytest.raises(RanksError, match="no label in common"):
        read_pair(data, stored(ranks, names[::-1], names))
    with pytest.raises(RanksError, match="Not a file of ranks"):
        read_pair(data, b"PAR1 and nothing else")
