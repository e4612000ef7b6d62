"""Names and values of HTTP fields as they are written in a configuration (RFC 9110 s5.1 and s5.5)."""

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
NOT_IN_REQUEST: Final = frozenset((*_HOP, *_FORWARDING, "host", "expect", "http2-settings"))
"""Fields that belong to a hop or that 0Trust itself sets (`zerotrust.http.headers`)."""

NOT_IN_RESPONSE: Final = frozenset(_HOP)

_OWN_PREFIX: Final = "x-0trust-"
_FOLD: Final = bytes(
    byte + 32 if 0x41 <= byte <= 0x5A else byte if chr(byte).isalnum() and byte < 0x80 else 0x2D for byte in range(256)
)


def folded(name: bytes) -> bytes:
    """Return the name of a field as programs behind a gateway may compare it.

    That is in lower case, with `-` for each character that is no letter and no digit. CGI puts names into variables
    (RFC 3875 s4.1.18), and its servers write `_` there for each other character: a program behind lighttpd takes
    `X+User` for `X-User`.
    """
    return name.translate(_FOLD)


def _folded(name: str) -> str:
    return folded(name.encode()).decode("ascii")


def refuse_request_field(name: str) -> None:
    """Object to a field that no configuration may touch on the way to a backend.

    Raises:
        ValueError: it is one.
    """
    plain = _folded(name)
    if plain in _FORWARDING or plain.startswith(_OWN_PREFIX):
        raise ValueError(f"{name} is set by 0Trust itself, from what it knows; remove it")
    if plain in NOT_IN_REQUEST:
        raise ValueError(f"{name} belongs to the connection or to the routing; remove it")


def refuse_response_field(name: str) -> None:
    """Object to a field that no configuration may touch on the way to a client.

    Raises:
        ValueError: it is one.
    """
    plain = _folded(name)
    if plain in NOT_IN_RESPONSE or plain.startswith(_OWN_PREFIX):
        raise ValueError(f"{name} belongs to the connection, or is set by 0Trust itself; remove it")


def refuse_condition(name: str) -> None:
    """Object to a field that no route can be chosen by, because it ends where 0Trust begins.

    Raises:
        ValueError: it is one.
    """
    plain = _folded(_name(name))
    if plain in NOT_IN_REQUEST and plain not in ("host", "upgrade"):
        raise ValueError(f"{name} is not seen by routes; of fields of the connection there are Host and Upgrade")


def _name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f'"{value[:60]}" is not the name of a field; write for example X-Frame-Options')
    return value


def _value(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("the value of a field is one line without control characters")
    if len(value) > 4096:
        raise ValueError("the value of a field has at most 4096 characters here")
    return value.strip(" \t")


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _spelled(value: object) -> object:
    """A number as it stands behind a name: `X-Frame-Count: 1`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _once(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    seen: set[str] = set()
    for name in fields:
        if _folded(name) in seen:
            raise ValueError(f"{name} is there twice: capitals, and `_` for `-`, make no other name of a field")
        seen.add(_folded(name))
    return fields


MAX_FIELDS: Final = 64
"""Names in one list, and values of one name: a head with more is refused by many backends (Apache: 100 in all)."""

FieldName = Annotated[str, AfterValidator(_name)]
FieldValue = Annotated[str, BeforeValidator(_spelled), AfterValidator(_value)]
_Values = Annotated[list[FieldValue], BeforeValidator(_as_list), Field(min_length=1, max_length=MAX_FIELDS)]
SetFields = Annotated[dict[FieldName, _Values], Field(max_length=MAX_FIELDS), AfterValidator(_once)]
"""`Name: value` or `Name: [value, value]`."""
