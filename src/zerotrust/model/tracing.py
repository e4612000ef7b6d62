"""Settings of traces, for OpenTelemetry."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from zerotrust.model.base import Model, Share


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            f'"{value}" is not a URL of a collector; write for example http://127.0.0.1:4318'
        )
    if parts.username is not None:
        raise ValueError(
            "a URL with a password would be in logs; use the environment variable"
            " OTEL_EXPORTER_OTLP_HEADERS"
        )
    return value


class Tracing(Model):
    """Traces of requests, sent to a collector of OpenTelemetry. Needs `pip install '0trust[otel]'`.

    Changes need no restart. Credentials for the collector come from the environment variable
    `OTEL_EXPORTER_OTLP_HEADERS`.
    """

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """URL of the collector for OTLP over HTTP, for example `http://127.0.0.1:4318`; `/v1/traces` is
    appended if it has no path. Without it there are no traces."""

    sample: Share = 1.0
    """Share of new traces to send: 0.1 is every tenth, by chance."""

    trust_traceparent: bool = False
    """Continue the trace that a request's `traceparent` names, and follow its decision about
    sampling. If false, `traceparent` and `tracestate` are removed from requests."""

    @property
    def url(self) -> str:
        """Return the URL to send traces to."""
        assert self.endpoint is not None
        return (
            self.endpoint
            if urlsplit(self.endpoint).path.strip("/")
            else (self.endpoint.rstrip("/") + "/v1/traces")
        )


class AgentTracing(Tracing):
    """Traces of requests, sent to a collector of OpenTelemetry. Needs `pip install '0trust[otel]'`.

    Changes need no restart. Credentials for the collector come from the environment variable
    `OTEL_EXPORTER_OTLP_HEADERS`.
    """

    trust_traceparent: bool = True
    """Continue the trace that a request's `traceparent` names, and follow its decision about
    sampling. A server with `tracing` sets it. A server without lets that of clients pass, so that
    strangers can choose which of their requests are traced."""
