"""Tests of zerotrust.telemetry.tracing, with a collector."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from structlog.testing import capture_logs

from tests.support.otlp_receiver import OtlpReceiver, receiving
from tests.support.waiting import eventually
from tests.unit.telemetry.finished_requests import finished, sampled
from zerotrust.errors import SetupError
from zerotrust.model.tracing import Tracing
from zerotrust.telemetry import tracing
from zerotrust.telemetry.trace_context import TraceContext
from zerotrust.telemetry.tracing import Tracer, make_tracer, span_name

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def collector(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> OtlpReceiver:
    monkeypatch.setattr(tracing, "DELAY_MS", 20)
    receiver.spans.clear()
    receiver.status = 200
    return receiver


def has_lost_more(tracer: Tracer, lost: int) -> bool:
    return tracer.exporter.lost > lost


async def test_a_request_becomes_a_span(
    collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20c2VjcmV0")
    tracer = Tracer(Tracing(endpoint=collector.url), "server")
    trace = sampled(parent=0x1F)
    tracer.add(finished(trace=trace))
    tracer.add(finished(trace=TraceContext(1, 0, sampled=False)))
    tracer.add(finished())
    await tracer.close()
    (span,) = collector.spans
    assert (span.program, span.name, span.kind) == ("0trust-server", "GET app.example.com", 2)
    assert (span.trace, span.parent) == (f"{0xABC:032x}", f"{0x1F:016x}")
    assert span.id == f"{trace.span_id:016x}"
    assert (span.seconds, span.events, span.failed) == (0.5, ("forwarded", "answered"), False)
    assert span.attributes["url.path"] == "/a"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["zerotrust.upstream"] == "10.0.0.5:80"
    assert "secret" not in str(span)
    assert collector.headers["authorization"] == "Basic c2VjcmV0"
    assert (tracer.exporter.sent, tracer.exporter.lost) == (1, 0)


async def test_a_failure_is_an_error(collector: OtlpReceiver) -> None:
    tracer = Tracer(Tracing(endpoint=collector.url), "server")
    tracer.add(finished(trace=sampled(), status=502, error="upstream_failed", answered_at=0.0))
    await tracer.close()
    (span,) = collector.spans
    assert span.failed and span.parent == "" and span.events == ("forwarded",)
    assert span.attributes["error.type"] == "upstream_failed"


async def test_the_environment_names_the_service(
    collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    tracer = Tracer(Tracing(endpoint=collector.url), "server")
    tracer.add(finished(trace=sampled()))
    await tracer.close()
    assert [span.program for span in collector.spans] == ["edge"]


async def test_failures_of_the_collector_are_logged_once(collector: OtlpReceiver) -> None:
    tracer = Tracer(Tracing(endpoint=collector.url), "server")
    collector.status = 400
    with capture_logs() as logs:
        for _ in range(2):
            lost = tracer.exporter.lost
            tracer.add(finished(trace=sampled()))
            await eventually(partial(has_lost_more, tracer, lost), "the span is lost")
        collector.status = 200
        tracer.add(finished(trace=sampled()))
        await tracer.close()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("traces cannot be sent", "warning"),
        ("traces are sent again", "info"),
    ]
    assert (tracer.exporter.sent, tracer.exporter.lost) == (1, 2)


async def test_without_a_collector_there_is_no_tracer() -> None:
    assert make_tracer(Tracing(), "server") is None


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SetupError, match=r"pip install '0trust\[otel\]'"):
        make_tracer(Tracing(endpoint="http://127.0.0.1:4318"), "agent")


def test_nothing_of_it_is_imported_without_traces() -> None:
    code = (
        "import sys, zerotrust.telemetry.tracing\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("method", "host", "name"),
    [(b"GET", "a", "GET a"), (b"POST", "", "POST"), (b"X-\xff", "a", "HTTP a")],
)
def test_names_of_spans_are_few(method: bytes, host: str, name: str) -> None:
    assert span_name(method, host) == name
