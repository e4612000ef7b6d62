"""An agent without rules: a TLS connection to the agent listener and any frames.

Example:
    async with await RawAgent.open(port, credentials.client()) as agent:
        await agent.hello()
        assert (await agent.register("web", "app.example.com")).accepted == ["app.example.com"]
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any, Self

from zerotrust.tunnel.binary import unpack_reason
from zerotrust.tunnel.codes import ALPN, CAPABILITIES, Code, FrameType
from zerotrust.tunnel.frames import Frame, FrameReader, encode
from zerotrust.tunnel.messages import Message, Register, Registered, Renew, Renewed, Welcome, decode

PATIENCE = 10.0
HELLO: dict[str, Any] = {
    "versions": [1],
    "capabilities": list(CAPABILITIES),
    "software": "hostile/1",
    "window": 65536,
    "max_streams": 1024,
}


class Refused(Exception):  # noqa: N818  the server may
    """The server sent CLOSE; `code` is None if it ended the connection without it."""

    def __init__(self, code: Code | None, reason: str) -> None:
        super().__init__(f"{code and code.name}: {reason}")
        self.code = code
        self.reason = reason


class RawAgent:
    """One connection; every wait is bounded by `PATIENCE`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._came: list[Frame] = []

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext, *, source: str = "127.0.0.1") -> "RawAgent":
        """Connect from a loopback address and complete the handshake.

        Raises:
            OSError: the server refuses. In TLS 1.3 a client may learn that only when it reads.
        """
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tls, server_hostname="localhost", local_addr=(source, 0)
            )
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    def abort(self) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def say(
        self, kind: int, payload: bytes | dict[str, Any] | Message = b"", *, stream: int = 0
    ) -> None:
        """Send one frame; a dictionary becomes JSON."""
        match payload:
            case dict():
                payload = json.dumps(payload).encode()
            case Message():
                payload = payload.encode()
        await self.send(encode(kind, 0, stream, payload))

    async def frame(self) -> Frame:
        """Return the next frame; answer PING, skip ACK.

        Raises:
            Refused: CLOSE, or the end of the connection.
        """
        while True:
            while not self._came:
                try:
                    async with asyncio.timeout(PATIENCE):
                        data = await self.reader.read(65536)
                except OSError as error:
                    raise Refused(None, str(error)) from None
                if not data:
                    raise Refused(None, "the end")
                self._came += self._frames.feed(data)
            frame = self._came.pop(0)
            if frame[0] == FrameType.CLOSE:
                raise Refused(*unpack_reason(frame[3]))
            if frame[0] == FrameType.PING:
                # If the server has closed meanwhile, the next read tells.
                with contextlib.suppress(OSError):
                    await self.say(FrameType.PONG, frame[3])
            elif frame[0] != FrameType.ACK:
                return frame

    async def expect(self, kind: FrameType) -> bytes:
        """Return the payload of the next frame, which must be of this type."""
        found, _, _, payload = await self.frame()
        assert found == kind, f"{found:#04x}: {payload[:200]!r}"
        return payload

    async def hello(self, **members: Any) -> Welcome:
        await self.say(FrameType.HELLO, {**HELLO, **members})
        return decode(Welcome, await self.expect(FrameType.WELCOME))

    async def register(self, service: str, *hosts: str, **members: Any) -> Registered:
        await self.say(FrameType.REGISTER, Register(id=service, hosts=list(hosts), **members))
        return decode(Registered, await self.expect(FrameType.REGISTERED))

    async def renew(self, csr: str) -> Renewed:
        await self.say(FrameType.RENEW, Renew(csr=csr))
        return decode(Renewed, await self.expect(FrameType.RENEWED))

    async def end(self) -> Refused:
        """Wait for the end of the session; drop the frames before it."""
        try:
            while True:
                await self.frame()
        except Refused as refused:
            return refused

    async def is_heard(self) -> bool:
        """Send PING; return True if the server answers, having read all before it."""
        await self.say(FrameType.PING, b"are you?")
        while (frame := await self.frame())[0] != FrameType.PONG:
            pass
        return frame[3] == b"are you?"


@contextlib.asynccontextmanager
async def session(port: int, tls: ssl.SSLContext, **options: str) -> AsyncIterator[RawAgent]:
    """Open a session that has passed the handshake."""
    async with await RawAgent.open(port, tls, **options) as agent:
        await agent.hello()
        yield agent


def client_context(root: str, *protocols: str) -> ssl.SSLContext:
    """Return a TLS context that trusts the root, without a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(root)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(list(protocols or (ALPN,)))
    return context
