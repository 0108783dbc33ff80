"""Processes for work that takes hours: one thread each, because most of it is memory traffic."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process

import threadpoolctl
import torch


def pool(workers: int) -> ProcessPoolExecutor:
    """So many processes; two of one thread do more than one of two."""
    # A forked child would inherit locks of PyTorch's threads.
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin)


def _begin() -> None:
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells nobody; its workers would go on, and wait for more."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
