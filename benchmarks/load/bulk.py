"""Bulk transfers: one download, one upload, and endless downloads."""

import asyncio
from typing import Final, cast

from benchmarks.load.clients import connect
from benchmarks.load.jobs import Endpoint
from zerotrust.errors import BenchError

_CHUNK: Final = 256 * 1024
_HEAD_MOST: Final = 16 * 1024


class _Transfer(asyncio.BufferedProtocol):
    """Base of download and upload: reads a head, then counts bytes without looking at them."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._buffer = bytearray(_CHUNK)
        self._head = b""
        self._has_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._has_head:
            self._take(nbytes)
            return
        self._head += self._buffer[:nbytes]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _HEAD_MOST:
                self.fail("an answer without an end of its head")
            return
        if not self._head.startswith(b"HTTP/1.1 200"):
            self.fail(self._head.partition(b"\r\n")[0].decode("latin-1"))
            return
        self._has_head = True
        self._take(len(self._head) - end - 4)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the connection ended after {self.received} bytes ({exc or 'without a reason'})")

    def fail(self, reason: str) -> None:
        """Fail the transfer."""
        if not self.done.done():
            self.done.set_exception(BenchError(reason))

    def _take(self, nbytes: int) -> None:
        """Count received bytes of the body."""
        self.received += nbytes
        self.counted()

    def counted(self) -> None:
        """Called after `received` has grown."""


class Download(_Transfer):
    """GET of `size` bytes; `done` at the end, or after `stall_after` bytes, then never read."""

    def __init__(
        self, endpoint: Endpoint, path: str, size: int, *, stall_after: int | None = None
    ) -> None:
        super().__init__()
        fields = f"Host: {endpoint.host}\r\nUser-Agent: 0trust-bench\r\n\r\n"
        self._request = f"GET {path} HTTP/1.1\r\n{fields}".encode()
        self._enough = size if stall_after is None else stall_after
        self._stalls = stall_after is not None

    def start(self) -> None:
        """Send the request; repeat it only after `done`."""
        self.received = 0
        self._has_head, self._head = False, b""
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)

    def counted(self) -> None:
        if self.received >= self._enough and not self.done.done():
            self.done.set_result(None)
            if self._stalls:
                self.transport.pause_reading()


class Upload(_Transfer):
    """POST of `size` bytes; `done` when the origin, having all of it, has answered."""

    def __init__(self, endpoint: Endpoint, path: str, size: int) -> None:
        super().__init__()
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: {endpoint.host}\r\nUser-Agent: 0trust-bench\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        ).encode()
        self._left = size
        self._chunk = bytes(_CHUNK)
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def send(self) -> None:
        """Send the body as fast as the peer accepts it."""
        self.transport.write(self._request)
        while self._left and not self.done.done():
            await self._may_write.wait()
            chunk = self._chunk if self._left >= _CHUNK else self._chunk[: self._left]
            self._left -= len(chunk)
            self.transport.write(chunk)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._may_write.set()

    def counted(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def flood(endpoint: Endpoint, path: str, size: int) -> None:
    """Repeat downloads until cancelled."""
    download = await connect(endpoint, lambda: Download(endpoint, path, size))
    try:
        while True:
            download.start()
            await download.done
    finally:
        download.transport.abort()
