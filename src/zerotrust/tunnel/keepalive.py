"""When to ping, what the round trip is, and when a silent peer is dead (docs/spec/tunnel-v1.md, section 8)."""

import struct
from typing import Final

PING_INTERVAL: Final = 5.0
DEAD_AFTER: Final = 12.0
HANDSHAKE_TIMEOUT: Final = 10.0

_NONCE: Final = struct.Struct(">Q")


class Keepalive:
    """The clock of one link. All times are the caller's monotonic seconds."""

    __slots__ = ("_nonce", "_ping_at", "_pinged_at", "_waiting_since", "heard_at", "round_trip")

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self._ping_at = now
        self._pinged_at: float | None = None
        self._waiting_since: float | None = None
        self._nonce = 0
        self.round_trip: float | None = None

    def heard(self, now: float) -> None:
        """Bytes of any kind have arrived."""
        self.heard_at = now

    def dead(self, now: float) -> bool:
        """Nothing was heard for too long."""
        return now >= self.heard_at + DEAD_AFTER

    def ping(self, now: float) -> bytes | None:
        """The payload of the PING that is due now, if one is."""
        if now < self._ping_at:
            return None
        self._ping_at = now + PING_INTERVAL
        self._pinged_at = now
        if self._waiting_since is None:
            self._waiting_since = now
        self._nonce += 1
        return _NONCE.pack(self._nonce)

    def pong(self, payload: bytes, now: float) -> None:
        """Take the round-trip time; an answer to anything but the last PING says nothing (RFC 6298 s2)."""
        if self._pinged_at is None or payload != _NONCE.pack(self._nonce):
            return
        sample = now - self._pinged_at
        self._pinged_at = self._waiting_since = None
        self.round_trip = sample if self.round_trip is None else self.round_trip + (sample - self.round_trip) / 8

    def unanswered(self, now: float) -> float:
        """Seconds since the first PING after the last that was answered; 0 where there is none."""
        return now - self._waiting_since if self._waiting_since is not None else 0.0

    def deadline(self) -> float:
        """When to look again."""
        return min(self._ping_at, self.heard_at + DEAD_AFTER)
