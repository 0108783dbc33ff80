"""The kernel and the tensors find the same places, and for the same labels the plain ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperrec_core import placing
from hyperrec_core.sampling import read_only


def a_block(rng, *, items, labels, negatives, shared):
    """Labels of random histories, up to three of them of the same one."""
    first = np.sort(rng.integers(0, labels, labels)) if shared else np.arange(labels)
    lengths = rng.integers(1, 2 * items + 1, labels)
    ends = np.cumsum(lengths)
    drawn = rng.integers(-1, items, (labels, negatives))
    block = placing.Block(
        rows=np.unique(first, return_inverse=True)[1],
        labels=rng.integers(0, items, labels),
        drawn=drawn,
        starts=(ends - lengths)[first],
        ends=ends[first],
        sampled_coins=rng.random(labels),
        full_coins=rng.random(labels),
    )
    return block, rng.integers(0, items, ends[-1]).astype(np.int32)


def some_scores(rng, rows, items, kind):
    scores = rng.normal(size=(rows, items)).astype(np.float32)
    if kind == "levels":
        scores = scores.round()
    if kind == "odd":
        odd = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0], np.float32)
        scores = np.where(rng.random(scores.shape) < 0.5, rng.choice(odd, scores.shape), scores)
    return torch.from_numpy(scores)


def empty_places(labels, items):
    return placing.Places(
        sampled=np.zeros(labels, np.int32),
        full=np.zeros(labels, np.int32),
        repeat=np.zeros(labels, bool),
        recommended=np.zeros(items, bool),
    )


def plainly(scores, block, positions, *, exclude_seen, places):
    """By definition, one label at a time."""

    def rank(own, others, coin):
        if np.isnan(own):
            return 1 + len(others)
        return 1 + (others > own).sum() + int(coin * ((others == own).sum() + 1))

    items = scores.shape[1]
    for i, label in enumerate(block.labels.tolist()):
        row = scores[block.rows[i]].numpy()
        history = set(positions[block.starts[i] : block.ends[i]].tolist())
        left_out = history if exclude_seen else set()
        drawn = block.drawn[i][block.drawn[i] >= 0]
        others = [item for item in range(items) if item not in left_out | {label}]
        places.sampled[i] = rank(row[label], row[drawn], block.sampled_coins[i])
        places.full[i] = rank(row[label], row[others], block.full_coins[i])
        places.repeat[i] = label in history
        if label in left_out:
            places.full[i] = items
        listed = [item for item in range(items) if item not in left_out and row[item] > -np.inf]
        places.recommended[sorted(listed, key=lambda item: -row[item])[: placing.COVERED]] = True


@pytest.mark.parametrize("way", [placing.by_kernel, placing.by_tensors])
@settings(deadline=None, max_examples=60)
@given(
    items=st.sampled_from([1, 5, 12, 70, 300]),
    labels=st.integers(1, 12),
    negatives=st.integers(1, 20),
    shared=st.booleans(),
    kind=st.sampled_from(["plain", "levels", "odd"]),
    exclude_seen=st.booleans(),
    threads=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 2**32),
)
def test_places_are_those_of_the_definition(
    way, items, labels, negatives, shared, kind, exclude_seen, threads, seed
):
    rng = np.random.default_rng(seed)
    block, positions = a_block(rng, items=items, labels=labels, negatives=negatives, shared=shared)
    scores = some_scores(rng, block.rows.max() + 1, items, kind)
    found, expected = empty_places(labels, items), empty_places(labels, items)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        way(scores, block, read_only(positions), exclude_seen=exclude_seen, places=found)
    finally:
        torch.set_num_threads(before)
    plainly(scores, block, positions, exclude_seen=exclude_seen, places=expected)
    for name in ("sampled", "full", "repeat", "recommended"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
