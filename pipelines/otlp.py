"""Stages as spans and metrics of OpenTelemetry's SDK, for `telemetry`, which says what they are.

Needs the packages of the extra `telemetry`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

if TYPE_CHECKING:
    from pipelines.runs import Manifest, Run

_NANOSECONDS = 1_000_000_000


class Reporter:
    """The SDK's providers of this process, apart from global ones: those are others' to set."""

    def __init__(self, traces: bool, metrics: bool) -> None:
        """Providers that send the signals asked for, to where the environment says."""
        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        resource = Resource.create({} if named else {"service.name": "hyperrec"})
        self._ids = _Ids()
        self._traces = TracerProvider(resource=resource, id_generator=self._ids)
        if traces:
            self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if metrics else []
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
        about = {"hyperrec.run_id": run.run_id, "hyperrec.as_of": run.record.as_of.isoformat()}
        parent = trace.NonRecordingSpan(_of_run(run.run_id))
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


def _instruments(meter: Meter) -> dict[str, Any]:
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


class _Ids(RandomIdGenerator):
    """Ids of traces and spans: of a run's own span made of its run id, else drawn."""

    def __init__(self) -> None:
        self._given: tuple[int, int] | None = None

    @contextmanager
    def those_of(self, run_id: str) -> Iterator[None]:
        """The next span is the run's own."""
        self._given = _made_of(run_id)
        try:
            yield
        finally:
            self._given = None

    def generate_trace_id(self) -> int:
        """As the SDK asks for one."""
        return self._given[0] if self._given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """As the SDK asks for one."""
        return self._given[1] if self._given else super().generate_span_id()


def _of_run(run_id: str) -> trace.SpanContext:
    """What the spans of a run's stages have for their parent."""
    trace_id, span_id = _made_of(run_id)
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=sampled)


def _made_of(run_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(run_id.encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")
