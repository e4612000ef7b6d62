"""Tracer: sends spans to a collector by OTLP over HTTP.

OpenTelemetry's SDK queues the spans and sends them in a thread of its own. It is imported when a
tracer is made, and is not needed otherwise.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Metric

from zerotrust import __version__
from zerotrust.errors import SetupError
from zerotrust.model.tracing import Tracing
from zerotrust.telemetry import logs
from zerotrust.telemetry.logs import escape_controls
from zerotrust.telemetry.metrics import counter
from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.telemetry.trace_context import TraceContext, begin_trace

_log = logs.logger("tracing")

MAX_QUEUED: Final = 2048
"""Spans that wait for the collector; beyond that the oldest are dropped."""
_BATCH: Final = 128
"""Spans of one message. Encoding it holds the interpreter, so that it must be short."""
DELAY_MS: Final = 1000
"""Milliseconds in which spans are collected for one message."""
_TIMEOUT: Final = 5.0
_CLOSE_TIMEOUT: Final = 3.0
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)

Attributes = dict[str, str | int]


@dataclass(slots=True, kw_only=True)
class FinishedSpan:
    """A span to send.

    Attributes:
        started: nanoseconds since 1970.
        seconds: the duration.
        events: names, each with its seconds since the start.
        inbound: the span is that of a server; otherwise of a client.
    """

    name: str
    trace: TraceContext
    started: int
    seconds: float
    attributes: Attributes
    failed: bool
    events: Sequence[tuple[str, float]] = ()
    inbound: bool = True


class Tracer:
    """Makes trace contexts, and sends the spans of finished requests. It belongs to the loop.

    Args:
        program: `server` or `agent`.

    Attributes:
        exporter: counts the spans that were sent and lost.

    Raises:
        SetupError: OpenTelemetry is not installed.
    """

    def __init__(self, settings: Tracing, program: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import Event, ReadableSpan
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise SetupError(
                f"tracing.endpoint: the package {error.name} is not installed; run"
                " pip install '0trust[otel]', or remove tracing"
            ) from error
        # It would log each message that fails; `SpanExport` logs the first one.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self.settings = settings
        self._api: Any = trace
        self._span, self._event = ReadableSpan, Event
        self._scope = InstrumentationScope("zerotrust", __version__)
        name = os.environ.get("OTEL_SERVICE_NAME") or f"0trust-{program}"
        self._resource = Resource.create({"service.name": name, "service.version": __version__})
        self.exporter = SpanExport(
            OTLPSpanExporter(endpoint=settings.url, timeout=_TIMEOUT), settings.url
        )
        # Any: the exporter has its methods, and no base class that would have to be imported.
        exporter: Any = self.exporter
        self._processor: Any = BatchSpanProcessor(
            exporter,
            max_queue_size=MAX_QUEUED,
            schedule_delay_millis=DELAY_MS,
            max_export_batch_size=_BATCH,
        )

    def begin(self, lines: bytes) -> tuple[TraceContext, bytes]:
        """Return the context of a request's span, and its lines without `traceparent`."""
        settings = self.settings
        return begin_trace(lines, trusted=settings.trust_traceparent, share=settings.sample)

    def add(self, record: RequestRecord) -> None:
        """Send the span of a finished request (request_record.RequestObserver)."""
        trace = record.trace
        if trace is None or not trace.sampled:
            return
        moments = (("forwarded", record.forwarded_at), ("answered", record.answered_at))
        self.send(
            FinishedSpan(
                name=span_name(record.method, record.registered_host),
                trace=trace,
                started=int(record.time * 1e9),
                seconds=record.duration,
                attributes=_attributes(record),
                failed=record.failed,
                events=[(name, at - record.began_at) for name, at in moments if at],
            )
        )

    def send(self, span: FinishedSpan) -> None:
        """Send a span later; the oldest is dropped if too many wait."""
        api, trace = self._api, span.trace
        self._processor.on_end(
            self._span(
                name=span.name,
                context=self._context(trace.trace_id, trace.span_id, remote=False),
                parent=self._context(trace.trace_id, trace.parent_id, remote=True),
                resource=self._resource,
                attributes=span.attributes,
                events=[
                    self._event(name, timestamp=span.started + int(seconds * 1e9))
                    for name, seconds in span.events
                ],
                kind=api.SpanKind.SERVER if span.inbound else api.SpanKind.CLIENT,
                status=api.Status(api.StatusCode.ERROR if span.failed else api.StatusCode.UNSET),
                start_time=span.started,
                end_time=span.started + int(span.seconds * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def _context(self, trace_id: int, span_id: int, *, remote: bool) -> Any:
        """Return a span's ids for OpenTelemetry; None for no span."""
        if not span_id:
            return None
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        return self._api.SpanContext(trace_id, span_id, is_remote=remote, trace_flags=flags)

    async def close(self) -> None:
        """Send what waits, for three seconds at most."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.set)

        self.end(tell)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _CLOSE_TIMEOUT)

    def end(self, tell: Callable[[], None] | None = None) -> None:
        """Send what waits, in a thread, and call `tell` there."""

        def shut_down() -> None:
            self._processor.shutdown()
            if tell is not None:
                tell()

        # A daemon, because the SDK may wait for the collector for half a minute.
        threading.Thread(target=shut_down, name="end of traces", daemon=True).start()


def make_tracer(settings: Tracing, program: str) -> Tracer | None:
    """Return a tracer, or None if the settings have no collector.

    Raises:
        SetupError: OpenTelemetry is not installed.
    """
    return None if settings.endpoint is None else Tracer(settings, program)


def span_metric(tracer: Tracer | None) -> Metric:
    """Return the metric of the spans that were sent and lost."""
    meaning = "Spans that the collector has taken, and those that could not be sent to it."
    spans = {"sent": 0, "lost": 0}
    if tracer is not None:
        spans = {"sent": tracer.exporter.sent, "lost": tracer.exporter.lost}
    return counter("trace_spans_total", meaning, spans, "result")


class SpanExport:
    """Exporter of OpenTelemetry that counts, and logs the first failure. It runs in a thread.

    Attributes:
        sent, lost: spans that the collector has taken, and those that could not be sent to it.
    """

    def __init__(self, exporter: Any, url: str) -> None:
        self.sent = self.lost = 0
        self._exporter = exporter
        self._url = url
        self._fails = False

    def export(self, spans: Sequence[Any]) -> Any:
        """Send spans; return the result."""
        result = self._exporter.export(spans)
        fails = result.name != "SUCCESS"
        if fails:
            self.lost += len(spans)
        else:
            self.sent += len(spans)
        if fails and not self._fails:
            _log.warning("traces cannot be sent", url=self._url, spans=len(spans))
        elif self._fails and not fails:
            _log.info("traces are sent again", url=self._url, lost=self.lost)
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()


def span_name(method: bytes, host: str) -> str:
    """Return a span's name, from a small set: no text that strangers choose."""
    text = method.decode("ascii", "replace")
    if text not in _METHODS:
        text = "HTTP"
    return f"{text} {host}" if host else text


def _attributes(record: RequestRecord) -> Attributes:
    found: Attributes = {
        "http.request.method": record.method.decode("ascii", "replace"),
        "url.scheme": record.scheme.decode("ascii", "replace"),
        "url.path": escape_controls(record.path),
        "server.address": record.host,
        "client.address": record.client.decode("ascii", "replace"),
        "http.response.status_code": record.status,
        "error.type": record.error,
        "zerotrust.request": record.id,
        "zerotrust.agent": record.agent,
        "zerotrust.service": record.service,
        "zerotrust.upstream": record.upstream,
        "zerotrust.ended_by": record.ended_by,
        "zerotrust.tries": record.tries,
    }
    return {name: value for name, value in found.items() if value}
