"""Work on several threads, each of which does all of its part by itself."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from typing import Any

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
    with one_blas_thread():
        if min(threads, len(parts)) == 1:
            for part in parts:
                work(part)
            return
        with ThreadPoolExecutor(threads) as workers:
            list(workers.map(work, parts))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Matrix products of NumPy and of kernels have one thread inside."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> threadpoolctl.ThreadpoolController:
    # Kernels multiply by SciPy's BLAS, which the first of them would load: too late to be found.
    importlib.import_module("scipy.linalg.cython_blas")
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


_Job = Callable[[int], None]


class Crew:
    """Threads that stay, for work of less than a millisecond; the caller's is one of them.

    A handover costs 15 microseconds, a quarter of what a future does; a training step of about a
    thousand has two of them.
    """

    def __init__(self, threads: int) -> None:
        """Start them; they end with the object."""
        self._jobs: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(1, threads)]
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        for number, jobs in enumerate(self._jobs, start=1):
            threading.Thread(
                target=_serve, args=(number, jobs, self._done), daemon=True, name=f"kernel-{number}"
            ).start()

    def __len__(self) -> int:
        return len(self._jobs) + 1

    def run(self, job: _Job, parts: int) -> None:
        """Call `job(part)` for every part at once and wait for all; raises what one raises.

        Args:
            job: should spend its time where the interpreter's lock is not held.
            parts: at most as many as there are threads.
        """
        chosen = self._jobs[: parts - 1]
        for jobs in chosen:
            jobs.put(job)
        errors: list[BaseException | None] = []
        try:
            job(0)
        finally:
            errors = [self._done.get() for _ in chosen]
        for error in errors:
            if error is not None:
                raise error

    def __del__(self) -> None:
        for jobs in self._jobs:
            jobs.put(None)


def _serve(number: int, jobs: SimpleQueue[Any], done: SimpleQueue[Any]) -> None:
    while (job := jobs.get()) is not None:
        try:
            job(number)
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
