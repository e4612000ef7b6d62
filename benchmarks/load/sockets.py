"""WebSocket clients: echo over an open one, and repeated handshakes."""

import asyncio
import random
from typing import Final

import picows

from benchmarks.load.clients import websocket
from benchmarks.load.jobs import Endpoint
from benchmarks.load.loops import CompletionSink

_SEED: Final = 1


def message(size: int) -> bytes:
    """Return the same incompressible bytes in each run."""
    return random.Random(_SEED).randbytes(size)  # noqa: S311 - no secret


class EchoClient(picows.WSListener):
    """One WebSocket that sends a message and waits for its echo."""

    def __init__(self, loop: CompletionSink, payload: bytes) -> None:
        self._loop = loop
        self._payload = payload
        self._due = 0.0
        self._closing = False

    def start(self, due: float) -> None:
        """Send a message."""
        self._due = due
        self._transport.send(picows.WSMsgType.BINARY, self._payload)

    def close(self) -> None:
        """Send a Close frame and disconnect."""
        self._closing = True
        self._transport.send_close(picows.WSCloseCode.OK)
        self._transport.disconnect()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is not picows.WSMsgType.BINARY or frame.payload_size != len(
            self._payload
        ):
            if not self._closing:
                self._fail(f"a {frame.msg_type.name} frame of {frame.payload_size} bytes came back")
            return
        self._loop.finished(self, self._due)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        if not self._closing:
            self._fail("a WebSocket that should stay open was closed")

    def _fail(self, reason: str) -> None:
        self._closing = True
        self._loop.failed(reason)


class HandshakeClient:
    """A client that opens and closes one WebSocket after the other."""

    def __init__(self, loop: CompletionSink, endpoint: Endpoint) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._task: asyncio.Task[None] | None = None

    def start(self, due: float) -> None:
        """Open a WebSocket."""
        self._task = asyncio.get_running_loop().create_task(self._open(due))

    def close(self) -> None:
        """Cancel the handshake."""
        if self._task is not None:
            self._task.cancel()

    async def _open(self, due: float) -> None:
        client = EchoClient(self._loop, b"")
        try:
            await websocket(self._endpoint, lambda: client)
        except (OSError, TimeoutError, picows.WSHandshakeError) as error:
            self._loop.failed(f"no WebSocket: {error}")
            return
        client.close()
        self._loop.finished(self, due)
