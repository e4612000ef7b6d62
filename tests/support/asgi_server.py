"""HTTPS server for an ASGI application in the loop of a test, with a certificate of its own."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h11
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from starlette.types import ASGIApp


@dataclass
class AsgiServer:
    """A running server.

    Attributes:
        requests: method and URL of each request.
        problems: errors that left the application.
    """

    app: ASGIApp
    port: int = 0
    requests: list[str] = field(default_factory=list)
    problems: list[BaseException] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._request(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError, ssl.SSLError):
            pass
        except Exception as error:
            self.problems.append(error)
        finally:
            writer.close()

    async def _event(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        return event

    async def _request(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        event = await self._event(connection, reader)
        if not isinstance(event, h11.Request):
            return False
        body = b""
        while isinstance(part := await self._event(connection, reader), h11.Data):
            body += part.data
        host = dict(event.headers)[b"host"].decode()
        target = event.target.decode()
        self.requests.append(f"{event.method.decode()} https://{host}{target}")
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": event.method.decode(),
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(bytes(name), bytes(value)) for name, value in event.headers],
            "server": ("127.0.0.1", self.port),
            "client": ("127.0.0.1", 0),
            "state": {
                "host": host.partition(":")[0],
                "client": f"10.0.{len(self.requests) // 250}.{len(self.requests) % 250}",
            },
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != b"date"]
                data = connection.send(h11.Response(status_code=message["status"], headers=headers))
            else:
                data = connection.send(h11.Data(data=message.get("body", b"")))
                if not message.get("more_body"):
                    data = (data or b"") + (connection.send(h11.EndOfMessage()) or b"")
            writer.write(data or b"")
            await writer.drain()

        await self.app(scope, receive, send)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


@asynccontextmanager
async def serving(app: ASGIApp, folder: Path, *names: str) -> AsyncIterator[AsgiServer]:
    """Serve an application on a free port of 127.0.0.1.

    Args:
        names: host names of the certificate. OpenSSL accepts no wildcard for `localhost`.
    """
    certificate = folder / "server.pem"
    certificate.write_bytes(certificate_of(*names))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = AsgiServer(app)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.sleep(0)
    assert not made.problems


@cache
def certificate_of(*names: str) -> bytes:
    """Return a certificate for host names and its key, as PEM; the same each time."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
