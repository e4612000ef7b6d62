"""A collector of OpenTelemetry: takes traces by OTLP over HTTP, in a thread."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as the collector got it; ids are hexadecimal."""

    program: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    seconds: float
    events: tuple[str, ...]
    attributes: dict[str, Any]


class OtlpReceiver:
    """The spans that came.

    Attributes:
        url: for `tracing.endpoint`.
        status: the answer to each message.
        headers: header fields of the last message.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.headers: dict[str, str] = {}
        self.spans: list[ReceivedSpan] = []

    def of(self, program: str) -> list[ReceivedSpan]:
        """Return the spans of `0trust-server` or `0trust-agent`."""
        return [span for span in self.spans if span.program == program]

    def take(self, body: bytes) -> None:
        """Take a message."""
        message = ExportTraceServiceRequest.FromString(body)
        for resource_spans in message.resource_spans:
            about = _values(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    self.spans.append(
                        ReceivedSpan(
                            program=about["service.name"],
                            name=span.name,
                            trace=span.trace_id.hex(),
                            id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            kind=span.kind,
                            failed=span.status.code == 2,
                            seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                            events=tuple(event.name for event in span.events),
                            attributes=_values(span.attributes),
                        )
                    )


@contextmanager
def receiving() -> Iterator[OtlpReceiver]:
    """Run a collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.headers = dict(self.headers)
            if receiver.status == 200 and self.path == "/v1/traces":
                receiver.take(body)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
