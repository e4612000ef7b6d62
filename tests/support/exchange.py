"""A request at the origin, and its response."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.support.origin_connection import LIMIT, OriginConnection, PeerClosed

_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r\n")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[^\x00-\x08\x0a-\x1f\x7f]*\r\n")


@dataclass
class Stats:
    """Counters for `/stats`."""

    connections: int = 0
    open: int = 0
    requests: int = 0
    aborted: int = 0
    served: dict[str, int] = field(default_factory=dict)


@dataclass
class Request:
    """A request as it came in."""

    raw: bytes
    method: str
    target: str
    version: str
    fields: list[tuple[str, str]]

    @classmethod
    def parse(cls, raw: bytes) -> "Request":
        line, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, version = [*line.split(" ", 2), "", ""][:3]
        pairs = (each.partition(":") for each in rest)
        return cls(
            raw, method, target, version, [(name, value.strip()) for name, _, value in pairs]
        )

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def route(self) -> str:
        """The first part of the path."""
        return [*self.path.split("/"), ""][1]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.target.partition("?")[2]).items()}

    def get(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.fields if key.lower() == name), default)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]

    def doubts(self) -> list[str]:
        """Return every ambiguity in this head that two parsers could resolve differently."""
        lines = self.raw.removesuffix(b"\r\n").splitlines(keepends=True)
        found = [] if _LINE.fullmatch(lines[0]) else [f"request line {lines[0]!r}"]
        found += [f"field line {line!r}" for line in lines[1:] if not _FIELD.fullmatch(line)]
        lengths, codings = self.all("content-length"), self.all("transfer-encoding")
        if lengths and codings:
            found.append("both Content-Length and Transfer-Encoding")
        if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length) for length in lengths):
            found.append(f"Content-Length {lengths}")
        if len(codings) > 1 or not all(coding.lower() == "chunked" for coding in codings):
            found.append(f"Transfer-Encoding {codings}")
        if len(self.all("host")) != 1:
            found.append(f"Host {self.all('host')}")
        return found


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, wire: OriginConnection, request: Request, stats: Stats) -> None:
        self.wire = wire
        self.request = request
        self.stats = stats
        self.reusable = request.get("connection").lower() != "close"
        self.body_is_read = False
        self.body_is_complete = False
        self.trailers: list[tuple[str, str]] = []

    async def body(self) -> AsyncIterator[bytes]:
        self.body_is_read = True
        if "chunked" in self.request.get("transfer-encoding").lower():
            while size := int((await self.wire.read_until(b"\r\n")).partition(b";")[0], 16):
                while size:
                    piece = await self.wire.read(min(size, LIMIT))
                    if not piece:
                        raise PeerClosed
                    size -= len(piece)
                    yield piece
                await self.wire.read_exactly(2)
            while (line := await self.wire.read_until(b"\r\n")) != b"\r\n":
                name, _, value = line.decode("latin-1").partition(":")
                self.trailers.append((name, value.strip()))
            self.body_is_complete = True
            return
        left = int(self.request.get("content-length", "0"))
        while left:
            piece = await self.wire.read(min(left, LIMIT))
            if not piece:
                raise PeerClosed
            left -= len(piece)
            yield piece
        self.body_is_complete = True

    async def skip_body(self) -> None:
        async for _ in self.body():
            pass

    async def digest_body(self) -> tuple[int, str]:
        length, digest = 0, hashlib.sha256()
        async for piece in self.body():
            digest.update(piece)
            length += len(piece)
        return length, digest.hexdigest()

    async def head(self, status: int, *fields: tuple[str, str], reason: str = "Said") -> None:
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
        await self.wire.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def reply(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
        await self.head(status, ("Content-Length", str(len(body))), *fields)
        if self.request.method != "HEAD":
            await self.wire.send(body)

    async def json(self, status: int, value: object) -> None:
        await self.reply(status, json.dumps(value).encode(), ("Content-Type", "application/json"))

    async def chunk(self, data: bytes | memoryview) -> None:
        await self.wire.send(b"%x\r\n%b\r\n" % (len(data), bytes(data)))

    def number(self, position: int = 2) -> int:
        return int(self.request.path.split("/")[position])
