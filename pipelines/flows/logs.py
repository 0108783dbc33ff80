"""What stages log, in the log of the flow run, whatever the worker's environment says.

Prefect sends the lines of its own loggers alone to its API; ours would need a variable on every
worker. Lines of threads, which know no flow run, go to the run of the process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler

from pipelines.errors import is_for_people

_OURS = ("pipelines", "hyperrec_core", "serving_export")
# Where Prefect tells, with its traceback, of the error that ended a task or flow.
_PREFECTS = ("prefect.flow_runs", "prefect.task_runs")


@contextmanager
def logs_of_flow() -> Iterator[None]:
    """Send our lines of a block to the present flow run, and tell mistakes without a traceback."""
    context = FlowRunContext.get()
    handler = APILogHandler()
    flow_run = None if context is None else context.flow_run
    handler.addFilter(_Belongs(None if flow_run is None else str(flow_run.id)))
    sentences = _Sentences()
    before = {}
    for name in _OURS:
        logger = logging.getLogger(name)
        before[name] = logger.level
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
    for name in _PREFECTS:
        logging.getLogger(name).addFilter(sentences)
    try:
        yield
    finally:
        for name in _PREFECTS:
            logging.getLogger(name).removeFilter(sentences)
        for name, level in before.items():
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            logger.setLevel(level)


class _Belongs(logging.Filter):
    """Names the flow run, and the task run where the line is a task's."""

    def __init__(self, flow_run_id: str | None) -> None:
        super().__init__()
        self._flow_run_id = flow_run_id
        self._process = os.getpid()

    def filter(self, record: logging.LogRecord) -> bool:
        # Forked children have no thread that sends.
        if self._flow_run_id is None or os.getpid() != self._process:
            return False
        record.flow_run_id = self._flow_run_id
        task = TaskRunContext.get()
        record.task_run_id = None if task is None else task.task_run.id
        return True


class _Sentences(logging.Filter):
    """What a person must act on is told by its sentence; only a fault of ours by its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if is_for_people(error):
            record.msg, record.args = "%s", (str(error),)
            record.exc_info = record.exc_text = None
        return True
