"""WebSockets over HTTP/2 (RFC 8441): one TLS connection, many extended CONNECT streams.

HTTP/2 is h2's, the frames of the WebSocket are those of websockets' sans-I/O protocol; here is only
what joins them.
"""

import asyncio
import contextlib
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.headers import parse_extension
from websockets.protocol import Protocol, Side

from tests.support.entrypoint import Entrypoint, trusting

PIECE = 64 * 1024


class H2:
    """An HTTP/2 connection; entering the context waits for the peer's settings."""

    def __init__(self, entrypoint: Entrypoint, host: str) -> None:
        self._entrypoint = entrypoint
        self.host = host
        self.machine = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.sockets: dict[int, H2Socket] = {}
        self._settings_known = asyncio.Event()
        self.window_grew = asyncio.Event()

    async def __aenter__(self) -> Self:
        assert self._entrypoint.root
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1",
            self._entrypoint.port,
            ssl=trusting(self._entrypoint.root, "h2"),
            server_hostname=self.host,
        )
        assert self._writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self.machine.initiate_connection()
        self.machine.increment_flow_control_window(1 << 24)
        self.machine.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 22})
        self.flush()
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(10):
            await self._settings_known.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        self._writer.transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    @property
    def allows_websockets(self) -> bool:
        """True if the peer sent SETTINGS_ENABLE_CONNECT_PROTOCOL."""
        return bool(self.machine.remote_settings.enable_connect_protocol)

    def flush(self) -> None:
        if data := self.machine.data_to_send():
            self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def connect(self, path: str, *fields: tuple[str, str]) -> "H2Socket":
        """Open a WebSocket.

        Raises:
            AssertionError: the answer was not 200.
        """
        number = self.machine.get_next_available_stream_id()
        head = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", f"{self.host}:{self._entrypoint.port}"),
            (":path", path),
            ("sec-websocket-version", "13"),
            *fields,
        ]
        socket = self.sockets[number] = H2Socket(self, number)
        self.machine.send_headers(number, head)
        self.flush()
        async with asyncio.timeout(15):
            await socket.answered.wait()
        return socket

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 18):
                for event in self.machine.receive_data(data):
                    self._take(event)
                self.flush()
        for socket in self.sockets.values():
            socket.end()

    def _take(self, event: object) -> None:
        match event:
            case RemoteSettingsChanged():
                self._settings_known.set()
            case WindowUpdated():
                self.window_grew.set()
            case ResponseReceived(stream_id=int(number), headers=list(headers)):
                self.sockets[number].answer({str(name): str(value) for name, value in headers})
            case DataReceived(
                stream_id=int(number), data=bytes(data), flow_controlled_length=int(length)
            ):
                with contextlib.suppress(StreamClosedError):
                    self.machine.acknowledge_received_data(length, number)
                self.sockets[number].receive(data)
            case StreamEnded(stream_id=int(number)) | StreamReset(stream_id=int(number)):
                self.sockets[number].end()
            case ConnectionTerminated():
                for socket in self.sockets.values():
                    socket.end()


class H2Socket:
    """One WebSocket on one stream."""

    def __init__(self, h2: H2, number: int) -> None:
        self._h2 = h2
        self._number = number
        self._protocol = Protocol(Side.CLIENT, max_size=None)
        self._messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._parts: list[bytes] = []
        self._is_text = False
        self.fields: dict[str, str] = {}
        self.answered = asyncio.Event()
        self.ended = asyncio.Event()
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue()

    # the connection's side

    def answer(self, fields: dict[str, str]) -> None:
        self.fields = fields
        if chosen := fields.get("sec-websocket-extensions"):
            ((name, parameters),) = parse_extension(chosen)
            assert name == "permessage-deflate"
            factory = ClientPerMessageDeflateFactory()
            self._protocol.extensions = [factory.process_response_params(parameters, [])]
        self.answered.set()

    def receive(self, data: bytes) -> None:
        if self.status != 200:  # the body of a refusal
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            self._frame(event)
        self._write_soon()

    def end(self) -> None:
        self.answered.set()
        if not self.ended.is_set():
            self.ended.set()
            self._protocol.receive_eof()
            self._messages.put_nowait(None)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole = b"".join(self._parts)
                self._parts.clear()
                self._messages.put_nowait(whole.decode() if self._is_text else whole)
        elif frame.opcode is Opcode.PONG:
            self.pongs.put_nowait(bytes(frame.data))

    def _write_soon(self) -> None:
        """Send the protocol's own answers (pong, close); they are small."""
        data = b"".join(self._protocol.data_to_send())
        if data and not self.ended.is_set():
            # The stream may have ended with the frame that is answered.
            with contextlib.suppress(StreamClosedError):
                self._h2.machine.send_data(self._number, data)
            self._h2.flush()

    # the test's side

    @property
    def status(self) -> int:
        return int(self.fields.get(":status", "0"))

    @property
    def close_code(self) -> int | None:
        return self._protocol.close_code

    @property
    def close_reason(self) -> str | None:
        return self._protocol.close_reason

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self._send_all()

    async def ping(self, data: bytes) -> None:
        self._protocol.send_ping(data)
        await self._send_all()

    async def recv(self) -> str | bytes | None:
        """Return the next message; None at the end."""
        async with asyncio.timeout(30):
            return await self._messages.get()

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        self._protocol.send_close(code, reason)
        await self._send_all()
        async with asyncio.timeout(15):
            await self.ended.wait()

    def reset(self) -> None:
        """End the stream without a Close frame."""
        self._h2.machine.reset_stream(self._number, ErrorCodes.CANCEL)
        self._h2.flush()

    async def _send_all(self) -> None:
        left = memoryview(b"".join(self._protocol.data_to_send()))
        machine = self._h2.machine
        while left:
            window = machine.local_flow_control_window(self._number)
            size = min(len(left), window, machine.max_outbound_frame_size, PIECE)
            if not size:
                self._h2.window_grew.clear()
                async with asyncio.timeout(30):
                    await self._h2.window_grew.wait()
                continue
            machine.send_data(self._number, bytes(left[:size]))
            left = left[size:]
            self._h2.flush()
            await self._h2.drain()
