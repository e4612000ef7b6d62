"""A light WebSocket client: 1,000 of them fit into the process of a test."""

import asyncio
import hashlib
import ssl
from collections.abc import Sequence
from typing import Self, cast

_NO_MASK = b"\x00\x00\x00\x00"
_TEXT, _CLOSE = 0x81, 0x88


class EchoSocket(asyncio.Protocol):
    """Sends numbered messages to an echo, and keeps a hash of what it says and hears.

    Attributes:
        said, heard: how many messages.
        ended_at: time of the loop at which the Close frame came, or the connection's end without
            one; 0 while the connection is open.
        code, reason: of the Close frame; 1006 without one.
    """

    def __init__(self) -> None:
        self.said = self.heard = 0
        self.said_hash, self.heard_hash = hashlib.sha256(), hashlib.sha256()
        self.ended_at = 0.0
        self.code, self.reason = 1006, ""
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[bytes] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._is_open = False

    @classmethod
    async def open(
        cls,
        port: int,
        host: str,
        fields: Sequence[tuple[str, str]],
        *,
        tls: ssl.SSLContext | None = None,
        path: str = "/",
    ) -> Self:
        """Open a WebSocket at a port of this machine.

        Raises:
            AssertionError: the server refused it.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            transport, socket = await loop.create_connection(
                cls, "127.0.0.1", port, ssl=tls, server_hostname=host if tls else None
            )
            lines = [
                f"GET {path} HTTP/1.1",
                f"Host: {host}:{port}" if tls else f"Host: {host}",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                *(f"{name}: {value}" for name, value in fields),
            ]
            transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = await socket.opened
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return socket

    @property
    def is_complete(self) -> bool:
        """All that was said has come back, unchanged and in order."""
        return not self.ended_at and self.said_hash.digest() == self.heard_hash.digest()

    @property
    def heard_in_order(self) -> bool:
        """All that was heard is what was said first, unchanged and in order."""
        said = b"".join(_message(number) for number in range(self.heard))
        return hashlib.sha256(said).digest() == self.heard_hash.digest()

    def say(self) -> None:
        """Send the next message, unless the connection has ended."""
        if self.ended_at or self._transport is None:
            return
        message = _message(self.said)
        self.said += 1
        self.said_hash.update(message)
        self._transport.write(bytes((_TEXT, 0x80 | len(message))) + _NO_MASK + message)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- from the loop (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's over TLS is none

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._is_open, self._buffer = True, rest
            self.opened.set_result(head)
        while len(self._buffer) >= 2 and len(self._buffer) >= 2 + self._buffer[1]:
            opcode, end_of_frame = self._buffer[0], 2 + self._buffer[1]
            payload = self._buffer[2:end_of_frame]
            self._buffer = self._buffer[end_of_frame:]
            if opcode == _TEXT:
                self.heard += 1
                self.heard_hash.update(payload)
            elif opcode == _CLOSE:
                self.code, self.reason = int.from_bytes(payload[:2]), payload[2:].decode()
                self._end()

    def connection_lost(self, _: Exception | None) -> None:
        self._end()
        if not self.opened.done():
            self.opened.set_result(b"")

    def _end(self) -> None:
        self.ended_at = self.ended_at or self._loop.time()


def _message(number: int) -> bytes:
    return b"message %d" % number
