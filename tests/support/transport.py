"""A transport without a network that records writes and calls."""

import asyncio
import os
import socket
from collections.abc import Iterable
from typing import Any, Final

_QUIET: Final = os.pipe()
_READABLE: Final = os.pipe()
os.write(_READABLE[1], b"?")


class FakeTransport(asyncio.Transport):
    """Takes everything at once. `tls` stands for one that has no half-close.

    Attributes:
        unread: bytes have arrived that the loop has not handed over yet.
        unwritten: so many bytes of what was written wait in the transport.
    """

    family = socket.AF_UNIX

    def __init__(self, protocol: asyncio.Protocol, *, tls: bool = False) -> None:
        super().__init__({"socket": self})
        self._protocol = protocol
        self._tls = tls
        self._closing = False
        self._reading = True
        self.output = b""
        self.has_eof = self.is_aborted = self.resets = self.unread = False
        self.unwritten = 0
        protocol.connection_made(self)

    async def written(self) -> bytes:
        """Run the loop; return the bytes written since the last call."""
        for _ in range(10):
            await asyncio.sleep(0)
        output, self.output = self.output, b""
        return output

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        self.resets |= (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER)

    def fileno(self) -> int:
        return (_READABLE if self.unread else _QUIET)[0]

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: it has no buffer."""

    def write(self, data: Any) -> None:
        assert not self.has_eof and not self._closing
        self.output += data

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        if self._tls:
            raise NotImplementedError
        self.has_eof = True

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
