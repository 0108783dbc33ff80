"""Training examples: an epoch's labels, shuffled in segments and packed batch by batch.

A segment is a stretch of one row in which several histories end; they share its items, so an item
is fetched once for all histories of the segment that hold it. Everything random comes from the
seed, the epoch and the number of the batch, so that an epoch can be entered at any batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyperrec_core.histories import Histories, HistoriesError
from hyperrec_core.kernels import pack

_MOST_LABELS = (1 << 31) - 1

SEGMENT = 32
"""Histories that end within this many positions share a segment. Longer segments save fetches, but
fill a batch with fewer users: 8 takes a fifth more time and gives 0.002 more NDCG@10 on MovieLens
1M (two epochs), 657 on Online Retail's baskets a quarter less and 0.016 less (eight epochs)."""


class Examples(NamedTuple):
    """All of one step: G segments with C distinct histories, B labels after them, N negatives.

    Attributes:
        items: the segments' items, oldest first, one segment after the other, int32 [M].
        events: their event types, int8 [M], or [0] where the histories have none.
        segments: where each segment's items start, int32 [G + 1].
        heads: where each segment's histories start, int32 [G + 1].
        rows: the row of the histories that each segment is of, int32 [G].
        ends: where each history ends in its segment (exclusive), ascending in it, int32 [C].
        lengths: how many items each history has, at most the model's lags, int32 [C].
        first_labels: where each history's labels start, int32 [C + 1].
        candidates: the labels, then the negatives, items shared by all examples, int32 [B + N].
        seen: which negatives the segment's user has interacted with and so are no negatives
            (eq. 15-16 draw from the others), bool [G, N].
    """

    items: NDArray[np.int32]
    events: NDArray[np.int8]
    segments: NDArray[np.int32]
    heads: NDArray[np.int32]
    rows: NDArray[np.int32]
    ends: NDArray[np.int32]
    lengths: NDArray[np.int32]
    first_labels: NDArray[np.int32]
    candidates: NDArray[np.int32]
    seen: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int32]:
        """The item after each history, [B]."""
        return self.candidates[: -self.seen.shape[1]]

    @property
    def negatives(self) -> NDArray[np.int32]:
        """The items that no history was followed by, [N]."""
        return self.candidates[-self.seen.shape[1] :]

    @property
    def label_segments(self) -> NDArray[np.int64]:
        """The segment of each label, [B]."""
        histories = np.repeat(np.arange(len(self.rows)), np.diff(self.heads))
        return np.repeat(histories, np.diff(self.first_labels))

    def deal(
        self, segments: NDArray[np.int64], each: int
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Negatives for each label in turn, and which of them its user has interacted with.

        Neighbouring labels, which may be of one user, get other ones.

        Args:
            segments: `label_segments`.
            each: M, how many a label gets.

        Returns:
            int32 [B, M] and bool [B, M].
        """
        labels = len(self.labels)
        dealt = (np.arange(labels * each) % len(self.negatives)).reshape(labels, each)
        return self.negatives[dealt], self.seen[segments[:, np.newaxis], dealt]

    def share(self, rank: int, size: int) -> tuple[Examples, float]:
        """The segments of one of several processes, and which share of the labels they have.

        A process always gets one: where there are fewer segments than processes, some get the first
        one, and a share of 0.
        """
        wanted = self.heads[-1] * np.array([rank, rank + 1]) // size
        first, last = np.searchsorted(self.heads, wanted)
        surplus = first == last
        if surplus:
            first, last = 0, 1
        items = slice(self.segments[first], self.segments[last])
        histories = slice(self.heads[first], self.heads[last])
        firsts = self.first_labels[histories.start : histories.stop + 1]
        own = Examples(
            items=self.items[items],
            events=self.events[items],
            segments=self.segments[first : last + 1] - items.start,
            heads=self.heads[first : last + 1] - histories.start,
            rows=self.rows[first:last],
            ends=self.ends[histories],
            lengths=self.lengths[histories],
            first_labels=firsts - firsts[0],
            candidates=np.concatenate((self.labels[firsts[0] : firsts[-1]], self.negatives)),
            seen=self.seen[first:last],
        )
        return own, 0.0 if surplus else len(own.labels) / len(self.labels)


class Shuffled:
    """An epoch: all examples once, in an order and with cuts and negatives of its own."""

    def __init__(
        self,
        histories: Histories,
        *,
        seed: int,
        number: int,
        batch_size: int,
        lags: int,
        per_history: int,
        negatives: int,
        items: int,
        segment: int = SEGMENT,
    ) -> None:
        """Shuffle.

        Args:
            histories: the labels to learn from.
            seed: of all that is random.
            number: of the epoch, which is random in another way than the others.
            batch_size: a batch ends with the segment that reaches it.
            lags: how much of a history counts.
            per_history: at most this many of the labels that share a history, drawn anew; without
                the bound, a few users with large baskets are most of the loss.
            negatives: items drawn uniformly for a batch.
            items: size of the vocabulary.
            segment: histories that end within so many positions stay together, see `SEGMENT`; 1
                shuffles every label by itself.

        Raises:
            HistoriesError: there are more labels than kernels can number.
        """
        if len(histories) > _MOST_LABELS:
            raise HistoriesError(
                f"{len(histories):,} labels are more than {_MOST_LABELS:,}, which is as many as "
                "one training can take: preprocess fewer days."
            )
        self._histories = histories
        self._lags = min(lags, max(len(histories.items), 1))
        self._negatives = negatives
        self._items = items
        generator = np.random.default_rng((seed, number))
        # Where the streams of the batches start: far apart for other epochs and seeds.
        self._stream = int(generator.integers(1 << 62))
        total = pack.count_examples(histories.rows, histories.ends, per_history)
        # Where rows are cut changes from epoch to epoch, and with it which labels share a batch.
        phase = generator.integers(0, segment, len(histories.offsets) - 1)
        self._chosen, self._starts = pack.cut(
            histories.rows, histories.ends, histories.offsets, phase, segment, per_history, total,
            generator,
        )  # fmt: skip
        self._order = generator.permutation(len(self._starts) - 1)
        reached = np.cumsum(np.diff(self._starts)[self._order], dtype=np.int64)
        wanted = np.arange(batch_size, total + batch_size, batch_size)
        cuts = np.minimum(np.searchsorted(reached, wanted) + 1, len(reached))
        self._cuts = np.unique(np.concatenate(([0], cuts)))
        self.examples = total
        """How many labels the epoch has."""

    def __len__(self) -> int:
        """How many batches."""
        return len(self._cuts) - 1

    def batches(self, first: int = 0) -> Iterator[Examples]:
        """The batches from the one of that number on."""
        histories, none = self._histories, np.empty(0, np.int8)
        place = np.full(self._items, -1, np.int32)
        for number in range(first, len(self)):
            yield Examples(
                *pack.pack(
                    histories.items,
                    none if histories.events is None else histories.events,
                    histories.offsets,
                    histories.rows,
                    histories.ends,
                    histories.label_positions,
                    self._chosen,
                    self._starts,
                    self._order[self._cuts[number] : self._cuts[number + 1]],
                    self._lags,
                    self._negatives,
                    self._stream + number,
                    place,
                )
            )
