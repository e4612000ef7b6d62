"""Runs one session's registrations in order, time-sliced.

One read brings up to 256 KiB of registrations, and each can take a tenth of a second. Done at once,
they would delay all other agents and requests.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.agents.cpu_budget import CpuBudget

SLICE: Final = 0.005
"""Seconds in one turn of the event loop; a registration that has begun is finished."""

Task = Callable[[], None]


class RegistrationQueue:
    """Registrations of one session that wait for their turn.

    While some wait, the link is not read: no more wait than one read has brought.

    Args:
        budget: CPU time that the agent's registrations may take, in all its sessions.

    Attributes:
        timer: the next turn; None if nothing waits.
    """

    def __init__(self, link: TunnelLink, agent: str, budget: CpuBudget) -> None:
        self._link = link
        self._agent = agent
        self._budget = budget
        self._waiting: deque[Task] = deque()
        self._spent = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self._paused = False

    def run(self, task: Task) -> None:
        """Run a task now, or when its turn comes."""
        if self._waiting or self._spent > SLICE:
            self._waiting.append(task)
            if not self._paused:
                self._paused = True
                self._link.pause_reading()
        else:
            self._work(task)

    def clear(self) -> None:
        """Drop all waiting tasks: the session has ended."""
        self._waiting.clear()
        self._paused = False

    def _work(self, task: Task) -> None:
        # Not the loop's time: in uvloop it stands still during a turn.
        begun_at = time.monotonic()
        task()
        now = time.monotonic()
        self._spent += now - begun_at
        wait = self._budget.pay(self._agent, now - begun_at, now)
        if wait:
            self._spent = max(self._spent, 2 * SLICE)
        if self.timer is None or wait:
            if self.timer is not None:
                self.timer.cancel()
            self.timer = asyncio.get_running_loop().call_later(wait, self._go_on)

    def _go_on(self) -> None:
        self.timer, self._spent = None, 0.0
        while self._waiting and self._spent <= SLICE:
            self._work(self._waiting.popleft())
        if self._paused and not self._waiting:
            self._paused = False
            self._link.resume_reading()
