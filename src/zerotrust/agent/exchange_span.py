"""Span of one exchange: the agent's part of a trace, from the request's arrival to its end."""

from time import perf_counter, time

from zerotrust.telemetry.tracing import FinishedSpan, Tracer, span_name
from zerotrust.tunnel.binary import RequestOpen


class ExchangeSpan:
    """Collects what the span says, and sends it once.

    Attributes:
        status: of the backend's answer; 0 while there is none.
        error: error code of a failed exchange.
        upstream: address of the last upstream.
    """

    __slots__ = (
        "_began_at",
        "_method",
        "_request",
        "_service",
        "_started",
        "_trace",
        "_tracer",
        "error",
        "status",
        "upstream",
    )

    def __init__(self, tracer: Tracer, request: RequestOpen) -> None:
        """Begin a span; give the request a `traceparent` that names it."""
        self._trace, block = tracer.begin(request.block)
        request.block = block + self._trace.line
        self._tracer = tracer
        self._request = request.request_id
        self._service = request.service
        self._method = block[: block.index(b" ")]
        self._started, self._began_at = int(time() * 1e9), perf_counter()
        self.status = 0
        self.error = self.upstream = ""

    def end(self) -> None:
        """Send the span, if it is sampled."""
        if not self._trace.sampled:
            return
        attributes: dict[str, str | int] = {
            "http.request.method": self._method.decode("ascii", "replace"),
            "http.response.status_code": self.status,
            "error.type": self.error,
            "zerotrust.request": self._request,
            "zerotrust.service": self._service,
            "zerotrust.upstream": self.upstream,
        }
        self._tracer.send(
            FinishedSpan(
                name=span_name(self._method, self._service),
                trace=self._trace,
                started=self._started,
                seconds=perf_counter() - self._began_at,
                attributes={name: value for name, value in attributes.items() if value},
                failed=bool(self.error) or self.status >= 500,
                inbound=False,
            )
        )
