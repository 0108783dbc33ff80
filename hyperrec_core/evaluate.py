"""The rank of every held-out label: among sampled negatives, as in the papers, and among all items.

A rank is 1 plus the number of candidates that score higher; candidates that score the same as the
label are placed before it or after it by a seeded coin, so that a scorer with many ties (a
popularity count, a collapsed model) is neither favoured nor punished. A score that is not a number
ranks last. Metrics, intervals and comparisons are all computed from the ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core import placing, sampling
from hyperrec_core.histories import Batch, Histories
from hyperrec_core.ranks import Ranks
from hyperrec_core.threads import in_threads, one_thread

Scorer = Callable[[Batch], Tensor]
"""Scores of the whole catalogue for each history of a batch, [C, items], or each label of it."""


class Served(Protocol):
    """What a reader has of a model; every `Model` has it."""

    def item_vectors(self) -> Tensor:
        """What is published for items, float32 [items, K]."""
        ...

    def user_vectors(self, batch: Batch) -> Tensor:
        """What each history turns into: dot(user, item) is the score, up to a scale. [C, K]."""
        ...


# Scores held at once: 32 MB in float32. Larger blocks are slower: the allocator hands them back to
# the system every time.
_SCORES_AT_ONCE = 1 << 23

_LABELS_AT_ONCE = 1024

# Items that a thread scores in one go: the same for any number of threads, and so the rounding.
_COLUMNS = 2048

# The last of them are filled up with zeros to a multiple of this: where the kernels of BLAS treat
# the edge of a matrix apart, its sums round otherwise, and equal items would get unequal scores.
_EDGE = 64


def model_scorer(model: Served) -> Scorer:
    """Scores by the model's published vectors: exactly what a reader computes.

    On the processor a call's scores are overwritten by the next one's: fresh memory for every block
    would cost a quarter of the time.
    """
    vectors = model.item_vectors()
    items = len(vectors)
    by_column = vectors.new_zeros(vectors.shape[1], -(-items // _EDGE) * _EDGE)
    by_column[:, :items] = vectors.T
    room = np.empty((0, items), np.float32)

    def scores(batch: Batch) -> Tensor:
        nonlocal room
        with one_thread():
            users = model.user_vectors(batch.to(vectors.device))
        if users.device.type != "cpu":
            return torch.mm(users, by_column[:, :items])
        if len(room) < len(users):
            room = np.empty((len(users), items), np.float32)
        found = room[: len(users)]

        # Of matrices of so few columns NumPy's product is up to twice as fast as PyTorch's.
        def multiply(part: slice) -> None:
            if part.stop - part.start == _COLUMNS:
                np.matmul(users.numpy(), by_column[:, part].numpy(), out=found[:, part])
            else:
                filled = users.numpy() @ by_column[:, part.start :].numpy()
                found[:, part] = filled[:, : part.stop - part.start]

        in_threads(multiply, items, size=_COLUMNS)
        return torch.from_numpy(found)

    return scores


def popularity_scorer(counts: NDArray[np.int64]) -> Scorer:
    """The same score for everybody: how often an item occurs."""
    # In float32 counts above 2^24 would be rounded, and unequal ones tie; their order is not.
    _, order = np.unique(counts, return_inverse=True)
    row = torch.from_numpy(order.astype(np.float32))
    return lambda batch: row.expand(len(batch.offsets), -1)


def recent_counts(
    items: NDArray[np.int32], times: NDArray[np.int64], *, catalogue: int, share: float
) -> NDArray[np.int64]:
    """How often each item occurs among the newest interactions, for `popularity_scorer`.

    Args:
        items: item of each training interaction, [n].
        times: its time, in any unit, [n].
        catalogue: size of the vocabulary.
        share: the newest so many of the interactions count, and what is tied with the oldest
            of these; above 0 and up to 1.
    """
    if not len(times):
        return np.zeros(catalogue, np.int64)
    oldest = len(times) - max(1, round(share * len(times)))
    since = np.partition(times, oldest)[oldest]
    return np.bincount(items[times >= since], minlength=catalogue)


@torch.no_grad()
def evaluate(
    scorer: Scorer,
    histories: Histories,
    *,
    items: int,
    lags: int,
    negatives: int,
    seed: int,
    examples: NDArray[np.int64] | None = None,
    exclude_seen: bool = False,
) -> Ranks:
    """Rank every label.

    Negatives are drawn uniformly, without replacement, from the items that do not occur in the
    label's row (Chamberlain et al. 2019, section 5). A label's negatives and coins depend on the
    seed and its number alone, so any two scorers are compared on the same candidates.

    In the full ranking nothing is left out by default: repeat purchases are purchases. With
    `exclude_seen` the items of the label's history are no candidates, and a label that is one of
    them, which such a list cannot contain, ranks last.

    Args:
        scorer: scores of the catalogue for a batch.
        histories: the split to judge.
        items: size of the vocabulary.
        lags: how much of a history the scorer looks at.
        negatives: how many to draw for a label; where fewer items are unseen, all of them.
        seed: of the draw and of the ties.
        examples: numbers of the labels to rank; all by default.
        exclude_seen: leave the items of the history out of the full ranking.

    Raises:
        ValueError: there is no label.
    """
    examples = np.arange(len(histories)) if examples is None else examples
    if not len(examples):
        raise ValueError("There is no label to evaluate: the split is empty.")
    rows, ends = histories.rows[examples], histories.ends[examples]
    starts, row_ends = histories.offsets[rows], histories.offsets[rows + 1]
    positions = sampling.read_only(histories.items)
    found = placing.Places(
        sampled=np.empty(len(examples), np.int32),
        full=np.empty(len(examples), np.int32),
        repeat=np.empty(len(examples), bool),
        recommended=np.zeros(items, bool),
    )
    size = max(1, min(_LABELS_AT_ONCE, _SCORES_AT_ONCE // items))
    for start in range(0, len(examples), size):
        part = slice(start, start + size)
        numbers = examples[part]
        batch = histories.batch(numbers, lags=lags)
        scores = scorer(batch)
        by_history = len(scores) == len(batch.offsets)
        block = placing.Block(
            rows=batch.context.numpy() if by_history else np.arange(len(numbers)),
            labels=batch.labels.numpy(),
            drawn=sampling.unseen_items(
                positions,
                starts[part],
                row_ends[part],
                numbers,
                items=items,
                size=negatives,
                seed=seed,
            ),
            starts=starts[part],
            ends=ends[part],
            sampled_coins=sampling.uniform(seed, sampling.SAMPLED_TIES, numbers),
            full_coins=sampling.uniform(seed, sampling.FULL_TIES, numbers),
        )
        place = placing.by_kernel if scores.device.type == "cpu" else placing.by_tensors
        place(scores, block, positions, exclude_seen=exclude_seen, places=found.part(part))
    return Ranks(
        user=rows,
        item=histories.labels[examples],
        history=(ends - starts).astype(np.int32),
        repeat=found.repeat,
        sampled=found.sampled,
        full=found.full,
        items=items,
        negatives=negatives,
        exclude_seen=exclude_seen,
        coverage_at_10=float(found.recommended.mean()),
    )
