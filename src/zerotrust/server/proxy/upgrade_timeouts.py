"""Idle timeout and maximum duration of upgraded connections.

One timer serves all of them, and runs only while there are connections with a limit. Each tick
looks at a tenth of them, so the server looks at each once a second, however many there are.
"""

import asyncio
import math
from collections import deque
from typing import Final, Protocol

from zerotrust.server.agents.service_policy import WebSocketSettings
from zerotrust.tunnel.stream import Stream

TICK: Final = 0.1
"""Seconds between two ticks."""
TICKS: Final = 10
"""Ticks in which each connection has its turn."""

IDLE: Final = "idle_timeout"
DURATION: Final = "max_duration"
"""Error codes of connections that have exceeded a limit."""


class UpgradedRequest(Protocol):
    """A request whose connection was upgraded (`server.proxy.relay`)."""

    @property
    def stream(self) -> Stream:
        """The stream that it was forwarded on."""

    @property
    def moved(self) -> int:
        """Bytes that client and backend have sent since the upgrade."""

    def expire(self, error: str, reason: str) -> None:
        """End the connection: it has exceeded a limit."""


class _Timed:
    """A connection with its limits, and the last time at which it had moved."""

    __slots__ = ("_ends_at", "_idle_timeout", "_moved", "_moved_at", "_request")

    def __init__(self, request: UpgradedRequest, settings: WebSocketSettings, now: float) -> None:
        self._request = request
        self._idle_timeout = settings.idle_timeout or math.inf
        self._ends_at = now + (settings.max_duration or math.inf)
        self._moved = 0
        self._moved_at = now

    def goes_on(self, now: float) -> bool:
        """End the connection if it has exceeded a limit; return True if it is still open."""
        request = self._request
        if request.stream.done:
            return False
        if now >= self._ends_at:
            request.expire(DURATION, "the maximum duration is over")
            return False
        if request.moved != self._moved:
            self._moved = request.moved
            self._moved_at = now
        elif now - self._moved_at >= self._idle_timeout:
            request.expire(IDLE, "idle for too long")
            return False
        return True


class UpgradeTimeouts:
    """Ends the upgraded connections that have exceeded the limits of their service."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: deque[_Timed] = deque()
        self._ticks_left = 0
        self._share = 0

    def watch(self, request: UpgradedRequest, settings: WebSocketSettings) -> None:
        """Apply the limits to a connection from now on, until its stream is done."""
        if not self._open:
            self._ticks_left = 0
            self._loop.call_later(TICK, self._tick)
        self._open.append(_Timed(request, settings, self._loop.time()))

    def _tick(self) -> None:
        now = self._loop.time()
        if not self._ticks_left:
            # For all ticks of a round: with a tenth of what is left, the last ones would wait long.
            self._ticks_left = TICKS
            self._share = -(-len(self._open) // TICKS)
        self._ticks_left -= 1
        try:
            for _ in range(min(self._share, len(self._open))):
                timed = self._open.popleft()
                if timed.goes_on(now):
                    self._open.append(timed)
        finally:  # a fault in one connection leaves the others their limits
            if self._open:
                self._loop.call_later(TICK, self._tick)
