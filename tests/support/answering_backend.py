"""A backend that answers each request with bytes of the test's own, and closes the connection."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Self


class AnsweringBackend:
    """Writes the answer of the requested path as it is, else 404; entered, it listens."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self._answers = answers

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            writer.write(self._answers.get(path, b"HTTP/1.1 404 Not Found\r\n\r\n"))
            await writer.drain()
            writer.write_eof()
            await reader.read()
        writer.close()
