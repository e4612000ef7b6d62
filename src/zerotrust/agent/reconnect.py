"""Reconnects a session that has lost its link: it asks the server to resume it over a new
connection.

The first attempt comes at once, unless the former link broke soon after it was attached: then the
pause before it grows to a second, so that a server that resumes a session and breaks its link again
costs little. WebSockets wait while the session does, so further attempts follow within a second
each, beside those still under way: a connection attempt from a time without network may take
seconds to notice that the network is back. After a minute attempts become rare.
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
"""Longest pause in the first SOON seconds; later it is PAUSE_MOST."""
SOON: Final = 60.0
PAUSE_MOST: Final = 15.0
STEADY: Final = 1.0
"""Seconds that a session must be attached for the next loss of its link to be answered at once."""
PATIENCE: Final = 3.0
"""Seconds that the server has to answer before another connection asks."""

_log = logs.logger("agent")


class Reconnect:
    """Reconnects one link. Call `begin` when it is detached, and `attached` when it is attached
    again.

    Args:
        endpoint: returns the server to dial; a certificate may have been renewed since the last
            attempt.
        turn: the server's address to begin with; each attempt takes the next one.
        worker: the worker of the server that the session is with.

    Attributes:
        begins_at: time of the loop before which no attempt starts.
    """

    def __init__(
        self,
        link: TunnelLink,
        endpoint: Callable[[], ServerEndpoint],
        tasks: Tasks,
        *,
        turn: int = 0,
        worker: int = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._endpoint = endpoint
        self._turn = turn
        self._worker = worker
        self._tasks = tasks
        self._changed = asyncio.Event()
        link.closed.add_done_callback(lambda _: self._changed.set())
        self._task: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()
        self._asked_at = 0.0
        self._attached_at = -math.inf
        self._delay = 0.0
        self.begins_at = 0.0

    def begin(self) -> None:
        """Ask the server until the session is attached or closed."""
        now = self._loop.time()
        steady = now - self._attached_at >= STEADY
        self._delay = 0.0 if steady else min(max(self._delay * 2, PAUSE_LEAST), PAUSE_SOON)
        self.begins_at = now + random.uniform(self._delay / 2, self._delay)  # noqa: S311
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._run(), "redial")

    def attached(self) -> None:
        """Stop asking: the session has a link again."""
        self._attached_at = self._loop.time()
        self._changed.set()

    def got(self, transport: asyncio.Transport) -> None:
        """Resume the session over this connection, unless another one is asking or has done it."""
        link, now = self._link, self._loop.time()
        asking = link.transport is not None and now - self._asked_at < PATIENCE
        if asking or link.session.attached or link.closed.done():
            transport.abort()
        else:
            self._asked_at = now
            link.redial(transport)

    def ask(self, transport: asyncio.Transport) -> None:
        """Resume the session over this connection; begin with others only if that takes long."""
        self._asked_at = self._loop.time()
        self.begins_at = self._asked_at + PATIENCE
        self._link.redial(transport)

    async def _run(self) -> None:
        link = self._link
        soon_until = self._loop.time() + SOON
        try:
            while not (link.session.attached or link.closed.done()):
                if (left := self.begins_at - self._loop.time()) > 0:
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
        endpoint, turn = self._endpoint(), self._turn
        self._turn += 1
        try:
            await endpoint.connect(partial(_Connected, self), turn, worker=self._worker)
        except (OSError, TimeoutError) as error:
            _log.debug(
                "cannot connect", server=str(endpoint.location(turn)), reason=describe(error)
            )

    async def _wait(self, seconds: float) -> None:
        """Sleep, or return early when the session's state changes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()


class _Connected(asyncio.Protocol):
    """A new connection before it is given to the session."""

    def __init__(self, reconnect: Reconnect) -> None:
        self._reconnect = reconnect

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reconnect.got(cast("asyncio.Transport", transport))
