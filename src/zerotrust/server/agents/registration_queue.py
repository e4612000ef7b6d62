"""What an agent wants, done in its order: a little in each turn of the loop, and not more than its share of the time.

One read brings up to 256 KiB of registrations, and each can take a tenth of a second: done at once, nobody else would
be served meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.agents.cpu_budget import CpuBudget

SLICE: Final = 0.005
"""Seconds in one turn; what has begun is finished."""

Wish = Callable[[], None]


class RegistrationQueue:
    """Those of one session. While some wait, the agent is not read: so there are never more than one read brings."""

    def __init__(self, link: TunnelLink, toll: CpuBudget) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._toll = toll
        self._waiting: deque[tuple[str, Wish]] = deque()
        self._spent = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    def do(self, agent: str, wish: Wish) -> None:
        """Do it now, or as soon as it is its turn."""
        if self._waiting or self._spent > SLICE:
            self._waiting.append((agent, wish))
            if not self._paused:
                self._paused = True
                self._link.pause_reading()
        else:
            self._work(agent, wish)

    def forget(self) -> None:
        """The session is over."""
        self._waiting.clear()
        self._paused = False

    def _work(self, agent: str, wish: Wish) -> None:
        # Not the loop's time, which in uvloop stands still during a turn.
        begun_at = time.monotonic()
        wish()
        now = time.monotonic()
        self._spent += now - begun_at
        wait = self._toll.pay(agent, now - begun_at, now)
        if wait:
            self._spent = max(self._spent, 2 * SLICE)
        if self._timer is None or wait:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(wait, self._go_on)

    def _go_on(self) -> None:
        self._timer, self._spent = None, 0.0
        while self._waiting and self._spent <= SLICE:
            self._work(*self._waiting.popleft())
        if self._paused and not self._waiting:
            self._paused = False
            self._link.resume_reading()
