"""Brings a session back whose link is gone: asks for it over one new connection after the other.

The first is tried at once, unless the link before broke soon after it was attached. The pause before it then grows to a
second, so that a server that takes a session back and breaks its link again costs little. While a session waits its
WebSockets do, so the next ones follow within a second each, beside those that are still under way: a connection that
was begun while the network was away may take seconds to notice that it is back. After a minute they become rare.
"""

import asyncio
import math
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, cast

from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.net.channel import describe
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.telemetry import logs

PAUSE_LEAST: Final = 0.2
PAUSE_SOON: Final = 1.0
"""The longest pause in the first SOON seconds; then PAUSE_MOST is."""
SOON: Final = 60.0
PAUSE_MOST: Final = 15.0
STEADY: Final = 1.0
"""Seconds that a session must be attached before the next loss of its link is answered at once."""
PATIENCE: Final = 3.0
"""Seconds that the server has for its answer before another connection is asked on."""

_log = logs.logger("agent")


class Redial:
    """Of one link. `begin` whenever it is detached; `attached` when it no longer is.

    Args:
        target: where to dial now: a certificate may have been renewed since the last time.
        turn: with which of the server's addresses to begin; each attempt takes the next one.
    """

    def __init__(self, link: TunnelLink, target: Callable[[], ServerEndpoint], tasks: Tasks, *, turn: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._target = target
        self._turn = turn
        self._tasks = tasks
        self._changed = asyncio.Event()
        link.closed.add_done_callback(lambda _: self._changed.set())
        self._task: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()
        self._asked_at = 0.0
        self._attached_at = -math.inf
        self._delay = 0.0
        self._begins_at = 0.0

    def begin(self) -> None:
        """Ask until the session is attached or over."""
        now = self._loop.time()
        steady = now - self._attached_at >= STEADY
        self._delay = 0.0 if steady else min(max(self._delay * 2, PAUSE_LEAST), PAUSE_SOON)
        self._begins_at = now + random.uniform(self._delay / 2, self._delay)  # noqa: S311
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._run(), "redial")

    def attached(self) -> None:
        """The session goes on; look at once."""
        self._attached_at = self._loop.time()
        self._changed.set()

    def got(self, transport: asyncio.Transport) -> None:
        """A connection to the server is there."""
        link, now = self._link, self._loop.time()
        asking = link.transport is not None and now - self._asked_at < PATIENCE
        if asking or link.session.attached or link.closed.done():
            transport.abort()
        else:
            self._asked_at = now
            link.redial(transport)

    async def _run(self) -> None:
        link = self._link
        soon_until = self._loop.time() + SOON
        try:
            while not (link.session.attached or link.closed.done()):
                if (left := self._begins_at - self._loop.time()) > 0:
                    await self._wait(left)
                    continue
                attempt = self._tasks.spawn(self._attempt(), "connect")
                self._attempts.add(attempt)
                attempt.add_done_callback(self._attempts.discard)
                # Full jitter: a thousand agents must not come back in step.
                most = PAUSE_SOON if self._loop.time() < soon_until else PAUSE_MOST
                await self._wait(random.uniform(PAUSE_LEAST, most))  # noqa: S311
        finally:
            for attempt in self._attempts:
                attempt.cancel()

    async def _attempt(self) -> None:
        target, turn = self._target(), self._turn
        self._turn += 1
        try:
            await target.connect(partial(_Connected, self), turn)
        except (OSError, TimeoutError) as error:
            _log.debug("cannot connect", server=str(target.place(turn)), reason=describe(error))

    async def _wait(self, seconds: float) -> None:
        """Wait, unless the session's state changes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()


class _Connected(asyncio.Protocol):
    """A connection until it is known whether it is needed."""

    def __init__(self, redial: Redial) -> None:
        self._redial = redial

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._redial.got(cast("asyncio.Transport", transport))
