"""Payloads other than plain bytes (docs/spec/tunnel-v1.md): JSON where it is rare, structs where it is not."""

import struct
from typing import Annotated, Final, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from zerotrust.errors import RemoteProtocolError
from zerotrust.model.base import normalise_host
from zerotrust.tunnel.codes import Code

MAX_HELLO_BYTES: Final = 4096
MAX_HEAD_BYTES: Final = 40000
MAX_REASON_BYTES: Final = 256

_OPEN: Final = struct.Struct(">BBHQHH")
_HEAD: Final = struct.Struct(">BBHQ")
_REASON: Final = struct.Struct(">H")


class Message(BaseModel):
    """A control message; members that are not known are ignored, as the specification asks."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    def encode(self) -> bytes:
        """The message as the payload of its frame."""
        return self.model_dump_json(exclude_none=True).encode()


def printable(text: str) -> str:
    """Without control characters: what a peer says goes into logs and onto terminals."""
    return "".join(c if c.isprintable() else "?" for c in text)


MessageT = TypeVar("MessageT", bound=Message)


def decode(kind: type[MessageT], payload: bytes) -> MessageT:
    """A control message out of a frame.

    Raises:
        RemoteProtocolError: not JSON, or not what the specification says.
    """
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = printable(f"{where}: {first['msg']}")
        raise RemoteProtocolError(f"{kind.__name__.upper()} {said[:MAX_REASON_BYTES]}") from None


Text = Annotated[str, Field(max_length=128), AfterValidator(printable)]
Window = Annotated[int, Field(ge=16384, le=16777216)]
MaxStreams = Annotated[int, Field(ge=1, le=1048576)]
ServiceId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Host = Annotated[str, Field(max_length=255, pattern=r"^[^%\s]+$"), AfterValidator(normalise_host)]
"""Without the zone of an IPv6 address, which may hold anything (RFC 6874)."""


class Hello(Message):
    """The dialer's first frame."""

    versions: list[Annotated[int, Field(ge=0, le=65535)]] = Field(max_length=16)
    capabilities: list[Text] = Field(default=[], max_length=64)
    software: Text = ""
    window: Window
    max_streams: MaxStreams


class Welcome(Message):
    """The acceptor's answer."""

    version: int
    capabilities: list[Text] = Field(default=[], max_length=64)
    session: str = Field(pattern=r"^[0-9a-f]{32}$")
    software: Text = ""
    window: Window
    max_streams: MaxStreams


class Register(Message):
    """A service that the agent offers."""

    id: ServiceId
    hosts: list[Host] = Field(min_length=1, max_length=256)
    websocket: bool = True
    name: Text = ""


class Registered(Message):
    """What the server made of a registration."""

    id: ServiceId
    accepted: list[str] = []
    refused: dict[str, str] = {}


class Unregister(Message):
    """A service that the agent no longer offers."""

    id: ServiceId


class RequestOpen(NamedTuple):
    """The fields of an OPEN payload."""

    kind: int
    flags: int
    length: int
    service: str
    request_id: str
    block: bytes


def pack_open(kind: int, length: int, *, flags: int, service: bytes, request_id: bytes, block: bytes) -> bytes:
    """The payload of OPEN; service and request id are ASCII."""
    return b"".join((_OPEN.pack(kind, flags, len(service), length, len(request_id), 0), service, request_id, block))


def unpack_open(payload: bytes) -> RequestOpen:
    """The fields of OPEN.

    Raises:
        RemoteProtocolError: shorter than its own lengths say, or not visible ASCII where it must be.
    """
    if len(payload) < _OPEN.size:
        raise RemoteProtocolError(f"OPEN of {len(payload)} bytes, at least {_OPEN.size} expected")
    kind, flags, service_bytes, length, id_bytes, _ = _OPEN.unpack_from(payload)
    id_end = _OPEN.size + service_bytes + id_bytes
    if id_end > len(payload):
        raise RemoteProtocolError("OPEN is shorter than its own lengths say")
    try:
        names = payload[_OPEN.size : id_end].decode("ascii")
    except UnicodeDecodeError:
        names = "\0"
    if not names.isprintable():
        raise RemoteProtocolError("OPEN: service and request id must be visible ASCII")
    return RequestOpen(kind, flags, length, names[:service_bytes], names[service_bytes:], payload[id_end:])


def pack_head(kind: int, flags: int, length: int, block: bytes) -> bytes:
    """The payload of HEAD."""
    return _HEAD.pack(kind, flags, 0, length) + block


def unpack_head(payload: bytes) -> tuple[int, int, int, bytes]:
    """Kind, flags, content length and block of HEAD.

    Raises:
        RemoteProtocolError: too short.
    """
    if len(payload) < _HEAD.size:
        raise RemoteProtocolError(f"HEAD of {len(payload)} bytes, at least {_HEAD.size} expected")
    kind, flags, _, length = _HEAD.unpack_from(payload)
    return kind, flags, length, payload[_HEAD.size :]


def pack_reason(code: int, reason: str) -> bytes:
    """The payload of CLOSE, GOAWAY and RESET; a reason that is too long ends with a whole character."""
    text = reason.encode(errors="replace")[:MAX_REASON_BYTES]
    return _REASON.pack(code) + text.decode(errors="ignore").encode()


def unpack_reason(payload: bytes) -> tuple[Code, str]:
    """Code and reason; control characters are taken out, as the reason goes into logs.

    Raises:
        RemoteProtocolError: shorter than a code.
    """
    if len(payload) < _REASON.size:
        raise RemoteProtocolError("a code needs two bytes")
    text = payload[_REASON.size : _REASON.size + MAX_REASON_BYTES].decode(errors="replace")
    return Code(_REASON.unpack_from(payload)[0]), printable(text)
