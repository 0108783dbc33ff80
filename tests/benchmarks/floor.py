"""The floor: the three matrix products that a step with shared negatives cannot do without."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch

_BLOCKS = 7
_SECONDS, _EVERY = 0.04, 0.2  # how long a floor is measured, and how long after the last one


def gemm_floor(*, batch: int, width: int, negatives: int, device: torch.device) -> float:
    """Examples a second of the scores and of both their gradients, and nothing else.

    (B, D) x (D, N) for the scores, (B, N) x (N, D) and (N, B) x (B, D) for the gradients, in
    float32, with outputs in memory that is there already. The median of a few blocks, since a
    passing disturbance would lower the floor and flatter what is compared with it.

    Args:
        batch: B, examples a step.
        width: D, numbers a point.
        negatives: N.
        device: where to compute.
    """
    users = torch.randn(batch, width, device=device)
    items = torch.randn(negatives, width, device=device)
    scores = torch.empty(batch, negatives, device=device)
    by_users, by_items = torch.empty_like(users), torch.empty_like(items)

    def step() -> None:
        torch.mm(users, items.T, out=scores)
        torch.mm(scores, items, out=by_users)
        torch.mm(scores.T, users, out=by_items)

    def rate(steps: int) -> float:
        wait(device)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait(device)
        return steps * batch / (time.perf_counter() - started)

    rate(3)
    steps = max(1, int(rate(20) * _SECONDS / (_BLOCKS * batch)))
    return statistics.median(rate(steps) for _ in range(_BLOCKS))


class Beside:
    """Measures a floor every so often between the batches of a fit.

    A machine that others use is twice as fast in one second as in the next: a floor before the fit
    and one after it say little of the time between.

    Attributes:
        epochs: the rates measured in each epoch, and the seconds that each measurement took.
    """

    def __init__(self, floor: Callable[[], float], device: torch.device) -> None:
        self.epochs: list[list[tuple[float, float]]] = []
        self._floor, self._device = floor, device
        self._done, self._due = math.inf, 0.0

    def __call__(self, done: int, *_: object) -> None:
        """After a batch, with the number of examples done of the epoch."""
        if done <= self._done:
            self.epochs.append([])
            self._due = 0.0
        self._done = done
        if time.perf_counter() < self._due:
            return
        wait(self._device)
        started = time.perf_counter()
        rate = self._floor()
        now = time.perf_counter()
        self.epochs[-1].append((rate, now - started))
        self._due = now + _EVERY


def wait(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
