"""Framing of message bodies: readers and writers for each kind of framing (RFC 9112 s6 and s7).

A reader extracts the body from the bytes of a connection, and the writer of the same kind does the
opposite. The caller feeds a reader until it returns the bytes behind the body, and sends the pieces
that a writer returns, in order.
"""

from enum import IntEnum
from typing import Final, Protocol

from zerotrust.errors import HttpError, LocalProtocolError
from zerotrust.http.chunked import ChunkedReader, LenientChunkedReader
from zerotrust.http.deviations import Forgive
from zerotrust.http.head import RequestFields, ResponseHead


class Kind(IntEnum):
    """Kind of framing: how a body ends."""

    NONE = 0
    """No body."""
    LENGTH = 1
    """Content-Length."""
    CHUNKED = 2
    """Chunked transfer coding."""
    CLOSE = 3
    """The body ends with the connection."""
    TUNNEL = 4
    """No body: the bytes after a 101 belong to another protocol, until the connection ends."""


Framing = tuple[Kind, int]
"""Kind and length; the length is 0 for all kinds but `Kind.LENGTH`."""

MAX_LENGTH: Final = 2**63 - 1
"""The largest Content-Length: many implementations keep it in a signed integer of 64 bits."""

NO_BODY: Final[Framing] = (Kind.NONE, 0)


class Reader(Protocol):
    """Extracts one body from the bytes of a connection.

    Attributes:
        trailers: the trailer fields, once the body is complete.
    """

    trailers: bytes

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body in `data`, and the bytes behind the body once it is complete, else
        None."""

    def eof(self) -> None:
        """Handle the end of the connection; raise HttpError if the body is incomplete."""


class Writer(Protocol):
    """Frames one body for a connection."""

    @property
    def complete(self) -> bool:
        """The last byte of the body was written."""

    def write(self, data: bytes) -> list[bytes]:
        """Return the pieces to send for these bytes of the body."""

    def end(self, trailers: bytes = b"") -> list[bytes]:
        """Return the pieces to send at the end of the body."""


def request_framing(fields: RequestFields) -> Framing:
    """Return the framing of a request: steps 4, 6 and 7 of RFC 9112 s6.3.

    The parser has refused the errors of steps 3 to 5 with the head.
    """
    if fields.chunked:
        return Kind.CHUNKED, 0
    if fields.content_length is not None:
        return Kind.LENGTH, fields.content_length
    return NO_BODY


def response_framing(method: bytes, head: ResponseHead) -> Framing:
    """Return the framing of the response to a request with `method` (RFC 9112 s6.3)."""
    # 1. HEAD, 1xx, 204 and 304 end with the head, whatever Content-Length says of another response
    if head.status == 101:
        return Kind.TUNNEL, 0
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return NO_BODY
    # 2. CONNECT never comes here. 3. Both Transfer-Encoding and Content-Length: refused with the
    #    head
    # 4. chunked
    if head.chunked:
        return Kind.CHUNKED, 0
    # 5. A faulty Content-Length: refused with the head. 6. Content-Length
    if head.content_length is not None:
        return Kind.LENGTH, head.content_length
    # 7. is for requests. 8. Until the connection ends
    return Kind.CLOSE, 0


def response_framing_fits(
    method: bytes, status: int, kind: int, length: int, *, announce: bool
) -> bool:
    """Return True if the client expects the end of the response exactly where this framing puts it.

    These are the steps of RFC 9112 s6.3 from the sender's side. A response that ends with the
    connection (step 8) does not fit, because other requests share the connection.

    Args:
        method: the method of the request.
        length: length of the body; with `announce`, of the body that is left out.
        announce: the head has a Content-Length although no body follows.
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
    # 2. CONNECT is refused with the request. 3. and 5. Framing fields are ours alone. 4. chunked.
    #    6. Content-Length
    if announce:
        return False
    return kind == Kind.LENGTH or (kind == Kind.CHUNKED and not length)


class LengthReader:
    """Reads a body of known length, without copying data that belongs to the body as a whole."""

    __slots__ = ("_left", "trailers")

    def __init__(self, length: int) -> None:
        self.trailers = b""
        self._left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body in `data`, and the bytes behind the body once it is complete, else
        None."""
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, None
        self._left = 0
        if left == 0:
            return data, b""
        return data[:left], data[left:]

    def eof(self) -> None:
        """Raise HttpError if bytes are missing."""
        if self._left:
            raise HttpError(f"incomplete body: {self._left} bytes are missing")


class CloseReader:
    """Reads a body that ends with the connection."""

    __slots__ = ("trailers",)

    def __init__(self) -> None:
        self.trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return all of `data`."""
        return data, None

    def eof(self) -> None:
        """Do nothing: the body is complete."""


def reader_for(kind: Kind, length: int, forgive: Forgive | None = None) -> Reader:
    """Return a reader for this framing; it is lenient if `forgive` takes deviations."""
    if kind == Kind.CHUNKED:
        return ChunkedReader() if forgive is None else LenientChunkedReader(forgive)
    if kind in (Kind.CLOSE, Kind.TUNNEL):
        return CloseReader()
    return LengthReader(length if kind == Kind.LENGTH else 0)


class LengthWriter:
    """Writes a body of known length."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def complete(self) -> bool:
        """The last byte was written; `end` adds nothing to it."""
        return not self._left

    def write(self, data: bytes) -> list[bytes]:
        """Return the data itself; raise LocalProtocolError if it exceeds the length."""
        left = self._left - len(data)
        if left < 0:
            raise LocalProtocolError(f"the body has {-left} bytes more than its Content-Length")
        self._left = left
        return [data] if data else []

    def end(self, trailers: bytes = b"") -> list[bytes]:
        """Drop the trailers; raise LocalProtocolError if bytes are missing."""
        if self._left:
            raise LocalProtocolError(
                f"the body has {self._left} bytes less than its Content-Length"
            )
        return []


class ChunkedWriter:
    """Writes each piece of the body as one chunk."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def write(self, data: bytes) -> list[bytes]:
        """Return a chunk; nothing for empty data, because an empty chunk would end the body."""
        if self.complete:
            raise LocalProtocolError("data after the end of the body")
        return [b"%x\r\n" % len(data), data, b"\r\n"] if data else []

    def end(self, trailers: bytes = b"") -> list[bytes]:
        """Return the last chunk with canonical trailers (see `head_block.check_trailers`)."""
        if self.complete:
            raise LocalProtocolError("second end of the body")
        self.complete = True
        return [b"0\r\n%b\r\n" % trailers]


class CloseWriter:
    """Writes a body that ends with the connection. After `end` the caller closes the connection."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def write(self, data: bytes) -> list[bytes]:
        """Return the data itself."""
        if self.complete:
            raise LocalProtocolError("data after the end of the body")
        return [data] if data else []

    def end(self, trailers: bytes = b"") -> list[bytes]:
        """Drop the trailers; the end of the connection ends the body."""
        self.complete = True
        return []


def writer_for(kind: int, length: int) -> Writer:
    """Return a writer for this framing."""
    if kind == Kind.CHUNKED:
        return ChunkedWriter()
    if kind in (Kind.CLOSE, Kind.TUNNEL):
        return CloseWriter()
    return LengthWriter(length if kind == Kind.LENGTH else 0)
