"""A backend in the test's own loop: it answers its name, slowly or with errors on request."""

import asyncio
import contextlib
import ssl
from collections import Counter
from pathlib import Path

from tests.support.ports import free_port


class InProcessBackend:
    """Answer every request with the backend's name; the port survives a restart.

    Attributes:
        delay: seconds before an answer.
        status: status of the answers.
        close_after: number of answers on a connection before it is closed without notice.
    """

    def __init__(
        self, name: str, *, path: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.name = name
        self.port = free_port()
        self.path = path
        self.delay = 0.0
        self.status = 200
        self.close_after: int | None = None
        self.bodies: Counter[bytes] = Counter()
        self.heads: list[bytes] = []
        self.active = self.most_active = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def requests(self) -> int:
        return len(self.heads)

    async def start(self) -> "InProcessBackend":
        if self.path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        else:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=self._tls, backlog=512
            )
        return self

    async def stop(self) -> None:
        """Refuse connections and abort open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        answers = 0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while answers != self.close_after:
                await self._answer(reader, writer)
                answers += 1
        self._open.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(
            (int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")),
            0,
        )
        self.bodies[await reader.readexactly(length)] += 1
        self.heads.append(head)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
        finally:
            self.active -= 1
        if writer.transport.is_closing():
            raise ConnectionAbortedError
        body = self.name.encode()
        writer.write(
            b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%b" % (self.status, len(body), body)
        )
        await writer.drain()
