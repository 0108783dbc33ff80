"""Work on several threads, each of which does all of its part by itself."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue

import numpy as np
import threadpoolctl
import torch

from hyperrec_core.kernels.compiled import watch


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
_READS = 100_000  # 50 microseconds or so


class Crew:
    """Threads that stay, for jobs of less than a millisecond; the caller's is one of them.

    Where one job follows another, only those who were early wait, and by `_Inbox`.
    """

    def __init__(self, threads: int) -> None:
        """Start them; they end with the object."""
        self._inboxes = [_Inbox() for _ in range(threads)]
        for number, inbox in enumerate(self._inboxes[1:], start=1):
            threading.Thread(
                target=_serve, args=(number, inbox), daemon=True, name=f"kernel-{number}"
            ).start()

    def __len__(self) -> int:
        return len(self._inboxes)

    def run(self, *jobs: _Job, parts: int) -> None:
        """Call `job(part)` for every part at once, one job after the other, and wait for all.

        A job begins when all parts of the one before it are done. Where one raises, no further job
        begins, and the error is raised here.

        Args:
            jobs: should spend their time where the interpreter's lock is not held.
            parts: at most as many as there are threads.
        """
        shift = _Shift(jobs, self._inboxes[:parts])
        for inbox in shift.inboxes[1:]:
            inbox.put(shift)
        try:
            shift.work(0)
        except BaseException as error:  # an interrupt while waiting for the others
            shift.errors.append(error)
        if shift.errors:
            raise shift.errors[0]

    def __del__(self) -> None:
        for inbox in self._inboxes[1:]:
            inbox.put(None)


class _Inbox:
    """A queue for one reader, who watches it for a moment before going to sleep.

    To wake a sleeping thread costs 40 microseconds, and a training step has three occasions. The
    moment is short because whoever spins may take the core from the one who is waited for.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Shift | None] = SimpleQueue()
        self._filled = np.zeros(1, np.int64)

    def put(self, shift: _Shift | None) -> None:
        self._queue.put(shift)
        self._filled[0] = 1

    def get(self) -> _Shift | None:
        watch(self._filled, _READS)
        return self._queue.get()


class _Shift:
    """Jobs in hand, and who is done with which of them."""

    def __init__(self, jobs: tuple[_Job, ...], inboxes: list[_Inbox]) -> None:
        self.inboxes, self.errors = inboxes, list[BaseException]()
        self._jobs = jobs
        # All parts but the last take a ticket when they are done. Lists need no lock.
        self._tickets = [[None] * (len(inboxes) - 1) for _ in jobs]

    def work(self, part: int) -> None:
        """All jobs of a part. Part 0 returns when all parts are done, others when they are."""
        for number, (job, tickets) in enumerate(zip(self._jobs, self._tickets, strict=True)):
            if number == 0 or not self.errors:
                try:
                    job(part)
                except BaseException as error:
                    self.errors.append(error)
            waiting = self.inboxes if number < len(self._jobs) - 1 else self.inboxes[:1]
            try:
                tickets.pop()
            except IndexError:
                for inbox in waiting:
                    if inbox is not self.inboxes[part]:
                        inbox.put(self)
            else:
                if self.inboxes[part] in waiting:
                    self.inboxes[part].get()


def _serve(number: int, inbox: _Inbox) -> None:
    while (shift := inbox.get()) is not None:
        shift.work(number)
