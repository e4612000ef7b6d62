"""Header names and values in a configuration (RFC 9110 s5.1 and s5.5)."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_HOP: Final = (
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "content-length",
    "trailer",
)
_FORWARDING: Final = (
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-real-ip",
)
NOT_IN_REQUEST: Final = frozenset(
    (
        *_HOP,
        *_FORWARDING,
        "host",
        "expect",
        "http2-settings",
        "x-0trust-token",
        "x-0trust-proxy-secret",
    )
)
"""Headers that belong to one connection or that 0Trust itself sets (`zerotrust.http.headers`)."""

NOT_IN_RESPONSE: Final = frozenset(_HOP)

_OWN_PREFIX: Final = "x-0trust-"
_FOLD: Final = bytes(
    byte + 32 if 0x41 <= byte <= 0x5A else byte if chr(byte).isalnum() and byte < 0x80 else 0x2D
    for byte in range(256)
)


def folded(name: bytes) -> bytes:
    """Return a header name as programs behind a gateway may compare it.

    The result is in lower case, with `-` for each character that is not a letter or digit. CGI
    turns header names into variables (RFC 3875 s4.1.18), and CGI servers write `_` for every other
    character: a program behind lighttpd reads `X+User` as `X-User`.
    """
    return name.translate(_FOLD)


def _folded(name: str) -> str:
    return folded(name.encode()).decode("ascii")


def refuse_request_field(name: str) -> None:
    """Refuse a header that no configuration may change on the way to a backend.

    Raises:
        ValueError: the header belongs to the connection or to the routing, or 0Trust sets it.
    """
    plain = _folded(name)
    if plain in _FORWARDING or plain.startswith(_OWN_PREFIX):
        raise ValueError(f"0Trust itself sets {name}; remove it")
    if plain in NOT_IN_REQUEST:
        raise ValueError(f"{name} describes the connection or selects the service; remove it")


def refuse_response_field(name: str) -> None:
    """Refuse a header that no configuration may change on the way to a client.

    Raises:
        ValueError: the header belongs to the connection, or 0Trust sets it.
    """
    plain = _folded(name)
    if plain in NOT_IN_RESPONSE or plain.startswith(_OWN_PREFIX):
        raise ValueError(f"{name} describes the connection, or 0Trust itself sets it; remove it")


def refuse_condition(name: str) -> None:
    """Refuse a header as the condition of a route, because it is not forwarded.

    Raises:
        ValueError: the header belongs to the connection, or 0Trust sets it.
    """
    plain = _folded(_name(name))
    if plain in NOT_IN_REQUEST and plain not in ("host", "upgrade"):
        raise ValueError(
            f"routes cannot match {name}; of the headers about the connection, use Host or Upgrade"
        )


def _name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f'invalid header name "{value[:60]}": write for example X-Frame-Options')
    return value


def _value(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("a header value must be one line without control characters")
    if len(value) > 4096:
        raise ValueError("a header value must have at most 4,096 characters")
    return value.strip(" \t")


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _number_as_text(value: object) -> object:
    """Return a number as the text of a header value: `X-Frame-Count: 1`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _once(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    seen: set[str] = set()
    for name in fields:
        if _folded(name) in seen:
            raise ValueError(
                f"{name} is given twice; remove one: header names ignore case, and _ counts as -"
            )
        seen.add(_folded(name))
    return fields


MAX_FIELDS: Final = 64
"""Maximum names in one list, and values of one name. Many backends refuse heads with more (Apache:
100 in all)."""

FieldName = Annotated[str, AfterValidator(_name)]
FieldValue = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_value)]
_Values = Annotated[
    list[FieldValue], BeforeValidator(_as_list), Field(min_length=1, max_length=MAX_FIELDS)
]
SetFields = Annotated[dict[FieldName, _Values], Field(max_length=MAX_FIELDS), AfterValidator(_once)]
"""Header values by name: `Name: value` or `Name: [value, value]`."""
