"""Listener for HTTP/1.1: addresses, and the connections accepted there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from zerotrust.net.http_server import SWEEP, HttpServerConnection, RequestHandler
from zerotrust.net.listen import Listening, PlainListening, RateLimitedWarning, listen_plain
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

DRAIN_STEP: Final = 0.02


class HttpListener:
    """Accepts connections and passes their requests to one handler.

    Connections belong to the listener. So they stay open when it replaces its address.

    Args:
        name: the listener's name in the log.
        most: returns the maximum number of connections.
        reuse_idle: at the maximum, close the connection that is idle longest, as nginx does;
            otherwise refuse the new one. If all have a request, the new one is refused.
        fix: hint for the log about how to raise the maximum.

    Attributes:
        refused: total number of connections that were closed or refused at the maximum.
        accepted: the open connections.
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
        effect = "the longest idle ones are closed" if reuse_idle else "new ones are refused"
        fields = {"listener": name} | ({"fix": fix} if fix else {})
        self._full = RateLimitedWarning(f"too many connections: {effect}", **fields)
        self.accepted: set[HttpServerConnection] = set()
        self._draining = False
        self._sweeping = tasks.spawn(self._sweep(), "sweep connections")

    @property
    def connections(self) -> int:
        """Return the number of open connections."""
        return len(self.accepted)

    @asynccontextmanager
    async def listen(self, address: str, *, key: str) -> AsyncIterator[Listening]:
        """Accept connections at an address; on exit, stop listening and close all connections.

        Raises:
            SetupError: the address can't be used; `key` names it in the configuration.
        """
        listening = await self.bind(address, key=key)
        try:
            yield listening
        finally:
            await listening.close()
            self.close()

    async def bind(
        self, address: str, *, key: str, beside: Listening | None = None
    ) -> PlainListening:
        """Accept connections at an address, as `listen_plain` does, until the result is closed.

        Open connections stay until `close`.

        Raises:
            SetupError: the address can't be used; `key` names it in the configuration.
        """
        return await listen_plain(address, self._connection, key=key, beside=beside)

    def handed(self, *, key: str) -> PlainListening:
        """Accept connections that another process hands over (`PlainListening.take`)."""
        return PlainListening([], self._connection, key=key)

    async def drain(self, seconds: float) -> None:
        """Wait at most `seconds` until running requests have ended.

        Call it after closing all addresses.

        Requests that still come on keep-alive connections are answered. Each connection closes
        after its request. Upgraded connections stay open.
        """
        self._draining = True
        for connection in self.accepted:
            connection.end_keep_alive()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while (now := loop.time()) < ends_at:
            if not [one for one in list(self.accepted) if not one.close_if_idle(now)]:
                return
            await asyncio.sleep(DRAIN_STEP)

    async def ended(self, seconds: float) -> None:
        """Wait at most `seconds` until all connections have ended."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        # Polled, so that the end of a connection costs nothing.
        while self.accepted and loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)

    def close(self) -> None:
        """Abort all connections."""
        self._sweeping.cancel()
        for connection in list(self.accepted):
            connection.abort()

    def _connection(self) -> asyncio.Protocol | None:
        if not self._has_room():
            return None
        connection = HttpServerConnection(self._coalescer, self._handler, self.accepted)
        self.accepted.add(connection)
        if self._draining:
            connection.end_keep_alive()
        return connection.as_protocol()

    def _has_room(self) -> bool:
        """Return True if there is room for a connection, or close an idle one to make some."""
        most = self._most()
        if len(self.accepted) < most:
            return True
        self.refused += 1
        self._full.note(most=most)
        if not self._reuse_idle:
            return False
        idle = [connection for connection in self.accepted if not connection.has_request]
        if not idle:
            return False
        longest = min(idle, key=lambda connection: connection.since)
        longest.abort()
        self.accepted.discard(longest)
        return len(self.accepted) < most

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            for connection in list(self.accepted):
                connection.sweep(now)
