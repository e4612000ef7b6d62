"""The metrics of sessions, which both ends have."""

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
"""What streams and sessions may hold, at each end."""


def session_metrics(usage: SessionStats, stalls: StallCounter) -> Iterator[Metric]:
    """What sessions hold, and how often they stood still."""
    states = {"attached": usage.sessions - usage.detached, "detached": usage.detached}
    yield gauge("sessions", "Sessions, with a connection or waiting for another one.", states, "state")
    yield gauge("streams", "Requests and WebSockets under way.", usage.streams)
    kinds = {
        "received": usage.unconsumed,
        "queued": usage.queued,
        "unwritten": usage.unwritten,
        "kept": usage.unacknowledged,
    }
    meaning = (
        "Bytes that sessions hold: received and not handed on, bodies waiting to be sent, other frames waiting to be "
        "sent, kept to be sent again."
    )
    yield gauge("session_bytes", meaning, kinds, "kind")
    yield gauge("session_bytes_most", "Bytes that the session holds that holds most.", usage.most)
    meaning = "Sessions that send no bodies until the other end has acknowledged what they keep."
    yield gauge("sessions_stalled", meaning, usage.stalled)
    yield counter("session_stalls_total", "Times that a session began to do so.", stalls.total)


def loop_metrics(lag: float, lost: float) -> Iterator[Metric]:
    """How late the event loop is."""
    yield gauge("event_loop_lag_seconds", "By how much the loop came late, last time.", lag)
    yield counter("event_loop_late_seconds_total", "By how much it came late in all, ten times a second.", lost)
