"""Requests that wait for an agent that has just disconnected.

Requests wait only during the first `timeout` seconds after the last agent of their host name has
disconnected; later ones fail at once.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from zerotrust.server.agents.registry import Registry

MAX_PENDING: Final = 1024
"""Requests that wait at the same time, each with one read of its body. More fail at once."""

Resume = Callable[[bool], None]
"""Resumes a request: True when an agent serves its host name, False when the time is over."""


class PendingRequests:
    """Requests that wait for an agent, by the host name or wildcard that it serves.

    Args:
        timeout: seconds that a request waits at most; 0 turns waiting off.

    Attributes:
        count: how many requests wait.
    """

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        self.timeout = timeout
        self.count = 0
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, dict[Resume, asyncio.TimerHandle]] = {}

    def wait(self, host: str, resume: Resume) -> bool:
        """Call `resume` once, when an agent serves the host name or the time is over.

        Returns:
            False where the request cannot wait: `resume` is not called.
        """
        seconds = self._registry.away_until(host, self.timeout)
        if seconds <= 0 or self.count >= MAX_PENDING:
            return False
        self.count += 1
        name = self._registry.resolve(host)
        timer = self._loop.call_later(seconds, partial(self._expire, name, resume))
        self._waiting.setdefault(name, {})[resume] = timer
        return True

    def host_served(self, host: str) -> None:
        """Resume the requests for a host name that an agent serves now (`Registry.subscribe`)."""
        for resume, timer in self._waiting.pop(host, {}).items():
            self.count -= 1
            timer.cancel()
            # In the loop's next turn: the registry is in the middle of a change.
            self._loop.call_soon(resume, True)

    def _expire(self, host: str, resume: Resume) -> None:
        waiting = self._waiting[host]
        del waiting[resume]
        if not waiting:
            del self._waiting[host]
        self.count -= 1
        resume(False)
