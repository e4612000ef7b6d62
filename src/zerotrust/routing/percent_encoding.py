"""Percent-encoding (RFC 3986 s2.1), and two codes besides it that only some servers decode.

IIS decodes `%u0041`. Decoders that do not check their input decode overlong UTF-8 (RFC 3629 s10):
they read the bytes C0 AF as `/`.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_WIDE: Final = re.compile(rb"%u([0-9A-Fa-f]{4})")
_OVERLONG: Final = re.compile(
    rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]"
    rb"|(?:\xf0|\xf8\x80|\xfc\x80\x80)[\x80-\x8f][\x80-\xbf]{2}"
)
OTHER_CODES: Final = re.compile(rb"%b|%b" % (_WIDE.pattern, _OVERLONG.pattern))
"""What `decode_wide` and `decode_overlong` decode besides percent-encoding."""


def decode_wide(text: bytes) -> bytes:
    """Return the text decoded once, with `%uXXXX`."""
    return unquote_to_bytes(_WIDE.sub(_character, text))


def decode_overlong(text: bytes) -> bytes:
    """Return the text decoded once, with overlong UTF-8 in its shortest form."""
    return _OVERLONG.sub(_shortest, unquote_to_bytes(text))


def _character(match: re.Match[bytes]) -> bytes:
    return chr(int(match[1], 16)).encode("utf-8", "surrogatepass")


def _shortest(match: re.Match[bytes]) -> bytes:
    first, *others = match[0]
    code = first & (0x7F >> len(match[0]))
    for byte in others:
        code = code << 6 | byte & 0x3F
    return chr(code).encode("utf-8", "surrogatepass")
