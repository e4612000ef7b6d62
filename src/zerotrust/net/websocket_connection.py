"""Client end of a WebSocket that carries a tunnel."""

import asyncio
import secrets

from zerotrust.errors import HttpError
from zerotrust.http import websocket_handshake
from zerotrust.http.head import find_head_end, parse_response
from zerotrust.net.channel import BufferedChannel
from zerotrust.net.websocket_transport import WebSocketTransport
from zerotrust.net.write_coalescer import WriteCoalescer


class WebSocketConnection(BufferedChannel):
    """A connection with a web server: first the opening handshake, then the WebSocket.

    Args:
        authority: value of Host.
        opened: gets the transport in the WebSocket, or the error.
        worker: the worker of the server to connect to.
    """

    __slots__ = ("_authority", "_head", "_key", "_opened", "_websocket", "_worker")

    def __init__(
        self, authority: bytes, opened: asyncio.Future[WebSocketTransport], *, worker: int = 0
    ) -> None:
        super().__init__(WriteCoalescer(asyncio.get_running_loop()))
        self._authority = authority
        self._opened = opened
        self._worker = worker
        self._key = secrets.token_bytes(websocket_handshake.KEY_BYTES)
        self._head = b""
        self._websocket: WebSocketTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(websocket_handshake.request(self._authority, self._key, worker=self._worker))

    def data_received(self, data: bytes) -> None:
        if self._websocket is not None:
            self._websocket.body(data, end=False)
            return
        self._head += data
        try:
            end = find_head_end(self._head, len(self._head) - len(data))
            if end < 0:
                return
            reason = websocket_handshake.refusal(parse_response(self._head[:end]), self._key)
        except HttpError as error:
            reason = f"sends an invalid answer: {error}"
        if reason is not None:
            self._fail(ConnectionError(f"the web server {reason}"))
            return
        self._websocket = WebSocketTransport(self, client=True)
        self._websocket.body(self._head[end:], end=False)
        if not self._opened.done():
            self._opened.set_result(self._websocket)

    def eof_received(self) -> bool:
        if self._websocket is not None:
            self._websocket.body(b"", end=True)
        return False

    def drained(self) -> None:
        if self._websocket is not None:
            self._websocket.drained()

    def ended(self, error: Exception | None) -> None:
        if self._websocket is not None:
            self._websocket.aborted(error)
        else:
            self._fail(error or ConnectionResetError())

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
        self.abort()
