"""Processes for work that takes hours: one thread each, because most of it is memory traffic."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import threadpoolctl
import torch


def pool(workers: int) -> ProcessPoolExecutor:
    """So many processes; two of one thread do more than one of two."""
    # A forked child would inherit locks of PyTorch's threads.
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
