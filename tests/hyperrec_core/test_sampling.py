import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperrec_core import sampling
from tests.hyperrec_core import plain_draws


def draw(seen, labels, *, size, seed):
    """`unseen_items` of rows that have seen this, in some order and some of it twice."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.tile(np.flatnonzero(row), 2)) for row in seen]
    ends = np.cumsum([len(row) for row in rows])
    starts = np.concatenate([[0], ends[:-1]])
    positions = np.concatenate(rows).astype(np.int32)
    return sampling.unseen_items(
        positions, starts, ends, labels, items=seen.shape[1], size=size, seed=seed
    )


@given(
    items=st.integers(1, 60),
    share=st.floats(0, 1),
    size=st.integers(1, 30),
    seed=st.integers(0, 2**63),
)
def test_drawn_items_are_distinct_unseen_and_as_many_as_there_are(items, share, size, seed):
    seen = np.random.default_rng(seed).random((5, items)) < share
    labels = np.array([0, 3, 4, 9, 10**9])
    drawn = draw(seen, labels, size=size, seed=seed)
    assert drawn.shape == (5, size)
    for row, found in zip(seen, drawn, strict=True):
        there = found[found >= 0].tolist()
        assert len(there) == len(set(there)) == min(size, (~row).sum())
        assert not row[there].any()


@settings(deadline=None)
@given(
    items=st.integers(1, 300),
    share=st.sampled_from([0.0, 0.05, 0.3, 0.48, 0.9, 1.0]),
    size=st.integers(1, 70),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_draws_are_those_of_a_plain_computation(items, share, size, seed):
    rng = np.random.default_rng(seed)
    seen = rng.random((6, items)) < share
    seen[3] = seen[2]  # two labels of a user
    labels = rng.integers(0, 2**62, 6)
    expected = plain_draws.unseen_items(seen, labels, size=size, seed=seed)
    assert np.array_equal(draw(seen, labels, size=size, seed=seed), expected)
    for stream in (sampling.SAMPLED_TIES, sampling.FULL_TIES):
        coins = sampling.uniform(seed, stream, labels)
        assert np.array_equal(coins, plain_draws.uniform(seed, stream, labels))
        assert ((coins >= 0) & (coins < 1)).all()


def test_the_draws_of_a_seed_never_change():
    # Stored ranks are compared with those of later versions on the same candidates.
    seen = np.zeros((1, 1000), bool)
    found = draw(seen, np.array([7]), size=5, seed=3)[0].tolist()
    assert found == [948, 110, 190, 540, 847]
    assert sampling.uniform(3, 1, np.array([7]))[0] == 0.4557946279999545


@pytest.mark.parametrize("seen_items", [3, 40])
def test_every_unseen_item_and_pair_is_drawn_equally_often(seen_items):
    # 3 of 50 seen: drawn again where wrong; 40 of 50: by random keys.
    draws, items, size = 20_000, 50, 4
    positions = np.arange(seen_items, dtype=np.int32)
    starts = np.zeros(draws, np.int64)
    drawn = sampling.unseen_items(
        positions, starts, starts + seen_items, np.arange(draws), items=items, size=size, seed=8
    )
    unseen = items - seen_items
    counts = np.bincount(drawn.ravel(), minlength=items)[seen_items:]
    expected = draws * size / unseen
    assert ((counts - expected) ** 2 / expected).sum() < unseen + 5 * np.sqrt(2 * unseen)
    together = np.zeros((items, items))
    for place in range(size):
        for other in range(place):
            np.add.at(together, (drawn[:, place], drawn[:, other]), 1)
    together = (together + together.T)[np.triu_indices(items, 1)].reshape(-1)
    together = together[together > 0]
    pairs = unseen * (unseen - 1) / 2
    expected = draws * size * (size - 1) / 2 / pairs
    assert len(together) == pairs
    assert ((together - expected) ** 2 / expected).sum() < pairs + 5 * np.sqrt(2 * pairs)
