"""A TCP connection of the origin: buffered reads, writes with back-pressure, its end.

asyncio's streams do not fit: the origin must hold a connection after the peer's EOF, notice that
EOF while it writes, and reset on purpose.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

LIMIT = 1 << 20


class PeerClosed(Exception):  # noqa: N818  a peer may go
    """The peer closed or reset the connection before we were done."""


class OriginConnection(asyncio.Protocol):
    """The connection; `accepted` is called with it once it is made."""

    transport: asyncio.Transport

    def __init__(self, accepted: Callable[["OriginConnection"], None]) -> None:
        self._accepted = accepted
        self.buffer = bytearray()
        self.eof = False
        self.lost = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._accepted(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > LIMIT:
            self.transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        self.eof = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.eof = True
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # the origin's side

    async def more(self) -> bool:
        """Wait for bytes; return False at the end of the peer's data."""
        if self.eof:
            return False
        self._changed.clear()
        if len(self.buffer) <= LIMIT:
            self.transport.resume_reading()
        await self._changed.wait()
        return True

    def take(self, size: int) -> bytes:
        taken = bytes(memoryview(self.buffer)[:size])
        del self.buffer[:size]
        return taken

    async def read(self, size: int = LIMIT) -> bytes:
        """Return the bytes that are there, at most `size`; b"" at EOF."""
        while not self.buffer:
            if not await self.more():
                return b""
        return self.take(size)

    async def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not await self.more():
                raise PeerClosed
        return self.take(size)

    async def read_until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        while (found := self.buffer.find(end)) < 0:
            if not await self.more():
                raise PeerClosed
        return self.take(found + len(end))

    def write(self, data: bytes | memoryview) -> None:
        self.transport.write(data)

    async def send(self, data: bytes | memoryview) -> None:
        """Write, and wait while the peer does not read."""
        # After a failed write the transport is closing, and takes all that follows as if it were
        # sent; `lost` is set only when the loop runs.
        if self.lost or self.transport.is_closing():
            raise PeerClosed
        self.transport.write(data)
        await self._writable.wait()
        if self.lost:
            raise PeerClosed

    async def pause(self, seconds: float | None) -> None:
        """Sleep, for ever if None; keep the data that the peer sends.

        Raises:
            PeerClosed: the peer closed or reset the connection meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                while await self.more():
                    pass
        except TimeoutError:
            return
        raise PeerClosed

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        raw: socket.socket = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
