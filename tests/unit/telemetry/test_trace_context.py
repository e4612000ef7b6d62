"""Tests of zerotrust.telemetry.trace_context."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.telemetry.trace_context import TraceContext, begin_trace, parse_traceparent

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
LINES = b"Accept: */*\r\nTraceParent: %b\r\nTRACESTATE: a=1\r\nX-Traceparent: b\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PARENT, (TRACE, SPAN, True)),
        (PARENT[:-1] + b"0", (TRACE, SPAN, False)),
        (PARENT[:-2] + b"03", (TRACE, SPAN, True)),
        (b"01" + PARENT[2:] + b"-later", (TRACE, SPAN, True)),
        (PARENT + b"-later", None),
        (b"ff" + PARENT[2:], None),
        (PARENT.upper(), None),
        (PARENT[:3] + b"0" * 32 + PARENT[35:], None),
        (PARENT[:36] + b"0" * 16 + PARENT[52:], None),
        (PARENT[:-1], None),
        (b"", None),
    ],
)
def test_values(value: bytes, expected: tuple[int, int, bool] | None) -> None:
    assert parse_traceparent(value) == expected


def test_strangers_do_not_continue_a_trace() -> None:
    context, lines = begin_trace(LINES % PARENT, trusted=False, share=1.0)
    assert context.trace_id != TRACE and context.parent_id == 0 and context.sampled
    assert lines == b"Accept: */*\r\nX-Traceparent: b\r\n"


def test_trusted_requests_continue_their_trace() -> None:
    context, lines = begin_trace(LINES % (PARENT + b" "), trusted=True, share=0.0)
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, SPAN, True)
    assert context.span_id not in (0, SPAN)
    assert lines == b"Accept: */*\r\nTRACESTATE: a=1\r\nX-Traceparent: b\r\n"
    assert parse_traceparent(context.line[13:-2]) == (TRACE, context.span_id, True)


@pytest.mark.parametrize("value", [b"x", PARENT + b"\r\ntraceparent: " + PARENT])
def test_an_unclear_trace_begins_anew(value: bytes) -> None:
    context, lines = begin_trace(LINES % value, trusted=True, share=1.0)
    assert context.parent_id == 0
    assert lines == b"Accept: */*\r\nX-Traceparent: b\r\n"


def test_lines_without_a_trace_stay_the_same_object() -> None:
    lines = b"Accept: */*\r\n"
    assert begin_trace(lines, trusted=True, share=1.0)[1] is lines


def test_a_share_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.3)
    assert begin_trace(b"", trusted=False, share=0.4)[0].sampled
    context, _ = begin_trace(b"", trusted=False, share=0.2)
    assert not context.sampled
    assert context.line.endswith(b"-00\r\n")


@given(st.integers(1, 2**128 - 1), st.booleans())
def test_a_line_can_be_read(trace_id: int, sampled: bool) -> None:
    context = TraceContext(trace_id, 0, sampled=sampled)
    name, _, value = context.line.partition(b": ")
    assert name == b"traceparent"
    assert parse_traceparent(value.removesuffix(b"\r\n")) == (trace_id, context.span_id, sampled)
