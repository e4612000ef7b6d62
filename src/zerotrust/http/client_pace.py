"""Limits on what the client of a WebSocket sends: size of messages, their rate, bytes per second.

A client that exceeds one is closed, not slowed down: `traffic_shaping` slows down. Sizes are those
on the wire, so a compressed message counts as compressed.
"""

from typing import Final, NamedTuple

from zerotrust.http.websocket_frames import MESSAGE_TOO_BIG, POLICY_VIOLATION
from zerotrust.http.websocket_meter import FrameMeter
from zerotrust.limits.gcra import Pace

BURST_SECONDS: Final = 1.0
"""Time for which bytes of the rate may come at once."""
MAX_HEADER_BYTES: Final = 14
"""Bytes of the longest header of a frame (RFC 6455 s5.2)."""


class ClientLimits(NamedTuple):
    """Limits of each WebSocket of a service; None for no limit.

    Attributes:
        max_message: payload of a message, in bytes.
        messages: messages per second, with pings and pongs.
        burst: messages at once.
        byte_rate: bytes per second, with the headers of frames.
    """

    max_message: int | None = None
    messages: float | None = None
    burst: int = 1
    byte_rate: float | None = None


class Breach(NamedTuple):
    """A limit that the client has exceeded: close code and reason."""

    code: int
    reason: str


class ClientPace:
    """Checks one client against the limits."""

    __slots__ = ("_bytes", "_max_message", "_messages", "_seen_bytes", "_seen_messages")

    def __init__(self, limits: ClientLimits) -> None:
        self._max_message = limits.max_message
        self._messages = self._bytes = None
        if limits.messages is not None:
            self._messages = Pace(limits.messages, limits.burst)
        if limits.byte_rate is not None:
            burst = limits.byte_rate * BURST_SECONDS
            if limits.max_message is not None:
                # A frame with a message of the largest size is legal, however slow the rate.
                burst = max(burst, limits.max_message + MAX_HEADER_BYTES)
            self._bytes = Pace(limits.byte_rate, burst)
        self._seen_messages = 0
        self._seen_bytes = 0

    def check(self, client: FrameMeter, now: float) -> Breach | None:
        """Return the limit that the client exceeds with the bytes since the last call.

        Args:
            client: the meter of its direction, which has counted them.
        """
        most = self._max_message
        if most is not None and client.largest_message > most:
            return Breach(MESSAGE_TOO_BIG, "message too large")
        if self._messages is not None:
            count, self._seen_messages = client.messages - self._seen_messages, client.messages
            if count and not self._messages.take(count, now):
                return Breach(POLICY_VIOLATION, "too many messages")
        if self._bytes is not None:
            count, self._seen_bytes = client.bytes - self._seen_bytes, client.bytes
            if not self._bytes.take(count, now):
                return Breach(POLICY_VIOLATION, "too many bytes")
        return None
