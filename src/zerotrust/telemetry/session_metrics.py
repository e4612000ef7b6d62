"""Metrics of sessions and of the event loop, for server and agent."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric

from zerotrust.telemetry.metrics import counter, gauge
from zerotrust.tunnel.handshake import (
    CONGESTED_BYTES,
    MAX_QUEUED_BYTES,
    MAX_UNWRITTEN_BYTES,
    SHARED_QUEUE_BYTES,
    SessionOptions,
)
from zerotrust.tunnel.outbox import HIGH_WATER, MAX_ANSWER_BYTES
from zerotrust.tunnel.resume import REPLAY_BYTES
from zerotrust.tunnel.session_stats import SessionStats, StallCounter
from zerotrust.tunnel.window import MAX_GROWTH_BYTES, MAX_UNCONSUMED_BYTES, MAX_WINDOW

LIMITS: Final = {
    "stream_queue_bytes": HIGH_WATER,
    "stream_window_bytes": MAX_WINDOW,
    "session_windows_growth_bytes": MAX_GROWTH_BYTES,
    "session_received_bytes": MAX_UNCONSUMED_BYTES,
    "session_shared_queue_bytes": SHARED_QUEUE_BYTES,
    "session_queued_bytes": MAX_QUEUED_BYTES,
    "session_congested_bytes": CONGESTED_BYTES,
    "session_unwritten_bytes": MAX_UNWRITTEN_BYTES,
    "session_kept_bytes": REPLAY_BYTES,
    "session_answers_bytes": MAX_ANSWER_BYTES,
    "session_streams": SessionOptions.max_streams,
}
"""Limits of streams and sessions, by name; the same on the server and the agent."""


def session_metrics(usage: SessionStats, stalls: StallCounter) -> Iterator[Metric]:
    """Return the metrics of all sessions."""
    states = {"attached": usage.sessions - usage.detached, "detached": usage.detached}
    yield gauge(
        "sessions",
        "Sessions: attached to a connection, or detached and waiting for one.",
        states,
        "state",
    )
    yield gauge("streams", "Running requests and open WebSockets.", usage.streams)
    kinds = {
        "received": usage.unconsumed,
        "queued": usage.queued,
        "unwritten": usage.unwritten,
        "kept": usage.unacknowledged,
    }
    meaning = (
        "Bytes held by sessions: received and not consumed, bodies queued to send, other frames"
        " queued to send, sent and not acknowledged."
    )
    yield gauge("session_bytes", meaning, kinds, "kind")
    yield gauge("session_bytes_most", "Bytes held by the largest session.", usage.most)
    meaning = "Sessions that send no bodies because the peer has not acknowledged enough."
    yield gauge("sessions_stalled", meaning, usage.stalled)
    meaning = "Times a session stopped sending because the peer had not acknowledged."
    yield counter("session_stalls_total", meaning, stalls.total)


def loop_metrics(lag: float, lost: float) -> Iterator[Metric]:
    """Return the metrics of the event loop's lag."""
    yield gauge("event_loop_lag_seconds", "Event-loop lag at the last sample, in seconds.", lag)
    meaning = "Sum of the event-loop lag of all samples, ten a second, in seconds."
    yield counter("event_loop_late_seconds_total", meaning, lost)
