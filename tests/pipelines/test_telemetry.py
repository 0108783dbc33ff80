"""What a collector of OpenTelemetry gets over a real socket, and what a program gets of the log."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from pipelines import logs, telemetry
from pipelines.errors import PipelineError, UsageError
from pipelines.runs import Run, RunRecord
from pipelines.settings import Environment
from pipelines.storage import Folder
from tests.support import Place


@dataclass
class Collector:
    """What was sent to it, and the last headers."""

    url: str
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    points: dict[str, list[tuple[dict[str, Any], float]]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(plain(of_resource.resource.attributes))
                self.spans += [s for scope in of_resource.scope_spans for s in scope.spans]
        elif path == "/v1/metrics":
            for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in of_resource.scope_metrics:
                    for metric in scope.metrics:
                        self.points[metric.name] = [*points(metric)]


def plain(attributes: Any) -> dict[str, Any]:
    def value(each: KeyValue) -> Any:
        return getattr(each.value, each.value.WhichOneof("value"))

    return {each.key: value(each) for each in attributes}


def points(metric: Any) -> Iterator[tuple[dict[str, Any], float]]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        number = point.sum if kind == "histogram" else getattr(point, point.WhichOneof("value"))
        yield plain(point.attributes), number


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.headers = dict(self.headers.items())
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def forget() -> None:
    """Of the providers of one test the next has no use: its environment is another one."""
    if telemetry._reporter.cache_info().currsize and (made := telemetry._reporter()):
        made.shut_down()
    telemetry._reporter.cache_clear()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    forget()
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found
        forget()  # while it still answers


@pytest.fixture
def run(tmp_path: Path) -> Run:
    record = RunRecord.identify(
        as_of=date(2024, 1, 9), source="az://raw", listing=[], configuration={"seed": 1}
    )
    return Run.start(Folder(tmp_path), record)


METRICS: dict[Any, dict[str, Any]] = {
    "preprocess": {
        "rows_read": 10,
        "rows_kept": 7,
        "rows_quarantined": 2,
        "rows_dropped": 1,
        "labels": {"test": 3},
    },
    "train": {"examples_per_second": 1000, "device": "cpu"},
    "evaluate": {
        "results": {"model": {"hr_at_10": 0.5, "ndcg_at_10": 0.25}},
        "verdicts": [{"gate": "finite", "outcome": "pass"}, {"gate": "active", "outcome": "warn"}],
        "outcome": "warn",
    },
    "export": {
        "version": "2024-01-09-abc",
        "items": 60,
        "written": 60,
        "deleted": 2,
        "request_units": 500.5,
    },
}


def test_a_run_is_one_trace_of_its_stages(run: Run, collector: Collector) -> None:
    for stage, metrics in METRICS.items():
        run.finish(stage, lambda _, metrics=metrics: metrics)
    names = [f"stage {stage}" for stage in METRICS] + [f"run {run.run_id}"]
    assert [span.name for span in collector.spans] == names
    *stages, whole = collector.spans
    assert {span.trace_id for span in collector.spans} == {whole.trace_id}
    assert whole.parent_span_id == b""
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    assert len({span.span_id for span in collector.spans}) == 5
    assert abs(whole.start_time_unix_nano - stages[0].start_time_unix_nano) < 10**9
    assert whole.end_time_unix_nano >= stages[-1].end_time_unix_nano
    assert collector.resources[0]["service.name"] == "hyperrec"

    first, *_, last = (plain(span.attributes) for span in stages)
    assert first["hyperrec.run_id"] == last["hyperrec.run_id"] == run.run_id
    assert (first["hyperrec.stage"], first["hyperrec.as_of"]) == ("preprocess", "2024-01-09")
    assert first["hyperrec.preprocess.rows_read"] == 10
    assert last["hyperrec.export.version"] == "2024-01-09-abc"

    points = collector.points
    rows = {labels["fate"]: number for labels, number in points["hyperrec.rows"]}
    assert rows == {"read": 10, "kept": 7, "quarantined": 2, "dropped": 1}
    assert points["hyperrec.train.examples_per_second"] == [({}, 1000)]
    assert points["hyperrec.export.request_units"] == [({}, 500.5)]
    version = {"version": "2024-01-09-abc"}
    assert points["hyperrec.version.items"] == [(version, 60)]
    assert points["hyperrec.version.as_of"] == [(version, 1704758400)]
    assert ({"gate": "active", "outcome": "warn"}, 1) in points["hyperrec.verdicts"]
    assert ({"scorer": "model", "metric": "hr_at_10"}, 0.5) in points["hyperrec.quality"]
    done = [({"stage": stage, "outcome": "done"}, 1) for stage in METRICS]
    assert sorted(points["hyperrec.stages"], key=str) == sorted(done, key=str)
    assert len(points["hyperrec.stage.duration"]) == 4


def test_a_stage_that_fails_says_so_and_one_that_is_done_is_no_news(
    run: Run, collector: Collector
) -> None:
    def fail(_: Any) -> dict[str, Any]:
        raise PipelineError("Nothing is left of 3 rows.")

    with pytest.raises(PipelineError, match="Nothing is left"):
        run.finish("preprocess", fail)
    (span,) = collector.spans
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message == "Nothing is left of 3 rows."
    assert plain(span.attributes)["error.type"] == "PipelineError"
    assert not span.events  # no traceback
    assert collector.points["hyperrec.stages"] == [
        ({"stage": "preprocess", "outcome": "failed"}, 1)
    ]

    run.finish("preprocess", lambda _: METRICS["preprocess"])
    run.finish("preprocess", fail)
    assert len(collector.spans) == 2


def test_the_standard_variables_mean_what_they_mean(
    run: Run, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-night")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shoes")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    run.finish("train", lambda _: METRICS["train"])
    assert collector.resources[0]["service.name"] == "shop-night"
    assert collector.headers["x-tenant"] == "shoes"
    assert len(collector.spans) == 1
    assert collector.points == {}
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    run.finish("evaluate", lambda _: METRICS["evaluate"])
    assert len(collector.spans) == 1


def test_a_collector_that_is_away_fails_no_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    assert run.finish("train", lambda _: METRICS["train"]).metrics == METRICS["train"]
    forget()


def test_numbers_that_cannot_be_told_fail_no_stage(
    run: Run, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    run.finish("train", lambda _: {})
    assert run.manifest("train") is not None
    assert "could not be reported" in caplog.text


def test_without_the_packages_it_says_what_to_install(
    run: Run,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded = [name for name in sys.modules if name.startswith(("opentelemetry.", "pipelines.otlp"))]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    run.finish("train", lambda _: METRICS["train"])
    run.finish("evaluate", lambda _: METRICS["evaluate"])
    assert caplog.text.count("pip install 'hyperrec[telemetry]'") == 1


def test_nothing_is_imported_unless_asked_for() -> None:
    code = (
        "import sys, pipelines.runs, pipelines.telemetry as t\n"
        "assert not any(map(t.is_on, ('TRACES', 'METRICS')))\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def lines(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(logs.JsonLines().format(record))
    return found


def made(message: str, *given: Any) -> logging.LogRecord:
    return logging.LogRecord("pipelines.x", logging.WARNING, __file__, 1, message, given, None)


def test_lines_of_json_say_which_run_and_stage_they_are_about(run: Run) -> None:
    found = []

    def work(_: Any) -> dict[str, Any]:
        thread = Thread(target=lambda: found.append(lines(made("%d rows\nread", 3))))
        thread.start()
        thread.join()
        return {}

    run.finish("preprocess", work)
    (line,) = found
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "pipelines.x",
        "message": "3 rows\nread",
        "run_id": run.run_id,
        "stage": "preprocess",
    }
    assert "run_id" not in lines(made("after it"))


def test_stages_side_by_side_may_end_in_any_order() -> None:
    first, second = logs.about("first", "train"), logs.about("second", "train")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert lines(made("in the second"))["run_id"] == "second"
    second.__exit__(None, None, None)
    assert "run_id" not in lines(made("after both"))


def test_the_command_writes_lines_of_json_alone(tmp_path: Path) -> None:
    place = Place.make(tmp_path).with_settings(HYPERREC_LOG="json")
    done = place.hyperrec("train", "no-run", "--runs", str(tmp_path), code=2)
    (line,) = map(json.loads, done.err.splitlines())
    assert line["level"] == "error"
    assert line["message"].startswith("There is no run no-run in")


def test_another_kind_of_log_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERREC_LOG", "yaml")
    with pytest.raises(UsageError, match="HYPERREC_LOG cannot be 'yaml'"):
        Environment()
