"""Open pages of the dashboard: an event stream each, and what the page's script fetches."""

import asyncio
import json
import re
from typing import Final

from benchmarks.load.clients import tls
from benchmarks.load.jobs import Endpoint
from zerotrust.errors import BenchError

_EVENT: Final = re.compile(rb"event: changed\r?\ndata: (\{[^\n]*\})\r?\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class OpenPage:
    """One page, as a browser has it open.

    Attributes:
        fetched: fragments so far.
    """

    def __init__(self, endpoint: Endpoint, path: str, fields: tuple[str, ...]) -> None:
        self.path = path
        self.fetched = 0
        self.endpoint = endpoint
        self._fields = fields
        self._shown: dict[str, str] = {}

    async def run(self) -> None:
        """Follow the event stream, and fetch each fragment that has changed, until cancelled.

        Raises:
            BenchError: the server does not answer as it should.
        """
        stream, asked = await self._connect()
        fetching = await self._connect()
        try:
            asked.write(self.request("Accept: text/event-stream"))
            rest = b""
            while data := await stream.read(65536):
                rest += data
                end = 0
                for event in _EVENT.finditer(rest):
                    end = event.end()
                    await self._follow(json.loads(event[1]), *fetching)
                rest = rest[end:]
            raise BenchError(f"the event stream of {self.path} has ended: {rest[:200]!r}")
        finally:
            asked.close()
            fetching[1].close()

    def request(self, *fields: str) -> bytes:
        """Return a request for the page with these header lines."""
        lines = (
            f"GET {self.path} HTTP/1.1",
            f"Host: {self.endpoint.host}",
            *self._fields,
            *fields,
            "",
            "",
        )
        return "\r\n".join(lines).encode()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        endpoint = self.endpoint
        context = tls(endpoint)
        return await asyncio.open_connection(
            endpoint.address,
            endpoint.port,
            ssl=context,
            server_hostname=endpoint.host if context else None,
        )

    async def _follow(
        self, changed: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for name, version in changed.items():
            if self._shown.get(name) == version:
                continue
            writer.write(self.request(f"X-Fragment: {name}"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not head.startswith(b"HTTP/1.1 200 ") or length is None:
                said = head.partition(b"\r\n")[0].decode("latin-1")
                raise BenchError(f"{name} of {self.path}: {said}")
            await reader.readexactly(int(length[1]))
            self._shown[name] = version
            self.fetched += 1
