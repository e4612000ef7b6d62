"""One connection's transport: gathered writes, back-pressure, and the one place that knows how a transport dies."""

import asyncio
import socket
import ssl
import struct
from typing import Any, Final, cast

from zerotrust.net.write_coalescer import WriteCoalescer

Chunk = bytes | memoryview

JOINED: Final = 1024
"""Pieces that are shorter together are written as one: each takes some fifty bytes besides its own while it waits."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group, as SO_PEERCRED gives them (unix(7))."""


def describe(error: BaseException | None) -> str:
    """Why a connection ended, in words for a log or an error page; never an address of ours or a secret."""
    match error:
        case None:
            return "closed by the other end"
        case ssl.SSLCertVerificationError():
            return f"certificate not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "connection reset"
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "timed out"
        case OSError() if error.strerror:
            return error.strerror.lower()
    return str(error) or type(error).__name__


class Channel:
    """A connection whose writes leave together at the end of the loop's turn: an `asyncio.Protocol` in all but name.

    Not by name, because a compiled class has no base that is not compiled (docs/architecture.md).

    Subclasses implement `data_received`, `ended` and, where they write much, `drained`.
    """

    __slots__ = ("_closing", "_coalescer", "_out", "congested", "transport")

    def __init__(self, coalescer: WriteCoalescer) -> None:
        self._coalescer = coalescer
        self._out: list[Chunk] = []
        self._closing = False
        self.congested = False
        self.transport: asyncio.Transport | None = None

    def send(self, data: Chunk) -> None:
        """Write at the end of this turn; nothing happens once the connection is closing."""
        if self._closing:
            return
        out = self._out
        if not out:
            self._coalescer.mark(self)
            out.append(data)
        elif len(out) > 1 and len(out[-1]) + len(data) <= JOINED:
            # Not to the first piece, which may be a request's head: BackendConnection asks whether it was written.
            out[-1] = b"".join((out[-1], data))
        else:
            out.append(data)

    def flush(self) -> None:
        """Write the buffered bytes, unless the transport is congested: then small pieces are joined here."""
        if not self.congested:
            self.write()

    def write(self) -> None:
        """Write the buffered bytes, also to a congested transport."""
        out, self._out = self._out, []
        if out and self.transport is not None:
            if len(out) == 1:
                self.transport.write(out[0])
            else:
                self.transport.writelines(out)

    def close(self) -> None:
        """Send what has gathered, then close."""
        if not self._closing:
            self.write()
            self._closing = True
            if self.transport is not None:
                self.transport.close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self._closing = True
        self._out = []
        if self.transport is not None:
            self.transport.abort()

    def reset_on_close(self) -> None:
        """Let the other end see a reset when the connection is closed, where an end of file would be taken for good."""
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def send_eof(self) -> None:
        """Half-close: nothing more will be sent. TLS has no half-close here and is closed as a whole."""
        if self._closing or self.transport is None:
            return
        if self.transport.can_write_eof():
            self.write()
            try:
                self.transport.write_eof()
            except OSError:
                # The other end is gone, and the loop has not told us yet. Whoever speaks for others, as a tunnel does,
                # must not hear of it here.
                self.abort()
        else:
            self.close()

    def pause_reading(self) -> None:
        """Whoever takes what arrives takes no more for now."""
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """It takes more."""
        if self.transport is not None:
            self.transport.resume_reading()

    def as_protocol(self) -> asyncio.Protocol:
        """The channel by the type that the loop's functions ask for."""
        return cast("asyncio.Protocol", self)

    def peer(self) -> Any:
        """The other end's socket address."""
        return self.transport.get_extra_info("peername") if self.transport is not None else None

    def peer_uid(self) -> int | None:
        """The user of the process at the other end of a unix socket; None where the system does not say."""
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is None or raw.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
            return None
        _, uid, _ = _CREDENTIALS.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return int(uid)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the transport and say so once."""
        self._closing = True
        self._out = []
        self.transport = None
        self.ended(exc)

    def eof_received(self) -> bool:
        """The other end sends no more; whoever can't go on with one direction closes."""
        return False

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self.congested = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.congested = False
        self.write()
        if not self.congested:
            self.drained()

    # ---- for subclasses

    def ended(self, error: Exception | None) -> None:
        """The connection is gone."""

    def drained(self) -> None:
        """`congested` has become False."""


class BufferedChannel(Channel):
    """A channel that reads `READ_BYTES` at a time: an `asyncio.BufferedProtocol` in all but name.

    The loops read 256 KiB at a time for other protocols, and hand all of it over even to one that wants to pause.
    """

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            # What the kernel does not take counts from its first byte: it is the owner's to bound. Not 0: uvloop's TLS
            # compares with >=, and would never take anything.
            self.transport.set_write_buffer_limits(high=1)

    def is_buffered_protocol(self) -> bool:
        """Tell aiofastnet, which does not see that from the methods."""
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory that the loop reads into."""
        return self._coalescer.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the loop has read."""
        self.data_received(bytes(self._coalescer.read_buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        raise NotImplementedError
