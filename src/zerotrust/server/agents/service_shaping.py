"""Bandwidth limits of a service, shared by its streams (server.proxy.shaping)."""

import asyncio
from dataclasses import dataclass
from typing import Final

from zerotrust.limits.shaper import Shaper
from zerotrust.model.rates import parse_byte_rate
from zerotrust.model.service import TrafficShaping

MIN_PAUSE: Final = 0.005
"""Seconds between two runs of a shaper. All bytes that may pass within that time pass together."""


class DirectionShaper:
    """One direction of a service: its shaper, and the timer that runs it while streams wait."""

    __slots__ = ("_due", "_running", "_timer", "shaper")

    def __init__(self, shaper: Shaper) -> None:
        self.shaper = shaper
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._running = False

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send the bytes that may pass now; set the timer for those that may pass later."""
        if self._running:
            return
        self._running = True
        try:
            due = self.shaper.run(loop.time())
        finally:
            self._running = False
        if due is None or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = max(due, loop.time() + MIN_PAUSE)
        self._timer = loop.call_at(self._due, self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self.run(loop)


@dataclass(frozen=True, slots=True, eq=False)
class ServiceShaping:
    """The bandwidth limits of one service; `up` and `down` are None where a direction has none."""

    limits: TrafficShaping
    up: DirectionShaper | None
    down: DirectionShaper | None

    @classmethod
    def of(
        cls, limits: TrafficShaping | None, before: "ServiceShaping | None", workers: int = 1
    ) -> "ServiceShaping | None":
        """Return the shaping for these limits; None where nothing is limited.

        Args:
            workers: number of processes that share the rates.

        It is `before` where that has the same limits, so that a reload gives no client a new burst.
        Streams that are open keep the limits under which they began.
        """
        if limits is None:
            return None
        if before is not None and before.limits == limits:
            return before
        per_client = _rate(limits.per_ip_limit, workers)
        up = _shaper(_rate(limits.upload_limit, workers), per_client)
        down = _shaper(_rate(limits.download_limit, workers), per_client)
        return cls(limits, up, down) if up is not None or down is not None else None


def _rate(limit: str | None, workers: int) -> float | None:
    return parse_byte_rate(limit) / workers if limit is not None else None


def _shaper(total: float | None, per_client: float | None) -> DirectionShaper | None:
    if total is None and per_client is None:
        return None
    return DirectionShaper(Shaper(total=total, per_client=per_client, now=0.0))
