"""Keepalive: pings, round-trip time and silent peers (docs/spec/tunnel-v1.md, section 8)."""

import struct
from typing import Final

PING_INTERVAL: Final = 5.0
DEAD_AFTER: Final = 12.0
HANDSHAKE_TIMEOUT: Final = 10.0

_NONCE: Final = struct.Struct(">Q")


class Keepalive:
    """Clock of one link. All times are monotonic seconds of the caller."""

    __slots__ = ("_nonce", "_ping_at", "_pinged_at", "_waiting_since", "heard_at", "round_trip")

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self._ping_at = now
        self._pinged_at: float | None = None
        self._waiting_since: float | None = None
        self._nonce = 0
        self.round_trip: float | None = None

    def heard(self, now: float) -> None:
        """Note that bytes have arrived."""
        self.heard_at = now

    def dead(self, now: float) -> bool:
        """Return whether the peer has been silent for too long."""
        return now >= self.heard_at + DEAD_AFTER

    def ping(self, now: float) -> bytes | None:
        """Return the payload of the PING that is due now, if one is due."""
        if now < self._ping_at:
            return None
        self._ping_at = now + PING_INTERVAL
        self._pinged_at = now
        if self._waiting_since is None:
            self._waiting_since = now
        self._nonce += 1
        return _NONCE.pack(self._nonce)

    def pong(self, payload: bytes, now: float) -> None:
        """Take the round-trip time from the answer to the last PING only (RFC 6298 s2)."""
        if self._pinged_at is None or payload != _NONCE.pack(self._nonce):
            return
        sample = now - self._pinged_at
        self._pinged_at = self._waiting_since = None
        self.round_trip = (
            sample if self.round_trip is None else self.round_trip + (sample - self.round_trip) / 8
        )

    def unanswered(self, now: float) -> float:
        """Return the seconds since the first PING without an answer; 0 if all were answered."""
        return now - self._waiting_since if self._waiting_since is not None else 0.0
