"""An HTTP/1.0 backend, with and without Content-Length; it can stall inside an answer."""

import asyncio
import contextlib

from tests.support.ports import free_port


class OldBackend:
    """Routes: `/until-close`, `/length`, `/keep-alive`, and `/stall` for half an answer."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        self._open.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"\r\ncontent-length: ")
        await reader.readexactly(int(length.partition(b"\r\n")[0] or 0))
        method, target, _ = head.split(b" ", 2)
        kind = target.removeprefix(b"/")
        if kind == b"stall":
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            await reader.read()
            return False
        body = b"%b %b" % (method, kind) * 100
        fields = b"" if kind == b"until-close" else b"Content-Length: %d\r\n" % len(body)
        if kind == b"keep-alive":
            fields += b"Connection: keep-alive\r\n"
        writer.write(b"HTTP/1.0 200 OK\r\n%b\r\n%b" % (fields, b"" if method == b"HEAD" else body))
        await writer.drain()
        return kind == b"keep-alive"
