"""How the items of a history count towards its user: one weight a lag, and one an event type.

The weighted sums of all histories of a batch are one banded matrix times the points of the batch's
tiles, and so are their gradients, whatever the weights.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hyperrec_core.tiles import Tiles

Aggregator = Literal["uniform", "window", "exponential", "learned"]
"""`uniform`: all items of the history alike, the paper's; `window`: the newest `lags` alike;
`exponential`: the newest `lags`, each `recency` times the one after it; `learned`: a weight for
each of the newest `lags`, exponential before training."""

WHOLE_HISTORY = 1 << 30
"""Lags of an aggregator that looks at all of a history."""


def initial_logits(kind: Aggregator, lags: int, recency: float, device: torch.device) -> Tensor:
    """Logarithms of the weights by lag, newest first, float32 [lags]; [0] for `uniform`."""
    if kind == "uniform":
        return torch.zeros(0, device=device)
    lag = torch.arange(lags, dtype=torch.float32, device=device)
    return torch.zeros_like(lag) if kind == "window" else lag * torch.log(torch.tensor(recency))


class Band:
    """The banded matrix of a batch: what each position of a tile weighs in each history.

    Attributes:
        lag: int64 [T, S, P], how many items are newer within the history; the number of lags where
            a position is not in the history.
        weights: float32 [T, S, P]; 0 where a position is not in the history.
        entry: factor of each position by its event type, [T, P], or None.
    """

    def __init__(self, tiles: Tiles, by_lag: Tensor, entry: Tensor | None) -> None:
        """Lay the weights out.

        Args:
            tiles: the batch.
            by_lag: weight of each lag, [lags], or empty where all weigh 1.
            entry: factor of each position, [T, P], or None.
        """
        self._tiles = tiles
        columns = torch.arange(tiles.items.shape[1], device=tiles.items.device)
        lag = tiles.ends.unsqueeze(2) - 1 - columns
        inside = (lag >= 0) & (lag < tiles.lengths.unsqueeze(2))
        self._lags = len(by_lag)
        if self._lags:
            self.lag = lag.masked_fill_(~inside, self._lags)
            padded = torch.cat((by_lag, by_lag.new_zeros(1)))
            self._plain = padded.index_select(0, self.lag.view(-1)).view(self.lag.shape)
        else:
            self._plain = inside.to(torch.get_default_dtype())
        self.entry = entry
        self.weights = self._plain if entry is None else self._plain * entry.unsqueeze(1)

    def sums(self, points: Tensor) -> Tensor:
        """Weighted sum of each history. [T, P, D] -> [C, D]."""
        return torch.bmm(self.weights, points).flatten(0, 1)[self._tiles.slots]

    def gradients(self, points: Tensor, gradient: Tensor, *, by_lag: bool) -> Gradients:
        """Derivatives of a loss through `sums`.

        Args:
            points: what was summed, [T, P, D].
            gradient: derivatives by the sums, [C, D].
            by_lag: whether those by the lag weights are wanted.
        """
        tiles, places, _ = self.weights.shape
        spread = gradient.new_zeros(tiles * places, gradient.shape[1])
        spread[self._tiles.slots] = gradient
        spread = spread.view(tiles, places, -1)
        of_points = torch.bmm(self.weights.transpose(1, 2), spread)
        of_lags = of_entry = None
        if by_lag or self.entry is not None:
            of_weights = torch.bmm(spread, points.transpose(1, 2))
            if by_lag:
                parts = of_weights if self.entry is None else of_weights * self.entry.unsqueeze(1)
                of_lags = torch.bincount(
                    self.lag.view(-1), parts.reshape(-1), minlength=self._lags + 1
                )[: self._lags].to(gradient.dtype)
            if self.entry is not None:
                of_entry = (of_weights * self._plain).sum(1)
        return Gradients(of_points, of_lags, of_entry)


class Gradients(NamedTuple):
    """Derivatives by points [T, P, D], by lag weights [lags] and by entry factors [T, P]."""

    points: Tensor
    lags: Tensor | None
    entry: Tensor | None
