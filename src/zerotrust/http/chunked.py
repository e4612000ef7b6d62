"""Readers of the chunked transfer coding (RFC 9112 s7.1): a strict one, and one for backends.

    chunk-size [ chunk-ext ] CRLF, chunk-data CRLF, ... 0 [ chunk-ext ] CRLF, trailer lines, CRLF

Tolerant parsers accept deviations that have been used for request smuggling: a bare LF behind a
size, a size with a sign, `0x`, underscores or spaces, a size that overflows, a line break inside an
extension, bytes between the data and its CRLF. `ChunkedReader` accepts none of them. It checks
extensions and drops them, as s7.1.1 permits.

`LenientChunkedReader` is for the answers of backends, which the agent frames anew. It also accepts
blanks behind a size, and LF instead of CR LF: old servers send them, and the meaning is clear.
"""

import re
from typing import Final

from zerotrust.errors import HttpError
from zerotrust.http import grammar
from zerotrust.http.deviations import Deviation, Forgive
from zerotrust.http.headers import folded, is_forbidden_trailer

MAX_EXTENSION_BYTES: Final = 256
MAX_EXTENSIONS_BYTES: Final = 16 * 1024
"""Bytes of all extensions of a message. Without a limit, a client could cause work without sending
data (CVE-2023-39326)."""
MAX_TRAILER_BYTES: Final = 8 * 1024
"""As in nginx and Node; a quarter of the limit of a head."""

_MAX_SIZE_LINE: Final = 16 + MAX_EXTENSION_BYTES + 1
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:[\t ]*+;[\t\x20-\x7e\x80-\xff]*+)?+)\r\n")
_PARTIAL_SIZE: Final = re.compile(
    rb"[0-9A-Fa-f]{1,16}(?:[\t ]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?+)\r?"
)
_LENIENT_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[\t ]*+;[\t\x20-\x7e\x80-\xff]*+)?+)([\t ]{0,256}+)(\r?)\n"
)
_LINES: Final = re.compile(grammar.LOOSE_LINES)
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


class ChunkedReader:
    """Reads a chunked body.

    Do not call `feed` again after it has returned the bytes behind the body.
    """

    __slots__ = ("_extension_bytes", "_in_trailers", "_left", "_pending", "trailers")

    def __init__(self) -> None:
        self.trailers = b""
        self._pending = b""  # the beginning of a size line or of the trailers
        self._left = 0  # missing bytes of this chunk, with its CRLF
        self._extension_bytes = 0
        self._in_trailers = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the body in `data`, and the bytes behind the message once it is complete, else
        None.

        Raises:
            HttpError: invalid chunked coding.
        """
        if self._left - 2 >= len(data):
            self._left -= len(data)
            return data, None
        if self._pending:
            data = self._pending + data
            self._pending = b""
        found: list[bytes] = []
        at = 0
        while not self._in_trailers:
            if self._left:
                at = self._take(data, at, found)
                if self._left:
                    return b"".join(found), None
            match = _SIZE.match(data, at) or self._match_odd_size(data, at)
            if match is None:
                self._wait_for_size(data[at:])
                return b"".join(found), None
            at = match.end()
            self._open(match[1], match[2])
        return b"".join(found), self._end(data[at:])

    def eof(self) -> None:
        """Raise HttpError: the connection ended before the message."""
        raise HttpError("incomplete chunked body")

    def _take(self, data: bytes, at: int, found: list[bytes]) -> int:
        """Append the data of the chunk in `data` to `found`; return the index behind it and its
        CRLF."""
        if self._left > 2:
            piece = data[at : at + self._left - 2]
            found.append(piece)
            at += len(piece)
            self._left -= len(piece)
        if self._left <= 2:
            ending = data[at : at + self._left]
            if not b"\r\n".startswith(ending, 2 - self._left):
                return self._take_odd_ending(ending, at)
            at += len(ending)
            self._left -= len(ending)
        return at

    def _match_odd_size(self, data: bytes, at: int) -> re.Match[bytes] | None:
        """Return the match of a line that the strict grammar does not have."""
        return None

    def _take_odd_ending(self, ending: bytes, at: int) -> int:
        """Return the index behind the bytes that stand for the CRLF behind the data of a chunk."""
        raise HttpError("no CRLF behind the data of a chunk")

    def _open(self, digits: bytes, extension: bytes) -> None:
        self._extension_bytes += len(extension)
        if len(extension) > MAX_EXTENSION_BYTES or self._extension_bytes > MAX_EXTENSIONS_BYTES:
            raise HttpError("the extensions of a chunk are too long")
        size = int(digits, 16)
        if size >= 2**63:
            raise HttpError("the size of a chunk is too large")
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _wait_for_size(self, begun: bytes) -> None:
        if begun and (len(begun) > _MAX_SIZE_LINE or not _PARTIAL_SIZE.fullmatch(begun)):
            raise HttpError("a chunk does not begin with its size")
        self._pending = begun

    def _end(self, data: bytes) -> bytes | None:
        """Parse the trailers; return the bytes behind them, or None while they are incomplete."""
        if data.startswith(b"\r\n"):
            return data[2:]
        end = data.find(b"\r\n\r\n") + 2
        if end > MAX_TRAILER_BYTES or (end == 1 and len(data) > MAX_TRAILER_BYTES + 1):
            raise HttpError("the trailers are too long", 431)
        if end == 1:
            self._pending = data
            return None
        if not _LINES.fullmatch(data, 0, end):
            raise HttpError("a trailer is not `Name: value`")
        for row in data[:end].splitlines():
            name, _, value = row.partition(b":")
            if not is_forbidden_trailer(folded(name)):
                self.trailers += b"%b: %b\r\n" % (name, value.strip(b" \t"))
        return data[end + 2 :]


class LenientChunkedReader(ChunkedReader):
    """Reads the chunked body of a backend's answer.

    Args:
        forgive: called with each deviation.
    """

    __slots__ = ("_forgive",)

    def __init__(self, forgive: Forgive) -> None:
        super().__init__()
        self._forgive = forgive

    def _match_odd_size(self, data: bytes, at: int) -> re.Match[bytes] | None:
        match = _LENIENT_SIZE.match(data, at)
        if match is not None:
            if match[3]:
                self._forgive(Deviation.PADDED_CHUNK_SIZE, "")
            if not match[4]:
                self._forgive(Deviation.BARE_LF, "")
        return match

    def _take_odd_ending(self, ending: bytes, at: int) -> int:
        if self._left < 2 or not ending.startswith(b"\n"):
            return super()._take_odd_ending(ending, at)
        self._forgive(Deviation.BARE_LF, "")
        self._left = 0
        return at + 1

    def _end(self, data: bytes) -> bytes | None:
        if data.startswith(b"\r\n"):
            return data[2:]
        end = 1 if data.startswith(b"\n") else 0
        if not end and (match := _EMPTY_LINE.search(data)) is not None:
            end = match.end()
        section = data[:end]
        if not _BARE_LF.search(section):
            return super()._end(data)
        self._forgive(Deviation.BARE_LF, "")
        super()._end(section.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        return data[end:]
