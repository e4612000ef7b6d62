"""HTTP server that answers each request as a function says, plain or by TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.support.authorities import ForeignCertificate
from tests.support.ports import free_port
from zerotrust.pki import keys

Script = Callable[[str], bytes]
"""Returns the bytes that answer a request's head; empty bytes answer nothing."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def status(code: int, *lines: str, body: bytes = b"") -> bytes:
    """Return a response."""
    head = "".join(f"{line}\r\n" for line in lines)
    return (
        f"HTTP/1.1 {code} X\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


@contextlib.asynccontextmanager
async def scripted(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Run the server; yield its port."""
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        tasks.add(asyncio.create_task(serve(reader, writer)))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            if answer := script(head.decode("latin-1")):
                writer.write(answer)
                await writer.drain()
                writer.close()
            else:
                await reader.read()

    port = free_port()
    server = await asyncio.start_server(accepted, host, port, ssl=tls)
    try:
        yield port
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The loop closes aborted connections in its next turns.
        for _ in range(3):
            await asyncio.sleep(0)


def server_tls(issued: ForeignCertificate, folder: Path) -> ssl.SSLContext:
    """Return a server's context with this certificate."""
    certificate, key = folder / "scripted.crt", folder / "scripted.key"
    certificate.write_bytes(issued.pem)
    key.write_bytes(keys.to_pem(issued.key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def trusting(root: ForeignCertificate) -> ssl.SSLContext:
    """Return a client's context that trusts this root alone."""
    return ssl.create_default_context(cadata=root.pem.decode())
