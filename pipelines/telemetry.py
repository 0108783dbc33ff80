"""Spans and metrics of stages by OpenTelemetry, sent by OTLP over HTTP; nothing unless asked for.

The standard variables ask for it: `OTEL_EXPORTER_OTLP_ENDPOINT` (or that of traces or of metrics
alone), and `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`,
`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and
`OTEL_EXPORTER_OTLP_TIMEOUT` mean what they mean everywhere. The packages come with the extra
`telemetry`. Where it is not asked for, nothing of OpenTelemetry is imported.

A run is one trace, whichever processes do its stages: its ids are made of the run id. Each attempt
at a stage is a span; the span of the run itself, from its first stage's beginning, is sent when it
is published. A collector that does not answer fails nothing; it costs a stage up to its timeout for
each of the two signals.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from pipelines import logs

if TYPE_CHECKING:
    from pipelines.otlp import Reporter
    from pipelines.runs import Manifest, Run

log = logging.getLogger(__name__)

Record = Callable[["Manifest"], None]

_SIGNALS = ("TRACES", "METRICS")


def is_on(signal: str) -> bool:
    """Whether the environment asks for a signal, `TRACES` or `METRICS`."""
    environment = os.environ
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get(f"OTEL_{signal}_EXPORTER", "otlp") == "none":
        return False
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(environment.get(place) for place in places)


@contextmanager
def stage(run: Run, name: str) -> Iterator[Record]:
    """Tell of a stage while it is done: in the log's lines, and as a span and metrics if asked for.

    Yields:
        What is called with the manifest when the stage is done.
    """
    with logs.about(run.run_id, name):
        reporter = _reporter() if any(is_on(signal) for signal in _SIGNALS) else None
        if reporter is None:
            yield lambda _: None
            return
        found: list[Manifest] = []
        started, clock = time.time_ns(), time.monotonic()
        failure: BaseException | None = None
        try:
            yield found.append
        except BaseException as error:
            failure = error
            raise
        finally:
            try:
                manifest = found[-1] if found else None
                seconds = time.monotonic() - clock
                reporter.report(run, name, manifest, started, seconds, failure)
            except Exception as error:
                # Whatever goes wrong in telling of it, the stage is as it is.
                log.warning("The stage could not be reported to OpenTelemetry: %r", error)


@lru_cache(maxsize=1)
def _reporter() -> Reporter | None:
    try:
        from pipelines.otlp import Reporter  # noqa: PLC0415  only where it is asked for
    except ImportError:
        log.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's packages are missing: "
            "pip install 'hyperrec[telemetry]'."
        )
        return None
    return Reporter(*(is_on(signal) for signal in _SIGNALS))
