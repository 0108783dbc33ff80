"""The best of many scores: by a running list, block after block, or of a whole row at once.

Both ways agree on the order: the higher score first, of equal scores the lower column. A score that
is minus infinity or not a number is never among the best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperrec_core.kernels.compiled import kernel

# Scores that are held against the worst of the best in one go: most goes find none that is higher,
# and then cost a few vector instructions.
_AT_ONCE = 128


@kernel
def keep_best(row: Any, first: int, best: Any, columns: Any) -> None:
    """Go on with the list of a row's best scores through the scores that come next.

    Blocks must come in the order of their columns, so that of equal scores the lower column stays.

    Args:
        row: the next scores, [n].
        first: column of the first of them.
        best: the best so far, falling, [k]; minus infinity where there are fewer. Changed.
        columns: their columns, [k]. Changed.
    """
    k = len(best)
    for start in range(0, len(row), _AT_ONCE):
        scores = row[start : start + _AT_ONCE]
        bar = best[k - 1]
        if how_many_above(scores, bar) == 0:
            continue
        for i in range(len(scores)):
            if scores[i] > best[k - 1]:
                insert(best, columns, scores[i], first + start + i)


@kernel
def insert(best: Any, columns: Any, score: Any, column: int) -> None:
    """Put a score that is higher than the last of a list behind all that are as high."""
    place = len(best) - 1
    while place > 0 and best[place - 1] < score:
        best[place] = best[place - 1]
        columns[place] = columns[place - 1]
        place -= 1
    best[place] = score
    columns[place] = column


@kernel
def how_many_above(scores: Any, bar: Any) -> Any:
    """How many scores are higher than this one."""
    count = np.int32(0)
    for i in range(len(scores)):
        # In 64 bits, which a plain sum has, half as many fit into a vector.
        count = np.int32(count + np.int32(scores[i] > bar))
    return count


@kernel
def how_many_level(scores: Any, bar: Any) -> Any:
    """How many scores are the same as this one."""
    count = np.int32(0)
    for i in range(len(scores)):
        count = np.int32(count + np.int32(scores[i] == bar))
    return count


def best_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best scores of every row and their columns, on any device.

    PyTorch's topk alone leaves open which of equal scores it takes, so it is asked for the largest
    of integers that order as (score, column) does.

    Args:
        scores: float32 [B, items].
        k: how many; at most items.

    Returns:
        Scores [B, k], best first, minus infinity where a row has fewer, and columns [B, k].
    """
    # Of a float's bits, read as an integer, those of negative numbers order the wrong way round;
    # adding zero turns the negative zero into the positive one, which is its equal.
    bits = (scores + 0.0).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    rising = bits.view(torch.int32)
    rising = torch.where(rising < 0, rising ^ 0x7FFFFFFF, rising).long()
    column = torch.arange(scores.shape[1], device=scores.device)
    columns = (rising << 32 | (0xFFFFFFFF - column)).topk(k, dim=1).indices
    return bits.gather(1, columns), columns
