"""Trace contexts: the place of a request in a trace (W3C Trace Context, level 1).

A request enters with a `traceparent` or without. Each hop that traces makes a span of its own, and
sends its own id on. What a stranger says about traces counts only if the configuration trusts it.
"""

import random
import re
from typing import Final

_FIELDS: Final = re.compile(rb"^(traceparent|tracestate):[ \t]*([^\r\n]*)\r\n", re.I | re.M)
_VALUE: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1


class TraceContext:
    """Ids of a span.

    Attributes:
        trace_id, span_id: never 0.
        parent_id: span that it belongs to; 0 for the first of a trace.
        sampled: the span is sent to a collector.
    """

    __slots__ = ("parent_id", "sampled", "span_id", "trace_id")

    def __init__(self, trace_id: int, parent_id: int, *, sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = random.getrandbits(64) or 1
        self.parent_id = parent_id
        self.sampled = sampled

    @property
    def line(self) -> bytes:
        """The `traceparent` field for the next hop."""
        return b"traceparent: 00-%032x-%016x-%02x\r\n" % (
            self.trace_id,
            self.span_id,
            _SAMPLED if self.sampled else 0,
        )


def parse_traceparent(value: bytes) -> tuple[int, int, bool] | None:
    """Return trace id, span id and the sampled flag; None if the value is not valid."""
    match = _VALUE.fullmatch(value)
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return (trace_id, span_id, bool(int(match[4], 16) & _SAMPLED)) if trace_id and span_id else None


def begin_trace(lines: bytes, *, trusted: bool, share: float) -> tuple[TraceContext, bytes]:
    """Return the context of a new span, and the request's lines without a `traceparent`.

    Args:
        lines: header lines of the request, with a start line or without.
        trusted: continue the trace that the request names; otherwise `tracestate` is removed, too.
        share: of new traces that are sampled.
    """
    found = _FIELDS.findall(lines)
    parent = None
    if found:
        values = [value for name, value in found if name.lower() == b"traceparent"]
        if trusted and len(values) == 1:
            parent = parse_traceparent(values[0].rstrip(b" \t"))
        lines = _FIELDS.sub(_kept if parent is not None else b"", lines)
    if parent is not None:
        return TraceContext(parent[0], parent[1], sampled=parent[2]), lines
    sampled = share >= 1.0 or random.random() < share  # noqa: S311
    return TraceContext(random.getrandbits(128) or 1, 0, sampled=sampled), lines


def _kept(match: re.Match[bytes]) -> bytes:
    """Return what stays of a field of a trace that goes on: `tracestate` belongs to it."""
    return match[0] if match[1].lower() == b"tracestate" else b""
