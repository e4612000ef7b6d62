"""A faulty backend that sends surplus bytes behind some of its answers, at once or later."""

import asyncio
from typing import Final, cast

BODY: Final = b"of the first"
SURPLUS: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class SurplusSender:
    """Answer `/first/MOMENT/STATUS/FRAMING` accordingly, and send another answer behind it."""

    def __init__(self) -> None:
        self.owed = 0
        self.on_request: list[asyncio.Transport] = []
        self.held: list[tuple[asyncio.Transport, bytes]] = []

    async def start(self) -> "SurplusSender":
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), "127.0.0.1", 0
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        self._server.close()

    def answer_first(self, transport: asyncio.Transport, head: bytes) -> None:
        """Answer as the target says, and see to the surplus."""
        method, target, _ = head.split(b" ", 2)
        _, _, moment, status, framing = target.split(b"/")
        bodiless = method == b"HEAD" or status in (b"204", b"304")
        fields, body = {
            b"none": (b"", b""),
            b"zero": (b"Content-Length: 0\r\n", b""),
            b"length": (b"Content-Length: %d\r\n" % len(BODY), BODY),
            b"chunked": (
                b"Transfer-Encoding: chunked\r\n",
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
            ),
        }[framing]
        answer = b"HTTP/1.1 %b X\r\n%b\r\n%b" % (status, fields, b"" if bodiless else body)
        transport.write(answer + SURPLUS if moment == b"segment" else answer)
        if moment == b"turn":
            asyncio.get_running_loop().call_soon(_send_surplus, transport)
        elif moment == b"request":
            self.on_request.append(transport)
        elif moment != b"segment":
            self.owed += 1
            asyncio.get_running_loop().call_later(int(moment) / 1000, self._pay, transport)

    def answer_second(self, transport: asyncio.Transport, head: bytes) -> None:
        """Answer with the number, when what is owed was sent."""
        for other in self.on_request:
            _send_surplus(other)
        self.on_request.clear()
        number = head.split(b" ", 2)[1].rpartition(b"/")[2]
        self.held.append(
            (transport, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))
        )
        if not self.owed:
            self._answer_held()

    def _pay(self, transport: asyncio.Transport) -> None:
        _send_surplus(transport)
        self.owed -= 1
        if not self.owed:
            self._answer_held()

    def _answer_held(self) -> None:
        for transport, answer in self.held:
            if not transport.is_closing():
                transport.write(answer)
        self.held.clear()


def _send_surplus(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.write(SURPLUS)


class _Connection(asyncio.Protocol):
    """One request at a time, which has no body."""

    def __init__(self, backend: SurplusSender) -> None:
        self._backend = backend
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(b"\r\n\r\n"):
            return
        head, self._buffer = self._buffer, b""
        if b" /first/" in head:
            self._backend.answer_first(self._transport, head)
        else:
            self._backend.answer_second(self._transport, head)
