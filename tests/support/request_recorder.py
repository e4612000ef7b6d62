"""A backend in the test's own loop that records each request as it came and answers `ok`."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Self


@dataclass
class RecordedRequest:
    """A request as it came."""

    start: str
    fields: list[tuple[str, str]]
    body: str

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]


class RequestRecorder:
    """The backend; `requests` has what came, until somebody clears it."""

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                start, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
                pairs = [line.partition(":") for line in lines]
                request = RecordedRequest(
                    start, [(name, value[1:]) for name, _, value in pairs], ""
                )
                request.body = (await _body(reader, request)).decode("latin-1")
                self.requests.append(request)
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
                writer.write(answer if start.startswith("HEAD ") else answer + b"ok")
        writer.close()


async def _body(reader: asyncio.StreamReader, request: RecordedRequest) -> bytes:
    if request.values("Transfer-Encoding"):
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        while (await reader.readuntil(b"\r\n")) != b"\r\n":
            pass
        return body
    length = request.values("Content-Length")
    return await reader.readexactly(int(length[0])) if length else b""
