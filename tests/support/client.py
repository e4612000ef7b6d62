"""HTTP/1.1 client for tests: raw requests, interim responses, trailers, arrival times."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.socket_queues import sockets_with_queued_bytes

Fields = Sequence[tuple[str, str]]
PIECE = 256 * 1024


@dataclass
class Response:
    """A response as it came in."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list["Response"] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error_code(self) -> str | None:
        return self.get("x-0trust-error")


class Client:
    """One connection to 127.0.0.1; each call has a deadline."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        host: str,
        patience: float,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.host = host
        self.patience = patience

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        host: str,
        tls: ssl.SSLContext | None = None,
        patience: float = 15.0,
        address: str | None = None,
        to: str = "127.0.0.1",
    ) -> "Client":
        """Connect to an address; `address` is the client's own, one of 127.0.0.0/8."""
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(
                to,
                port,
                ssl=tls,
                server_hostname=host if tls else None,
                limit=1 << 20,
                local_addr=(address, 0) if address else None,
            )
        return cls(reader, writer, host=host, patience=patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(self.patience):
            await self.writer.drain()

    async def send_head(self, method: str, target: str, fields: Fields = ()) -> None:
        has_host = any(name.lower() == "host" for name, _ in fields)
        every = list(fields) if has_host else [("Host", self.host), *fields]
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in every)]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def send_pieces(self, pieces: Iterable[bytes | memoryview]) -> None:
        """A body of any length; the deadline holds for each piece."""
        for piece in pieces:
            self.writer.write(piece)
            async with asyncio.timeout(self.patience):
                await self.writer.drain()

    async def read_head(self) -> Response:
        """The next head, also of an interim response."""
        try:
            async with asyncio.timeout(self.patience):
                raw = await self.reader.readuntil(b"\r\n\r\n")
        except TimeoutError as error:
            queues = sockets_with_queued_bytes()
            raise TimeoutError(f"no answer within {self.patience:g} s\n{queues}") from error
        line, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        version, status, reason = (*line.split(" ", 2), "")[:3]
        assert version == "HTTP/1.1", line
        pairs = (each.partition(":") for each in rest)
        return Response(int(status), reason, [(name, value.strip()) for name, _, value in pairs])

    async def read_pieces(self, response: Response, method: str = "GET") -> AsyncIterator[bytes]:
        """The body as it comes; trailers are put into the response."""
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return
        if (response.get("transfer-encoding") or "").lower() == "chunked":
            while size := int((await self._line()).partition(b";")[0], 16):
                while size:
                    piece = await self.read(min(size, PIECE))
                    assert piece, "the connection ended inside a chunk"
                    size -= len(piece)
                    yield piece
                assert await self._line() == b""
            while line := await self._line():
                name, _, value = line.decode("latin-1").partition(":")
                response.trailers.append((name, value.strip()))
            return
        length = response.get("content-length")
        left = int(length) if length is not None else None
        while left is None or left:
            piece = await self.read(PIECE if left is None else min(left, PIECE))
            if not piece:
                assert left is None, f"the connection ended with {left} bytes of the body missing"
                return
            left = None if left is None else left - len(piece)
            yield piece

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(self.patience):
            return await self.reader.read(size)

    async def read_exactly(self, size: int) -> bytes:
        async with asyncio.timeout(self.patience):
            return await self.reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        async with asyncio.timeout(self.patience):
            return await self.reader.read()

    async def read_response(self, method: str = "GET") -> Response:
        """The final response with its body, and the interim ones before it."""
        interim = []
        while (response := await self.read_head()).status < 200 and response.status != 101:
            interim.append(response)
        response.interim = interim
        response.body = b"".join([piece async for piece in self.read_pieces(response, method)])
        return response

    async def request(
        self, method: str, target: str, fields: Fields = (), body: bytes = b""
    ) -> Response:
        """Sends a request, with its Content-Length where it has a body, and reads the response."""
        if body and not any(
            name.lower() in ("content-length", "transfer-encoding") for name, _ in fields
        ):
            fields = [*fields, ("Content-Length", str(len(body)))]
        await self.send_head(method, target, fields)
        if body:
            await self.send(body)
        return await self.read_response(method)

    async def get(self, target: str, *fields: tuple[str, str]) -> Response:
        return await self.request("GET", target, fields)

    async def upgrade(self, target: str, *fields: tuple[str, str], after: bytes = b"") -> Response:
        """Upgrade to "chat/1" and send `after` in the same segment; a 101 has no body."""
        lines = [
            "Connection: Upgrade",
            "Upgrade: chat/1",
            *(f"{name}: {value}" for name, value in fields),
        ]
        head = f"GET {target} HTTP/1.1\r\nHost: {self.host}\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        await self.send(head.encode("latin-1") + after)
        return await self.read_response()

    def write_eof(self) -> None:
        """Half-closes: we have said all."""
        self.writer.write_eof()

    async def wait_end(self) -> float:
        """Waits until the other side closes or resets; returns the seconds that it took."""
        begun_at = time.monotonic()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.read_to_end()
        return time.monotonic() - begun_at

    async def _line(self) -> bytes:
        async with asyncio.timeout(self.patience):
            return (await self.reader.readuntil(b"\r\n")).removesuffix(b"\r\n")
