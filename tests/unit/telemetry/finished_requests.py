"""Records of requests, for tests."""

from typing import Any

from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.telemetry.trace_context import TraceContext


def finished(target: bytes = b"/a?token=secret", **values: Any) -> RequestRecord:
    """Return the record of a request that took half a second, with these values."""
    record = RequestRecord(
        "1f-2a", method=b"GET", host="app.example.com", target=target, time=1.0, began_at=10.0
    )
    known = {
        "scheme": b"https",
        "client": b"203.0.113.7",
        "status": 200,
        "sent": 5,
        "agent": "home",
        "service": "app",
        "registered_host": "app.example.com",
        "upstream": "10.0.0.5:80",
        "tries": 1,
        "ended_by": "backend",
        "forwarded_at": 10.1,
        "answered_at": 10.4,
        "queued": 0.05,
        "backend_time": 0.2,
        "ended_at": 10.5,
    }
    for name, value in {**known, **values}.items():
        setattr(record, name, value)
    return record


def sampled(parent: int = 0) -> TraceContext:
    """Return the context of a span that is sent."""
    return TraceContext(0xABC, parent, sampled=True)
