"""Transport whose bytes travel in a WebSocket, for the TLS of a tunnel (docs/spec/tunnel-v1.md,
section 12)."""

import asyncio
from typing import Any, cast

import aiofastnet

from zerotrust.errors import RemoteProtocolError
from zerotrust.http.websocket_stream import WebSocketStream
from zerotrust.net.channel import Channel, Chunk


class WebSocketTransport:
    """The stream in one WebSocket (http.websocket_stream), as the loop's TLS takes it.

    It has the methods of `asyncio.Transport`. It does not inherit from it, because a compiled class
    cannot have an interpreted base class (docs/architecture.md).

    The owner of the connection calls `body`, `drained` and `aborted` (net.http_server.RequestSink).

    Args:
        channel: the connection that carries the WebSocket, after its opening handshake.
        client: this end has opened the WebSocket.
        peername: address of the peer, if it is not the connection's.
    """

    __slots__ = (
        "_buffered",
        "_channel",
        "_closing",
        "_congested",
        "_error",
        "_input_ended",
        "_loop",
        "_paused",
        "_peername",
        "_pending",
        "_protocol",
        "_stream",
    )

    def __init__(
        self, channel: Channel, *, client: bool, peername: tuple[str, str] | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._stream = WebSocketStream(client=client)
        self._peername = peername
        self._protocol: Any = None
        self._buffered = False
        self._pending: list[bytes] = []
        self._paused = True
        self._congested = False
        self._closing = False
        self._input_ended = False
        self._error: BaseException | None = None

    def as_transport(self) -> asyncio.Transport:
        """Return the transport as the type that the loop's functions expect."""
        return cast("asyncio.Transport", self)

    # ---- called by the owner of the connection

    def body(self, data: bytes, *, end: bool) -> None:
        """Handle bytes of the WebSocket."""
        try:
            pieces = self._stream.receive_data(data)
        except RemoteProtocolError as error:
            self._reply()
            self._force_close(ConnectionError(str(error)))
            return
        self._reply()
        self._pending += pieces
        self._input_ended = end or self._stream.ended
        self._deliver()

    def body_trailers(self, fields: bytes) -> None:
        """Do nothing: a WebSocket has no trailers."""

    def drained(self) -> None:
        """Handle that the connection takes more."""
        if self._congested:
            self._congested = False
            if self._protocol is not None:
                self._protocol.resume_writing()

    def aborted(self, error: BaseException | None = None) -> None:
        """Handle the end of the connection."""
        self._closing = True
        self._error = self._error or error
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(self._error)

    # ---- asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the connection that carries the WebSocket; `websocket` is
        True."""
        if name == "peername" and self._peername is not None:
            return self._peername
        if name == "websocket":
            return True
        transport = self._channel.transport
        return default if transport is None else transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to this protocol from now on."""
        self._protocol = protocol
        self._buffered = aiofastnet.aiofn_is_buffered_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return cast("asyncio.BaseProtocol", self._protocol)

    def is_closing(self) -> bool:
        """Return True if the connection is closed or closing."""
        return self._closing

    def is_reading(self) -> bool:
        """Return True if bytes are delivered."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`."""
        self._paused = True
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again: first what has arrived before the pause."""
        self._paused = False
        # In another turn, because the protocol may be handling bytes at the moment.
        self._loop.call_soon(self._read_on)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the connection's write buffer."""
        if self._channel.transport is not None:
            self._channel.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits of the connection's write buffer."""
        transport: Any = self._channel.transport
        return (0, 0) if transport is None else transport.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes in the connection's write buffer."""
        transport = self._channel.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def write(self, data: Chunk) -> None:
        """Send bytes at the end of this turn, in a frame."""
        if self._closing or not data:
            return
        channel = self._channel
        channel.send(self._stream.header(len(data)))
        channel.send(data)
        if channel.congested and not self._congested:
            self._congested = True
            self._protocol.pause_writing()

    def writelines(self, pieces: list[Chunk]) -> None:
        """Send several pieces of bytes."""
        for piece in pieces:
            self.write(piece)

    def can_write_eof(self) -> bool:
        """Return False: a WebSocket closes both directions."""
        return False

    def close(self) -> None:
        """Send what is buffered and a Close frame, then close the connection."""
        if not self._closing:
            self._closing = True
            if not self._stream.ended:
                self._channel.send(self._stream.close())
            self._channel.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._force_close(None)

    def _force_close(self, error: Any) -> None:
        """Close the connection at once, for this reason: an exception, its class or None.

        TLS of aiofastnet calls it.
        """
        self._error = self._error or (error() if isinstance(error, type) else error)
        self._closing = True
        self._channel.flush()
        self._channel.abort()

    # ---- inside

    def _reply(self) -> None:
        reply = self._stream.take_reply()
        # A peer that reads nothing gets no answers, so that they need no memory.
        if reply and not self._closing and not self._channel.congested:
            self._channel.send(reply)

    def _read_on(self) -> None:
        self._deliver()
        if not self._paused and not self._closing:
            self._channel.resume_reading()

    def _deliver(self) -> None:
        pending = self._pending
        while pending:
            protocol = self._protocol
            if self._closing:
                pending.clear()
                return
            if self._paused or protocol is None:
                return
            data = pending[0]
            if not self._buffered:
                del pending[0]
                protocol.data_received(data)
                continue
            buffer = protocol.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            if size < len(data):
                pending[0] = data[size:]
            else:
                del pending[0]
            protocol.buffer_updated(size)
        if self._input_ended and not self._paused and not self._closing:
            # Not `eof_received`: in a handshake, aiofastnet would report it to the loop as a bug.
            self.abort()
