"""A listening address for HTTP/1.1, and the connections that it has accepted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zerotrust.net.flush import Flusher
from zerotrust.net.http_server import SWEEP, HttpServerConnection, RequestHandler
from zerotrust.net.listen import listen_plain
from zerotrust.net.tasks import Tasks


class HttpListener:
    """Accepts connections and hands their requests to one handler."""

    def __init__(self, flusher: Flusher, handler: RequestHandler, tasks: Tasks) -> None:
        self._flusher = flusher
        self._handler = handler
        self._tasks = tasks
        self._connections: set[HttpServerConnection] = set()

    @asynccontextmanager
    async def listen(self, address: str, *, key: str) -> AsyncIterator[asyncio.Server]:
        """Accept connections while the context lasts.

        Raises:
            SetupError: the address can't be used; `key` names it in the configuration.
        """
        server = await listen_plain(address, self._connection, key=key)
        sweeping = self._tasks.spawn(self._sweep(), f"sweep {key}")
        try:
            yield server
        finally:
            sweeping.cancel()
            server.close()
            for connection in list(self._connections):
                connection.abort()

    def _connection(self) -> asyncio.Protocol:
        return HttpServerConnection(self._flusher, self._handler, self._connections).as_protocol()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            for connection in list(self._connections):
                connection.sweep(now)
