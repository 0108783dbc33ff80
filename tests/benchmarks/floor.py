"""The floor: the three matrix products that a step with shared negatives cannot do without."""

from __future__ import annotations

import statistics
import time

import torch

_BLOCKS = 7


def gemm_floor(
    *, batch: int, width: int, negatives: int, seconds: float, device: torch.device
) -> float:
    """Examples a second of the scores and of both their gradients, and nothing else.

    (B, D) x (D, N) for the scores, (B, N) x (N, D) and (N, B) x (B, D) for the gradients, in
    float32, with outputs in memory that is there already. The median of a few blocks, since a
    passing disturbance would lower the floor and flatter what is compared with it.

    Args:
        batch: B, examples a step.
        width: D, numbers a point.
        negatives: N.
        seconds: how long to measure.
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
    steps = max(1, int(rate(20) * seconds / (_BLOCKS * batch)))
    return statistics.median(rate(steps) for _ in range(_BLOCKS))


def wait(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
