"""Requests whose agent is away for a moment wait for it instead of failing.

Only for as long as agents usually need to come back: who asks for a host name whose agent was lost a while ago hears
that at once.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from zerotrust.server.agents.registry import Registry

MAX_HELD: Final = 1024
"""Requests at the same time, each with what one read brought of its body; of more, the agent is said to be away."""

GoOn = Callable[[bool], None]


class PendingRequests:
    """Those that wait, by host name.

    Args:
        timeout: seconds that a request waits, or after the loss of its agent; 0 holds none.

    Attributes:
        count: how many wait.
    """

    def __init__(self, registry: Registry, *, timeout: float) -> None:
        self.timeout = timeout
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, dict[GoOn, asyncio.TimerHandle]] = {}
        self.count = 0
        registry.subscribe(self._served)

    def wait(self, host: str, go_on: GoOn) -> bool:
        """Call `go_on` once: with True as soon as an agent serves the host name, with False when none did in time.

        Returns:
            False where nobody is to be waited for.
        """
        seconds = self._registry.away_until(host, self.timeout)
        if seconds <= 0 or self.count >= MAX_HELD:
            return False
        self.count += 1
        timer = self._loop.call_later(seconds, partial(self._give_up, host, go_on))
        self._waiting.setdefault(host, {})[go_on] = timer
        return True

    def _served(self, host: str) -> None:
        for go_on, timer in self._waiting.pop(host, {}).items():
            self.count -= 1
            timer.cancel()
            # Not from within what the registry does.
            self._loop.call_soon(go_on, True)

    def _give_up(self, host: str, go_on: GoOn) -> None:
        waiting = self._waiting[host]
        del waiting[go_on]
        if not waiting:
            del self._waiting[host]
        self.count -= 1
        go_on(False)
