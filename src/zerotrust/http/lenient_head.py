"""Reader of the heads of answers, lenient where a head deviates and still has one meaning.

The strict parser reads each head first, so leniency costs a usual answer nothing. If it refuses a
head, `_repair` writes that head anew, in canonical form, and the strict parser reads the result. So
a head has one meaning, and all that the agent sends to the server is strict. These deviations are
forgiven (`deviations.Deviation`), because old servers and small devices have them, and Caddy, nginx
or browsers accept them:

* LF instead of CR LF (RFC 9112 s2.2), several blanks in the status line (s4), higher versions (RFC
  9110 s2.5);
* folded fields (RFC 9112 s5.2), blanks before the colon (s5.1);
* lines that are no field, which are dropped, unless they may be a damaged Content-Length or
  Transfer-Encoding;
* Content-Length with the same value again (RFC 9110 s8.6), or beside Transfer-Encoding, which then
  counts alone, and the connection is not used again (RFC 9112 s6.3);
* `Transfer-Encoding: identity` of RFC 2616.
"""

import re
from typing import Final

from zerotrust.errors import HttpError
from zerotrust.http import grammar
from zerotrust.http.deviations import Deviation, Forgive
from zerotrust.http.head import (
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD_BYTES,
    ResponseHead,
    find_head_end,
    parse_response,
)
from zerotrust.http.parse_cache import recent

_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FOLD: Final = re.compile(rb"\r?\n[\t ]++")
_NAME: Final = re.compile(grammar.TOKEN)
_STATUS_LINE: Final = re.compile(
    rb"HTTP/([1-9]\.[0-9])([\t ]++)([1-9][0-9][0-9])(?:([\t ]++)(%b))?+" % grammar.TEXT
)
_NOT_PRINTABLE: Final = re.compile(rb"[^\x20-\x7e]")
_FRAMING_NAME: Final = re.compile(rb"(?i)content[^a-z]*+length|transfer[^a-z]*+encoding")
_MAX_NAME_BYTES: Final = 64

Field = tuple[bytes, bytes]
Repaired = tuple[bytes, dict[Deviation, str]]


def read_response_head(
    buffer: bytes, searched: int, forgive: Forgive | None
) -> tuple[int, ResponseHead | None]:
    """Return the index behind the head of an answer, and the head; -1 and None if it is incomplete.

    Args:
        searched: number of bytes that an earlier call has searched.
        forgive: called with each deviation; None if the reader is strict.

    Raises:
        HttpError: the head is invalid.
    """
    if forgive is None:
        end = find_head_end(buffer, searched, MAX_RESPONSE_HEAD_BYTES)
        return end, parse_response(buffer[:end]) if end > 0 else None
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3)) + 4
    if 3 < end <= MAX_RESPONSE_HEAD_BYTES:
        try:
            return end, parse_response(buffer[:end])
        except HttpError:
            pass
    match = _EMPTY_LINE.search(buffer, max(0, searched - 2))
    if match is None:
        if len(buffer) >= MAX_RESPONSE_HEAD_BYTES:
            raise _too_long()
        if not b"HTTP/".startswith(buffer[:5]):
            raise HttpError("invalid status line: it is not HTTP/1.1")
        return -1, None
    end = match.end()
    if end > MAX_RESPONSE_HEAD_BYTES:
        raise _too_long()
    repaired, deviations = _repair(buffer[:end])
    head = parse_response(repaired)
    for deviation, name in deviations.items():
        forgive(deviation, name)
    return end, head


def _too_long() -> HttpError:
    return HttpError(f"the head is longer than {MAX_RESPONSE_HEAD_BYTES} bytes")


@recent
def _repair(head: bytes) -> Repaired:
    """Return the head in canonical form, and its deviations.

    What is not forgiven stays as it is, and the strict parser says what it is.
    """
    if head.count(b"\n") > MAX_RESPONSE_FIELDS + 2:
        raise HttpError(f"more than {MAX_RESPONSE_FIELDS} fields")
    found: dict[Deviation, str] = {}
    if _BARE_LF.search(head):
        found[Deviation.BARE_LF] = ""
    start, _, rest = head.partition(b"\n")
    start = _repair_status_line(start.removesuffix(b"\r"), found)
    rest, folds = _FOLD.subn(b" ", rest)
    if folds:
        found[Deviation.FOLDED_FIELD] = ""
    fields: list[Field] = []
    for row in rest.split(b"\n"):
        line = row.removesuffix(b"\r")
        if line and (field := _repair_field(line, found)) is not None:
            fields.append(field)
    lines = [b"%b: %b\r\n" % field for field in _repair_framing(fields, found)]
    return b"".join((start, b"\r\n", *lines, b"\r\n")), found


def _repair_status_line(start: bytes, found: dict[Deviation, str]) -> bytes:
    match = _STATUS_LINE.fullmatch(start)
    if match is None:
        return start
    version, first, status, second, reason = match.groups()
    if version not in (b"1.0", b"1.1"):
        found[Deviation.VERSION] = ""
        version = b"1.1"
    if first != b" " or second not in (b" ", None):
        found[Deviation.STATUS_LINE] = ""
    return b"HTTP/%b %b %b" % (version, status, reason or b"")


def _repair_field(line: bytes, found: dict[Deviation, str]) -> Field | None:
    """Return the field of a line; None if it is no field.

    Raises:
        HttpError: the line may be a damaged field that tells where the body ends.
    """
    written, colon, value = line.partition(b":")
    name = written.rstrip(b"\t ")
    if not (colon and _NAME.fullmatch(name)):
        if _FRAMING_NAME.search(line):
            raise HttpError("invalid field line: it may be Content-Length or Transfer-Encoding")
        # Without a colon, the line may be part of a secret value.
        shown = _NOT_PRINTABLE.sub(b"?", written[:_MAX_NAME_BYTES]) if colon else b""
        found.setdefault(Deviation.NO_FIELD, shown.decode())
        return None
    if name != written:
        found[Deviation.BLANK_BEFORE_COLON] = ""
    return name, value.strip(b"\t ")


def _repair_framing(fields: list[Field], found: dict[Deviation, str]) -> list[Field]:
    """Return the fields with one framing, if they have one meaning (RFC 9112 s6.3)."""
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings and all(value.lower() == b"identity" for value in codings):
        found[Deviation.IDENTITY] = ""
        codings = []
        fields = [field for field in fields if field[0].lower() != b"transfer-encoding"]
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    values = {part.strip(b"\t ") for value in lengths for part in value.split(b",")}
    if len(values) != 1 or (not codings and len(lengths) == 1 and lengths[0] in values):
        return fields
    others = [field for field in fields if field[0].lower() != b"content-length"]
    if codings:
        found[Deviation.TWO_FRAMINGS] = ""
        return [*others, (b"Connection", b"close")]
    found[Deviation.REPEATED_LENGTH] = ""
    return [*others, (b"Content-Length", values.pop())]
