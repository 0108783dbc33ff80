"""Work on several threads, each of which does all of its part by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import threadpoolctl
import torch


def in_threads(work: Callable[[slice], None], length: int, *, size: int | None = None) -> None:
    """Call `work` on the parts of a range, on as many threads as PyTorch may use.

    Inside, a matrix product of NumPy has one thread: those of BLAS wait for one another by
    spinning, and where another process has one of the cores they wait longer than they work.

    Args:
        work: should spend its time where the interpreter's lock is not held.
        length: of the range.
        size: of a part; by default there is one part a thread.
    """
    threads = torch.get_num_threads()
    size = size or max(1, -(-length // threads))
    parts = [slice(start, min(start + size, length)) for start in range(0, length, size)]
    with _blas().limit(limits=1, user_api="blas"):
        if min(threads, len(parts)) == 1:
            for part in parts:
                work(part)
            return
        with ThreadPoolExecutor(threads) as workers:
            list(workers.map(work, parts))


@cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread inside.

    For a few small operations: their threads meet at the end of each by spinning, and where another
    process has one of the cores a hundred microseconds of work take ten milliseconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
