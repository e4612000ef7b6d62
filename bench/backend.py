"""The backend that is measured against: `python -m bench.backend PORT`. WebSocket echo; 1 KiB at PORT + 1."""

import asyncio
import sys

import picows
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024


class Echo(picows.WSListener):
    """Sends each message back."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


class Plain(asyncio.Protocol):
    """Answers each head, without looking at it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    echo = await picows.ws_create_server(lambda request: Echo(), "127.0.0.1", port)
    await loop.create_server(Plain, "127.0.0.1", port + 1)
    await echo.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
