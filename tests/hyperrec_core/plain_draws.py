"""The draws of hyperrec_core.sampling once more, in plain NumPy on whole tables."""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(state):
    """SplitMix64's output function (Steele, Lea & Flood 2014, figure 17)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def bits(seed, stream, labels, places):
    """The numbers at these places, from 1 on, of the labels' streams: [labels, places]."""
    state = mix(np.array([seed], np.uint64) * GOLDEN + np.uint64(stream))
    start = mix(state + labels.astype(np.uint64) * GOLDEN)
    return mix(start[:, None] + places.astype(np.uint64) * GOLDEN)


def uniform(seed, stream, labels):
    return (bits(seed, stream, labels, np.array([1]))[:, 0] >> np.uint64(11)) * 2.0**-53


def unseen_items(seen, labels, *, size, seed):
    """Drawn items [B, size] for `seen` [B, items], -1 where there are fewer."""
    drawn = np.full((len(labels), size), -1)
    for row, label in enumerate(labels):
        unseen = np.flatnonzero(~seen[row])
        if len(unseen) < max(2 * size, seen.shape[1] // 2):
            keys = bits(seed, 0, np.array([label]), unseen + 1)[0]
            found = unseen[np.argsort(keys, kind="stable")][:size]
            drawn[row, : len(found)] = found
            continue
        wrong, place = np.ones(size, bool), np.arange(1, size + 1)
        while wrong.any():
            random = bits(seed, 0, np.array([label]), place)[0] >> np.uint64(32)
            again = (random * np.uint64(seen.shape[1]) >> np.uint64(32)).astype(np.int64)
            drawn[row] = np.where(wrong, again, drawn[row])
            wrong = seen[row, drawn[row]]
            first = np.unique(drawn[row], return_index=True)[1]
            wrong[np.setdiff1d(np.arange(size), first)] = True
            place = place + size
    return drawn
