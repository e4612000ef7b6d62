"""Listening addresses for HTTP/1.1, and the connections that were accepted there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from zerotrust.net.http_server import SWEEP, HttpServerConnection, RequestHandler
from zerotrust.net.listen import Listening, PlainListening, RareWarning, listen_plain
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

DRAIN_STEP: Final = 0.02


class HttpListener:
    """Accepts connections and hands their requests to one handler.

    An address can take the place of another one: connections are the listener's, not the address's.

    Args:
        name: for the log.
        most: how many connections there may be now.
        reuse_idle: when there are so many, close the one that has had no request for longest, as nginx does; else
            refuse the new one. Where all have a request under way, the new one is refused in any case.
        fix: for the log, where something can be done about it.

    Attributes:
        refused: connections that were closed because there were too many, ever.
    """

    def __init__(
        self,
        coalescer: WriteCoalescer,
        handler: RequestHandler,
        tasks: Tasks,
        *,
        name: str,
        most: Callable[[], int],
        reuse_idle: bool = True,
        fix: str | None = None,
    ) -> None:
        self.refused = 0
        self._coalescer = coalescer
        self._handler = handler
        self._most = most
        self._reuse_idle = reuse_idle
        which = "those that are idle longest are closed" if reuse_idle else "new ones are refused"
        fields = {"listener": name} | ({"fix": fix} if fix else {})
        self._full = RareWarning(f"too many connections: {which}", **fields)
        self._connections: set[HttpServerConnection] = set()
        self._draining = False
        self._sweeping = tasks.spawn(self._sweep(), "sweep connections")

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    @asynccontextmanager
    async def listen(self, address: str, *, key: str) -> AsyncIterator[Listening]:
        """Accept connections at an address that stays while the context lasts, which then ends them.

        Raises:
            SetupError: the address can't be used; `key` names it in the configuration.
        """
        listening = await self.bind(address, key=key)
        try:
            yield listening
        finally:
            await listening.close()
            self.close()

    async def bind(self, address: str, *, key: str, beside: Listening | None = None) -> PlainListening:
        """Accept connections at an address, as `listen_plain`, until that is closed; `close` is still needed then.

        Raises:
            SetupError: the address can't be used; `key` names it in the configuration.
        """
        return await listen_plain(address, self._connection, key=key, beside=beside)

    async def drain(self, seconds: float) -> None:
        """Have requests end that run, or still come on kept connections; to be called when no address is listened at.

        Each is the last of its connection. What was upgraded stays. Returns after `seconds` at the latest.
        """
        self._draining = True
        for connection in self._connections:
            connection.end_keep_alive()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while (now := loop.time()) < ends_at:
            under_way = [connection for connection in list(self._connections) if connection.settle(now)]
            if not under_way:
                return
            await asyncio.sleep(DRAIN_STEP)

    async def ended(self, seconds: float) -> None:
        """Wait until all connections have ended; `seconds` at the most."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        # Looked for, so that no connection has to tell when it ends.
        while self._connections and loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)

    def close(self) -> None:
        """End all connections."""
        self._sweeping.cancel()
        for connection in list(self._connections):
            connection.abort()

    def _connection(self) -> asyncio.Protocol | None:
        if not self._has_room():
            return None
        connection = HttpServerConnection(self._coalescer, self._handler, self._connections)
        self._connections.add(connection)
        if self._draining:
            connection.end_keep_alive()
        return connection.as_protocol()

    def _has_room(self) -> bool:
        """There is a place, or one has been made."""
        most = self._most()
        if len(self._connections) < most:
            return True
        self.refused += 1
        self._full.note(most=most)
        if not self._reuse_idle:
            return False
        idle = [connection for connection in self._connections if not connection.has_request]
        if not idle:
            return False
        longest = min(idle, key=lambda connection: connection.since)
        longest.abort()
        self._connections.discard(longest)
        return len(self._connections) < most

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            for connection in list(self._connections):
                connection.sweep(now)
