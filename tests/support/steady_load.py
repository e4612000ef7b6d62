"""Steady load of requests, which notes each failure; and the end of WebSockets."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.entrypoint import Entrypoint

APP = "app.localhost"
RATE = 100


class Load:
    """RATE requests per second over kept-alive connections; every fourth has a body.

    Attributes:
        failures: descriptions of failed requests.
    """

    CLIENTS = 20

    def __init__(self, entrypoint: Entrypoint) -> None:
        self.entrypoint = entrypoint
        self.answered = 0
        self.failures: list[str] = []
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        tasks = [asyncio.create_task(self._visit(number)) for number in range(self.CLIENTS)]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def _visit(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        pause = self.CLIENTS / RATE
        due = loop.time() + pause * number / self.CLIENTS
        while not self._stop.is_set():
            try:
                async with await self.entrypoint.open(APP, patience=30) as client:
                    while not self._stop.is_set():
                        await asyncio.sleep(due - loop.time())
                        due = max(due + pause, loop.time())
                        await self._ask(client, with_body=number % 4 == 0)
                        self.answered += 1
            except (AssertionError, OSError, EOFError, TimeoutError) as error:
                self.failures.append(repr(error)[:300])

    async def _ask(self, client: Any, *, with_body: bool) -> None:
        if with_body:
            body = random.randbytes(2000)
            response = await client.request("POST", "/upload", body=body)
            assert response.status == 200, response
            assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()
        else:
            response = await client.get("/bytes/500")
            assert response.status == 200, response
            assert len(response.body) == 500


async def closed_with(socket: ClientConnection) -> int | None:
    """Return the code with which the other end closes."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code
