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

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipelines import logs

if TYPE_CHECKING:
    from pipelines.runs import Manifest, Run

log = logging.getLogger(__name__)

Record = Callable[["Manifest"], None]

_SIGNALS = ("TRACES", "METRICS")
_NANOSECONDS = 1_000_000_000


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
def _reporter() -> _Reporter | None:
    try:
        return _Reporter()
    except ImportError:
        log.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's packages are missing: "
            "pip install 'hyperrec[telemetry]'."
        )
        return None


class _Reporter:
    """The SDK's providers of this process, apart from global ones: those are others' to set."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if named else {"service.name": "hyperrec"})
        self._ids = _Ids()
        self._traces = TracerProvider(resource=resource, id_generator=self._ids.generator())
        if is_on("TRACES"):
            self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if is_on("METRICS") else []
        self._metrics = MeterProvider(metric_readers=readers, resource=resource)
        self._tracer = self._traces.get_tracer("hyperrec")
        self._measure = _instruments(self._metrics.get_meter("hyperrec"))

    def report(
        self,
        run: Run,
        stage: str,
        manifest: Manifest | None,
        started: int,
        seconds: float,
        failure: BaseException | None,
    ) -> None:
        """Send a stage's span and metrics."""
        from opentelemetry import trace  # noqa: PLC0415

        about = {"hyperrec.run_id": run.run_id, "hyperrec.as_of": run.record.as_of.isoformat()}
        parent = trace.NonRecordingSpan(self._ids.of_run(run.run_id))
        span = self._tracer.start_span(
            f"stage {stage}",
            context=trace.set_span_in_context(parent),
            start_time=started,
            attributes={**about, "hyperrec.stage": stage},
        )
        if manifest is not None:
            span.set_attributes(_attributes(manifest))
        if failure is not None:
            # Its sentence alone: a traceback may show what a stage was working on.
            span.set_attribute("error.type", type(failure).__name__)
            span.set_status(trace.StatusCode.ERROR, str(failure))
        span.end()
        if stage == "export" and manifest is not None:
            self._end_run(run, about)
        outcome = "failed" if failure is not None else "done"
        labels = {"stage": stage, "outcome": outcome}
        self._measure["stages"].add(1, labels)
        self._measure["seconds"].record(seconds, labels)
        if manifest is not None:
            self._measure_manifest(manifest, run.record.as_of)
        self._traces.force_flush()
        self._metrics.force_flush()

    def shut_down(self) -> None:
        """Send what is left, and no more afterwards; the SDK does so when the process ends."""
        self._traces.shutdown()
        self._metrics.shutdown()

    def _end_run(self, run: Run, about: Mapping[str, str]) -> None:
        from opentelemetry.context import Context  # noqa: PLC0415

        started = run.require("preprocess").started_at
        with self._ids.those_of(run.run_id):
            span = self._tracer.start_span(
                f"run {run.run_id}",
                context=Context(),
                start_time=int(started.timestamp() * _NANOSECONDS),
                attributes=dict(about),
            )
        span.end()

    def _measure_manifest(self, manifest: Manifest, as_of: date) -> None:
        measure, metrics = self._measure, manifest.metrics
        measure["memory"].set(manifest.peak_memory_bytes, {"stage": manifest.stage})
        if manifest.stage == "preprocess":
            for fate in ("read", "kept", "quarantined", "dropped"):
                if f"rows_{fate}" in metrics:
                    measure["rows"].add(metrics[f"rows_{fate}"], {"fate": fate})
        elif manifest.stage == "train":
            measure["speed"].set(metrics["examples_per_second"])
        elif manifest.stage == "evaluate":
            for scorer, result in metrics["results"].items():
                for metric in ("hr_at_10", "ndcg_at_10"):
                    measure["quality"].set(result[metric], {"scorer": scorer, "metric": metric})
            for verdict in metrics["verdicts"]:
                labels = {"gate": verdict["gate"], "outcome": verdict["outcome"]}
                measure["verdicts"].add(1, labels)
        elif manifest.stage == "export":
            version = {"version": metrics["version"]}
            for what in ("written", "deleted"):
                measure["documents"].add(metrics[what], {"what": what})
            measure["request_units"].add(metrics["request_units"])
            measure["version_items"].set(metrics["items"], version)
            day = datetime.combine(as_of, datetime.min.time(), UTC)
            measure["version_as_of"].set(int(day.timestamp()), version)


def _instruments(meter: Any) -> dict[str, Any]:
    """What is measured, by the name it has here."""
    return {
        "stages": meter.create_counter("hyperrec.stages", description="attempts at stages"),
        "seconds": meter.create_histogram("hyperrec.stage.duration", unit="s"),
        "memory": meter.create_gauge("hyperrec.stage.peak_memory", unit="By"),
        "rows": meter.create_counter("hyperrec.rows", description="rows by what became of them"),
        "speed": meter.create_gauge("hyperrec.train.examples_per_second"),
        "quality": meter.create_gauge("hyperrec.quality", description="metrics on the test set"),
        "verdicts": meter.create_counter("hyperrec.verdicts", description="what gates said"),
        "documents": meter.create_counter("hyperrec.export.documents"),
        "request_units": meter.create_counter("hyperrec.export.request_units"),
        "version_items": meter.create_gauge("hyperrec.version.items"),
        "version_as_of": meter.create_gauge(
            "hyperrec.version.as_of", unit="s", description="last day of the version published"
        ),
    }


def _attributes(manifest: Manifest) -> dict[str, Any]:
    """The plain numbers and words of a manifest."""
    plain = {
        f"hyperrec.{manifest.stage}.{name}": value
        for name, value in manifest.metrics.items()
        if isinstance(value, (int, float, str))
    }
    return plain | {
        "hyperrec.attempt": manifest.attempt,
        "hyperrec.code_version": manifest.code_version,
        "hyperrec.peak_memory_bytes": manifest.peak_memory_bytes,
    }


class _Ids:
    """Ids of traces and spans: of a run's own span made of its run id, else drawn."""

    def __init__(self) -> None:
        self._given: tuple[int, int] | None = None

    def of_run(self, run_id: str) -> Any:
        """What the spans of a run's stages have for their parent."""
        from opentelemetry import trace  # noqa: PLC0415

        trace_id, span_id = _made_of(run_id)
        sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=sampled)

    @contextmanager
    def those_of(self, run_id: str) -> Iterator[None]:
        """The next span is the run's own."""
        self._given = _made_of(run_id)
        try:
            yield
        finally:
            self._given = None

    def generator(self) -> Any:
        """As the SDK asks for ids."""
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

        ids = self

        class Generator(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                return ids._given[0] if ids._given else super().generate_trace_id()

            def generate_span_id(self) -> int:
                return ids._given[1] if ids._given else super().generate_span_id()

        return Generator()


def _made_of(run_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(run_id.encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")
