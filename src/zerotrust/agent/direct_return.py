"""Moves sessions from a WebSocket to a direct connection, once one works again.

The first attempt comes soon, because a server that restarts may have been reachable by its web
server first. Further ones become rare. A session moves as one that has lost its link (agent.
reconnect): it is resumed over the other connection, so no stream ends.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.session import ServerSession
from zerotrust.net.channel import describe
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import RESUME

FIRST: Final = 10.0
MOST: Final = 600.0
"""Longest times in seconds before the first attempt, and between two attempts; half of them at
least."""
STEADY: Final = 600.0
"""Seconds without a WebSocket after which attempts begin anew. A direct connection that breaks
again and again must not bring the session back each time."""

Connect = Callable[[ServerEndpoint], Awaitable[asyncio.Transport]]

_log = logs.logger("agent")


class DirectReturn:
    """Attempts of one connection to return.

    Args:
        connect: connects to the server directly.
    """

    def __init__(self, connect: Connect, tasks: Tasks) -> None:
        self._connect = connect
        self._tasks = tasks
        self._delay = FIRST
        self._next_at: float | None = None
        self._last_websocket_at = 0.0
        self._attempt: asyncio.Task[None] | None = None

    def sweep(self, session: ServerSession, now: float) -> None:
        """Start an attempt if it is time for one. Runs every second."""
        if not _may_move(session):
            self._next_at = None
            if now - self._last_websocket_at > STEADY:
                self._delay = FIRST
            return
        self._last_websocket_at = now
        if self._next_at is None:
            self._schedule(now)
        elif now >= self._next_at and (self._attempt is None or self._attempt.done()):
            self._delay = min(self._delay * 2, MOST)
            self._schedule(now)
            self._attempt = self._tasks.spawn(self._try(session), "connect directly")

    def _schedule(self, now: float) -> None:
        self._next_at = now + random.uniform(self._delay / 2, self._delay)  # noqa: S311

    async def _try(self, session: ServerSession) -> None:
        try:
            transport = await self._connect(session.endpoint)
        except OSError as error:
            _log.debug("still no direct connection to the server", reason=describe(error))
            return
        if _may_move(session):
            _log.info("using a direct connection to the server again")
            session.endpoint.transport.uses_websocket = False
            session.move(transport)
        else:
            transport.abort()


def _may_move(session: ServerSession) -> bool:
    """Return True for a session on a WebSocket that can be resumed over a direct connection."""
    tunnel = session.link.session
    return (
        session.endpoint.transport.mode == "auto"
        and session.link.by_websocket
        and tunnel.attached
        and RESUME in tunnel.capabilities
    )
