"""Base classes of connections: coalesced writes, back-pressure and the end of a connection."""

import asyncio
import socket
import ssl
import struct
from typing import Any, Final, cast

from zerotrust.net.write_coalescer import WriteCoalescer

Chunk = bytes | memoryview

JOINED: Final = 1024
"""Pieces are joined up to this many bytes, because each waiting piece takes fifty bytes of its
own."""
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group, as SO_PEERCRED gives them (unix(7))."""


def describe(error: BaseException | None) -> str:
    """Return why a connection ended, for logs and error pages; without addresses and secrets."""
    match error:
        case None:
            return "closed by the peer"
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
    """A connection that writes once per turn of the event loop.

    It has the methods of `asyncio.Protocol`. It does not inherit from it, because a compiled class
    cannot have an interpreted base class (docs/architecture.md).

    Subclasses implement `data_received`, `ended` and, if they write large amounts, `drained`.

    Attributes:
        congested: the transport's buffer is full.
        transport: the transport; None before the connection is made and after it is lost.
    """

    __slots__ = ("_closing", "_coalescer", "_out", "congested", "transport")

    def __init__(self, coalescer: WriteCoalescer) -> None:
        self._coalescer = coalescer
        self._out: list[Chunk] = []
        self._closing = False
        self.congested = False
        self.transport: asyncio.Transport | None = None

    def send(self, data: Chunk) -> None:
        """Write at the end of this turn; do nothing if the connection is closing."""
        if self._closing:
            return
        out = self._out
        if not out:
            self._coalescer.mark(self)
            out.append(data)
        elif len(out) > 1 and len(out[-1]) + len(data) <= JOINED:
            # Never joined to the first piece: BackendConnection must know if a request's head was
            # written.
            out[-1] = b"".join((out[-1], data))
        else:
            out.append(data)

    def flush(self) -> None:
        """Write the buffered bytes, unless the transport is congested."""
        if not self.congested:
            self.write()

    def write(self) -> None:
        """Write the buffered bytes, even if the transport is congested."""
        out, self._out = self._out, []
        if out and self.transport is not None:
            if len(out) == 1:
                self.transport.write(out[0])
            else:
                self.transport.writelines(out)

    def close(self) -> None:
        """Write the buffered bytes, then close."""
        if not self._closing:
            self.write()
            self._closing = True
            if self.transport is not None:
                self.transport.close()

    def abort(self) -> None:
        """Close at once; drop bytes that were not sent."""
        self._closing = True
        self._out = []
        if self.transport is not None:
            self.transport.abort()

    def reset_on_close(self) -> None:
        """Make a later close send a TCP reset, so that the peer does not take it for a regular
        end."""
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)

    def send_eof(self) -> None:
        """Half-close the connection. A TLS connection has no half-close here, so close it."""
        if self._closing or self.transport is None:
            return
        if self.transport.can_write_eof():
            self.write()
            try:
                self.transport.write_eof()
            except OSError:
                # The peer is gone, and the loop has not told us yet. The caller may be the tunnel,
                # which serves other streams too, so the error must not reach it.
                self.abort()
        else:
            self.close()

    def pause_reading(self) -> None:
        """Pause reading."""
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        if self.transport is not None:
            self.transport.resume_reading()

    @property
    def is_reading(self) -> bool:
        """The connection is open, and reading is not paused."""
        return self.transport is not None and self.transport.is_reading()

    def as_protocol(self) -> asyncio.Protocol:
        """Return the channel as the type that the loop's functions expect."""
        return cast("asyncio.Protocol", self)

    def peer(self) -> Any:
        """Return the peer's socket address."""
        return self.transport.get_extra_info("peername") if self.transport is not None else None

    def is_local(self) -> bool:
        """Return False if the connection has a socket, and that is no unix socket."""
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        return raw is None or raw.family == socket.AF_UNIX

    def peer_uid(self) -> int | None:
        """Return the user id of the peer of a unix socket; None if the system does not provide
        it."""
        raw = self.transport.get_extra_info("socket") if self.transport is not None else None
        if raw is None or raw.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
            return None
        _, uid, _ = _CREDENTIALS.unpack(
            raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        return int(uid)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the transport and call `ended`."""
        self._closing = True
        self._out = []
        self.transport = None
        self.ended(exc)

    def eof_received(self) -> bool:
        """Close the connection when the peer half-closes it.

        A subclass may return True to keep it open.
        """
        return False

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        self.congested = True

    def resume_writing(self) -> None:
        """Write the buffered bytes, and call `drained` if the transport takes them."""
        self.congested = False
        self.write()
        if not self.congested:
            self.drained()

    # ---- for subclasses

    def ended(self, error: Exception | None) -> None:
        """Handle the end of the connection."""

    def drained(self) -> None:
        """Handle that `congested` has become False."""


class BufferedChannel(Channel):
    """A channel that reads at most `READ_BYTES` at a time.

    It has the methods of `asyncio.BufferedProtocol`. For other protocols the loops read 256 KiB at
    a time, and deliver them even if the protocol pauses reading.
    """

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            # Any byte that the kernel does not take counts as congestion, so that the owner limits
            # its buffers. The limit is not 0, because uvloop's TLS compares with >= and would
            # always be congested.
            self.transport.set_write_buffer_limits(high=1)

    def is_buffered_protocol(self) -> bool:
        """Return True, for aiofastnet, which does not recognise the methods."""
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory that the loop reads into."""
        return self._coalescer.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the bytes that the loop has read."""
        self.data_received(self._coalescer.read_buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        raise NotImplementedError
