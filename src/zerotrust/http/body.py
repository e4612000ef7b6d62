"""Where a body ends, and how its bytes are taken out of a connection and put into one (RFC 9112 s6 and s7).

A reader and a writer of the same kind undo each other. Readers share one interface: `feed`, `trailers`, `eof`; so do
writers: `write`, `end`, `complete`. The caller sends what a writer returns, in order, and feeds a reader until it
returns a rest.
"""

from enum import IntEnum
from typing import Final, Protocol

from zerotrust.errors import HttpError, LocalProtocolError
from zerotrust.http.chunked import ChunkedReader
from zerotrust.http.head import RequestFields, ResponseHead


class Kind(IntEnum):
    """What ends a body."""

    NONE = 0
    """There is none."""
    LENGTH = 1
    """Content-Length."""
    CHUNKED = 2
    """The chunked coding: its length is not known before its end."""
    CLOSE = 3
    """The end of the connection."""
    TUNNEL = 4
    """It is no body: the bytes behind a 101 belong to another protocol, until the connection ends."""


Framing = tuple[Kind, int]
"""The kind, and with `Kind.LENGTH` the length."""

MAX_LENGTH: Final = 2**63 - 1
"""The largest Content-Length: many implementations keep it in a signed integer of 64 bits."""

NO_BODY: Final[Framing] = (Kind.NONE, 0)


class Reader(Protocol):
    """Takes one body out of what a connection brings."""

    trailers: bytes

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]: ...

    def eof(self) -> None: ...


class Writer(Protocol):
    """Frames one body for a connection."""

    @property
    def complete(self) -> bool: ...

    def write(self, data: bytes) -> list[bytes]: ...

    def end(self, trailers: bytes = b"") -> list[bytes]: ...


def request_framing(fields: RequestFields) -> Framing:
    """RFC 9112 s6.3 for requests: steps 4, 6 and 7; the faults of steps 3 to 5 were refused with the head."""
    if fields.chunked:
        return Kind.CHUNKED, 0
    if fields.content_length is not None:
        return Kind.LENGTH, fields.content_length
    return NO_BODY


def response_framing(method: bytes, head: ResponseHead) -> Framing:
    """RFC 9112 s6.3 for the response to a request with `method`."""
    # 1. HEAD, 1xx, 204 and 304 end with the head, whatever Content-Length says of another response
    if head.status == 101:
        return Kind.TUNNEL, 0
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return NO_BODY
    # 2. CONNECT never comes here. 3. Both Transfer-Encoding and Content-Length: refused with the head
    # 4. chunked
    if head.chunked:
        return Kind.CHUNKED, 0
    # 5. A faulty Content-Length: refused with the head. 6. Content-Length
    if head.content_length is not None:
        return Kind.LENGTH, head.content_length
    # 7. is for requests. 8. Until the connection ends
    return Kind.CLOSE, 0


def response_framing_fits(method: bytes, status: int, kind: int, length: int, *, announce: bool) -> bool:
    """Return True where a client finds the end of the response exactly where this framing puts it.

    These are the steps of RFC 9112 s6.3 from the sender's side. A response whose end is the end of the connection
    (step 8) does not fit: the connection is shared with other requests.

    Args:
        method: of the request.
        length: bytes of the body; with `announce` of the body that is left out; else 0.
        announce: the head is to have a Content-Length although no body follows.
    """
    if not 0 <= length <= MAX_LENGTH:
        return False
    # 1. HEAD, 1xx, 204 and 304: the head ends the response; 101 begins another protocol
    if status == 101:
        return kind == Kind.TUNNEL and not length and not announce
    if method == b"HEAD" or status < 200 or status in (204, 304):
        # RFC 9110 s8.6: no Content-Length with 1xx and 204
        may_announce = status == 304 or (status >= 200 and status != 204)
        return kind == Kind.NONE and (may_announce if announce else not length)
    # 2. CONNECT is refused with the request. 3. and 5. Framing fields are ours alone. 4. chunked. 6. Content-Length
    if announce:
        return False
    return kind == Kind.LENGTH or (kind == Kind.CHUNKED and not length)


class LengthReader:
    """Counts. What is body as a whole is handed on as the object that came in."""

    __slots__ = ("_left", "trailers")

    def __init__(self, length: int) -> None:
        self.trailers = b""
        self._left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The body in `data`, and the bytes behind it once it is complete."""
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, None
        self._left = 0
        if left == 0:
            return data, b""
        return data[:left], data[left:]

    def eof(self) -> None:
        """Raises HttpError where bytes are missing."""
        if self._left:
            raise HttpError(f"the body is cut short: {self._left} bytes are missing")


class CloseReader:
    """Everything is body until the connection ends."""

    __slots__ = ("trailers",)

    def __init__(self) -> None:
        self.trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """All of `data`."""
        return data, None

    def eof(self) -> None:
        """The only end that such a body has."""


def reader_for(kind: Kind, length: int) -> Reader:
    """The reader of a body that is framed so."""
    if kind == Kind.CHUNKED:
        return ChunkedReader()
    if kind in (Kind.CLOSE, Kind.TUNNEL):
        return CloseReader()
    return LengthReader(length if kind == Kind.LENGTH else 0)


class LengthWriter:
    """Lets exactly the announced bytes through."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def complete(self) -> bool:
        """True once the last byte was written; `end` adds nothing to it."""
        return not self._left

    def write(self, data: bytes) -> list[bytes]:
        """Raises LocalProtocolError where it is more than was announced."""
        left = self._left - len(data)
        if left < 0:
            raise LocalProtocolError(f"body: {-left} bytes more than its Content-Length")
        self._left = left
        return [data] if data else []

    def end(self, trailers: bytes = b"") -> list[bytes]:  # no place for them
        """Raises LocalProtocolError where bytes are missing."""
        if self._left:
            raise LocalProtocolError(f"body: {self._left} bytes less than its Content-Length")
        return []


class ChunkedWriter:
    """One chunk for each piece."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def write(self, data: bytes) -> list[bytes]:
        """A chunk; nothing for nothing, because an empty chunk would end the body."""
        if self.complete:
            raise LocalProtocolError("body: written to after its end")
        return [b"%x\r\n" % len(data), data, b"\r\n"] if data else []

    def end(self, trailers: bytes = b"") -> list[bytes]:
        """The last chunk, and canonical trailers (see `forward.check_trailers`)."""
        if self.complete:
            raise LocalProtocolError("body: ended twice")
        self.complete = True
        return [b"0\r\n%b\r\n" % trailers]


class CloseWriter:
    """Writes as it comes. The caller ends the connection after `end`."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def write(self, data: bytes) -> list[bytes]:
        """The data itself."""
        if self.complete:
            raise LocalProtocolError("body: written to after its end")
        return [data] if data else []

    def end(self, trailers: bytes = b"") -> list[bytes]:  # no place for them
        """Nothing: what ends it is the end of the connection."""
        self.complete = True
        return []


def writer_for(kind: int, length: int) -> Writer:
    """The writer of a body that is to be framed so."""
    if kind == Kind.CHUNKED:
        return ChunkedWriter()
    if kind in (Kind.CLOSE, Kind.TUNNEL):
        return CloseWriter()
    return LengthWriter(length if kind == Kind.LENGTH else 0)
