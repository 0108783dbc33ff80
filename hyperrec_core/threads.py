"""Work on several threads, each of which does all of its part by itself."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue

import numpy as np
import threadpoolctl
import torch
from numpy.typing import NDArray

from hyperrec_core.kernels.meeting import (
    BEGUN,
    DONE,
    FAILED,
    HALFWAY,
    Meeting,
    has_told,
    have_told,
    next_has_begun,
    tell,
)


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


Job = Callable[[int, Meeting], None]
_PAUSE = 1e-4  # seconds


class Crew:
    """Threads that stay, for jobs of less than a millisecond; the caller's is one of them."""

    def __init__(self, threads: int) -> None:
        """Start them; they end with the object."""
        self._turn = 0
        self._marks = np.zeros((5, threads, 8), np.int64)
        self._inboxes = [SimpleQueue[_Shift | None]() for _ in range(threads - 1)]
        for part, inbox in enumerate(self._inboxes, start=1):
            threading.Thread(
                target=_serve,
                args=(part, inbox, self._marks),
                daemon=True,
                name=f"kernel-{part}",
            ).start()

    def __len__(self) -> int:
        return len(self._inboxes) + 1

    def run(self, job: Job, *, parts: int) -> None:
        """Call `job(part, meeting)` for every part at once and wait until all are done.

        Where one raises, the error is raised here.

        Args:
            job: should spend its time where the interpreter's lock is not held. It may tell the
                meeting that its part has begun, is halfway or done as soon as that is so, which
                spares who waits for it a moment; when it returns, all that is told.
            parts: at most as many as there are threads.
        """
        self._turn += 1
        shift = _Shift(job, Meeting(self._marks, self._turn, parts))
        for inbox in self._inboxes[: parts - 1]:
            inbox.put(shift)
        shift.work(0)
        while not have_told(shift.meeting, DONE, 0):
            time.sleep(_PAUSE)
        if shift.errors:
            raise shift.errors[0]

    def __del__(self) -> None:
        for inbox in self._inboxes:
            inbox.put(None)


def wait_halfway(meeting: Meeting, part: int) -> None:
    """Let a part wait until all are halfway.

    Raises:
        RuntimeError: another part has failed; what it raised is what the crew raises.
    """
    while not have_told(meeting, HALFWAY, part):
        if any(has_told(meeting, FAILED, other) for other in range(meeting.parts)):
            raise RuntimeError("Another part has failed.")
        time.sleep(_PAUSE)


class _Shift:
    """A job in hand."""

    def __init__(self, job: Job, meeting: Meeting) -> None:
        self.meeting, self.errors = meeting, list[BaseException]()
        self._job = job

    def work(self, part: int) -> None:
        """Do a part."""
        try:
            self._job(part, self.meeting)
        except BaseException as error:  # an interrupt, too: the others are waiting
            self.errors.append(error)
            told = (FAILED, BEGUN, DONE)  # nobody may go on with the half that is lacking
        else:
            told = (BEGUN, HALFWAY, DONE)
        for stage in told:
            tell(self.meeting, stage, part)


def _serve(part: int, inbox: SimpleQueue[_Shift | None], marks: NDArray[np.int64]) -> None:
    last = 0
    while True:
        # Asleep in the queue, a thread would take 40 microseconds to wake.
        next_has_begun(Meeting(marks, last, 1), part)
        shift = inbox.get()
        if shift is None:
            return
        last = shift.meeting.turn
        shift.work(part)
