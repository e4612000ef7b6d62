"""Our own backend: `python -m benchmarks.lab.origin WEBSOCKET_PORT HTTP_PORT…`.

Routes:
    GET /1k           1 KiB
    GET /bulk/BYTES   that many bytes
    GET /events       server-sent events, one per second, with their send time (monotonic, ns)
    POST anything     reads the body, then answers its length
    WebSocket         echo, on a port of its own
"""

import asyncio
import re
import sys
import time
from typing import Final, cast

import picows

from zerotrust.net.loop import run

EVENT_INTERVAL: Final = 1.0
_CHUNK: Final = bytes(256 * 1024)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KIB: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
)
_EVENTS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection:"
    b" close\r\n\r\n"
)


class Echo(picows.WSListener):
    """WebSocket echo."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            transport.send(frame.msg_type, frame.get_payload_as_bytes(), fin=frame.fin)


class Origin(asyncio.Protocol):
    """One connection; it parses only the HTTP that our load generator and proxies send."""

    def __init__(self) -> None:
        self._head = b""
        self._body_left = 0
        self._body_size = 0
        self._bulk_left = 0
        self._may_write = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._bulk_left = 0
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._body_left:
            self._take(data)
            return
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            self._answer(head)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._pump()

    def _answer(self, head: bytes) -> None:
        method, target = head.split(b" ", 2)[:2]
        path = target.partition(b"?")[0]
        if method == b"POST":
            length = _LENGTH.search(head)
            self._body_left = self._body_size = int(length[1]) if length else 0
            rest, self._head = self._head, b""
            self._take(rest)
        elif path.startswith(b"/bulk/"):
            self._bulk_left = int(path.removeprefix(b"/bulk/"))
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._bulk_left
            )
            self._pump()
        elif path == b"/events":
            self._transport.write(_EVENTS)
            self._event()
        else:
            self._transport.write(_KIB)

    def _take(self, data: bytes) -> None:
        self._body_left -= len(data)
        if self._body_left <= 0:
            self._body_left = 0
            said = b"%d\n" % self._body_size
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
            )

    def _pump(self) -> None:
        while self._bulk_left and self._may_write:
            chunk = _CHUNK[: self._bulk_left]
            self._bulk_left -= len(chunk)
            self._transport.write(chunk)

    def _event(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVENT_INTERVAL, self._event)
        self._transport.write(b"data: %d\n\n" % time.monotonic_ns())


async def serve(websocket_port: int, http_ports: list[int]) -> None:
    """Serve until cancelled."""
    loop = asyncio.get_running_loop()
    for port in http_ports:
        await loop.create_server(Origin, "127.0.0.1", port, backlog=1024)
    echo = await picows.ws_create_server(
        lambda _request: Echo(), "127.0.0.1", websocket_port, backlog=1024
    )
    await echo.serve_forever()


if __name__ == "__main__":
    run(serve(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
