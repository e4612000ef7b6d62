"""Proxy server by HTTP CONNECT and SOCKS5 on loopback, with passwords and faults."""

import asyncio
import base64
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from typing import Literal, Self

PIECE = 64 * 1024


class ProxyServer:
    """A proxy that connects to its clients' addresses.

    Args:
        credentials: the user and the password that clients must send.
        names: the port on 127.0.0.1 that a name stands for; the proxy knows no other names.
        answer: sent instead of any answer; then the proxy closes the connection, unless it hangs.
        hangs: the proxy keeps the connection open after `answer`, and connects to nothing.
        tls: TLS between clients and the proxy.
        piece: bytes of its answers in one write; 0 for all of them.

    Attributes:
        asked: the addresses that clients asked for, in order.
        carried: number of connections so far that the proxy carried.
    """

    def __init__(
        self,
        kind: Literal["http", "socks5"] = "http",
        *,
        credentials: tuple[str, str] | None = None,
        names: Mapping[str, int] | None = None,
        answer: bytes = b"",
        hangs: bool = False,
        tls: ssl.SSLContext | None = None,
        piece: int = 0,
    ) -> None:
        self.kind = kind
        self.credentials = credentials
        self.names = dict(names or {})
        self.answer = answer
        self.hangs = hangs
        self.tls = tls
        self.piece = piece
        self.port = 0
        self.asked: list[str] = []
        self.carried = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The proxy's URL with its user, without a password."""
        scheme = "https" if self.tls else self.kind
        user = f"{self.credentials[0]}@" if self.credentials else ""
        return f"{scheme}://{user}127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accepted, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Abort all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        with contextlib.suppress(OSError, EOFError):
            await self._serve(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.answer or self.hangs:
            await reader.read(PIECE)
            await self._write(writer, self.answer)
            while self.hangs and await reader.read(PIECE):
                pass
            return
        talk = self._talk_socks if self.kind == "socks5" else self._talk_http
        there = await talk(reader, writer)
        if there is None:
            return
        self.carried += 1
        from_server, to_server = there
        self._writers.add(to_server)
        await asyncio.gather(
            self._carry(reader, to_server), self._carry(from_server, writer), return_exceptions=True
        )
        self._writers.discard(to_server)

    async def _talk_http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n")[0].split(" ")
        assert method == "CONNECT"
        if self.credentials is not None:
            token = base64.b64encode(":".join(self.credentials).encode()).decode()
            if f"\r\nProxy-Authorization: Basic {token}\r\n" not in head:
                await self._write(
                    writer,
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b"Proxy-Authenticate: Basic realm=proxy\r\nContent-Length: 0\r\n\r\n",
                )
                return None
        host, _, port = target.rpartition(":")
        there = await self._connect(host.strip("[]"), int(port))
        await self._write(
            writer,
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
            if there is None
            else b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n",
        )
        return there

    async def _talk_socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 0 if self.credentials is None else 2
        if wanted not in methods:
            await self._write(writer, b"\x05\xff")
            return None
        await self._write(writer, bytes((5, wanted)))
        if self.credentials is not None:
            await reader.readexactly(1)
            said = tuple([await self._socks_text(reader) for _ in range(2)])
            await self._write(writer, bytes((1, said != self.credentials)))
            if said != self.credentials:
                return None
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = await self._socks_text(reader)
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        there = await self._connect(host, port)
        await self._write(
            writer, (b"\x05\x04" if there is None else b"\x05\x00") + b"\x00\x01" + bytes(6)
        )
        return there

    async def _socks_text(self, reader: asyncio.StreamReader) -> str:
        (length,) = await reader.readexactly(1)
        return (await reader.readexactly(length)).decode()

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self.asked.append(f"{host}:{port}")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if host not in self.names:
                return None
            host, port = "127.0.0.1", self.names[host]
        try:
            return await asyncio.open_connection(host, port)
        except OSError:
            return None

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        step = self.piece or len(data) or 1
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            await asyncio.sleep(0)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(PIECE):
                sink.write(data)
                await sink.drain()
        finally:
            sink.transport.abort()
