"""A token issuer: signs tokens, publishes its keys as a JWKS document, with optional faults."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import RSAKey

KEYS = "/keys"


class Issuer:
    """An issuer that listens while the context is entered; `answer` is its request handler."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._signing: dict[str, RSAKey] = {}
        self.asked: list[dict[str, str]] = []
        """Header fields of each request, by lower-case name."""
        self.answer: Callable[[dict[str, str]], bytes] = self.publish
        self.extra: list[dict[str, Any]] = []
        """Entries of the document besides the signing keys."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}{KEYS}"

    def add_key(self, kid: str) -> None:
        self._signing[kid] = RSAKey.generate_key(2048)

    def remove_key(self, kid: str) -> None:
        del self._signing[kid]

    def token(self, kid: str, **claims: Any) -> str:
        """Return a token, by default valid for a minute."""
        header = {"alg": "RS256", "kid": kid}
        return jwt.encode(
            header,
            {"exp": int(time.time()) + 60, **claims},
            self._signing[kid],
            algorithms=["RS256"],
        )

    def document(self) -> bytes:
        public = [{**key.as_dict(private=False), "kid": kid} for kid, key in self._signing.items()]
        return json.dumps({"keys": [*self.extra, *public]}).encode()

    def publish(self, fields: dict[str, str]) -> bytes:
        """Return the document, or 304 if the client has it."""
        body = self.document()
        etag = f'"{hash(body):x}"'
        if fields.get("if-none-match") == etag:
            return reply(304, b"", f"ETag: {etag}")
        return reply(200, body, f"ETag: {etag}", "Content-Type: application/jwk-set+json")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
            fields = {name.lower(): value.strip() for name, _, value in lines}
            self.asked.append(fields)
            writer.write(self.answer(fields))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def reply(status: int, body: bytes, *fields: str) -> bytes:
    """A whole response."""
    lines = [
        f"HTTP/1.1 {status} x",
        *fields,
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body
