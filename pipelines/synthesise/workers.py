"""Processes that draw and encode; they see neither a store nor a key."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from pipelines.errors import PipelineError

Result = TypeVar("Result")

# One takes up to 450 MB: more of them than this would take more memory than they save time.
_MOST = 6


def usual_processes() -> int:
    """A process a core, within bounds of memory."""
    return min(len(os.sched_getaffinity(0)), _MOST)


@contextmanager
def workers(processes: int) -> Iterator[Executor]:
    """So many processes, which end with the caller however that ends; for one, a thread of it.

    Raises:
        PipelineError: a process was killed, as the kernel does when memory runs out.
    """
    pool: Executor
    if processes == 1:
        pool = ThreadPoolExecutor(1, "synthesise")
    else:
        # A forked child would inherit locks of pyarrow's threads.
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, spawn, initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise PipelineError(
            f"One of {processes} drawing processes was killed, perhaps because memory ran out; "
            "give the same command again, with fewer --processes."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(
    pool: Executor, work: Callable[..., Result], tasks: Iterable[tuple[object, ...]], *, ahead: int
) -> Iterator[Result]:
    """The results of `work(*task)` in the order of the tasks, at most `ahead` of them waiting."""
    waiting: deque[Future[Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(work, *task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin() -> None:
    # Ctrl-C reaches the whole group; the parent, which gets it too, ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
