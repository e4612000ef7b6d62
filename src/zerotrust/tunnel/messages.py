"""Handshake and control messages: JSON, because they are rare (docs/spec/tunnel-v1.md)."""

from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from zerotrust.errors import RemoteProtocolError
from zerotrust.model.base import parse_host_port, parse_service_host
from zerotrust.model.workers import MAX_WORKERS
from zerotrust.tunnel.binary import MAX_REASON_BYTES, printable
from zerotrust.tunnel.codes import FrameType

MAX_HELLO_BYTES: Final = 4096
MAX_TEXT: Final = 128
MAX_UNHEALTHY: Final = 8
"""Upstreams that a message about a service's health names."""
MAX_MEMBERS: Final = 64
"""Servers that a message about members names."""


class Message(BaseModel):
    """Content of a JSON frame. Unknown members are ignored, as the specification asks."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    def encode(self) -> bytes:
        """Return the payload of the message's frame."""
        return self.model_dump_json(exclude_none=True).encode()


MessageT = TypeVar("MessageT", bound=Message)


def decode(kind: type[MessageT], payload: bytes) -> MessageT:
    """Return the message in a frame's payload.

    Raises:
        RemoteProtocolError: the payload is not JSON, or breaks the specification.
    """
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = printable(f"{where}: {first['msg']}")
        raise RemoteProtocolError(f"{kind.__name__.upper()} {said[:MAX_REASON_BYTES]}") from None


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(printable)]
Window = Annotated[int, Field(ge=16384, le=16777216)]
MaxStreams = Annotated[int, Field(ge=1, le=1048576)]
ServiceId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Host = Annotated[
    str, Field(max_length=255, pattern=r"^[^%\s]+$"), AfterValidator(parse_service_host)
]
"""Host name, wildcard or address, without the zone of IPv6, which may contain anything (RFC
6874)."""


SessionId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
ServerId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Secret = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**64)]
UpstreamCount = Annotated[int, Field(ge=0, lt=2**31)]


class Resume(Message):
    """Request for an older session, in HELLO."""

    session: SessionId
    secret: Secret = Field(repr=False)
    received: Count
    """Number of counted frames that the dialer has received."""
    attempt: Count
    """Number of the attempt: of two connections that ask, the one with the larger number counts."""


class Hello(Message):
    """First frame of the dialer."""

    versions: list[Annotated[int, Field(ge=0, le=65535)]] = Field(max_length=16)
    capabilities: list[Text] = Field(default=[], max_length=64)
    software: Text = ""
    window: Window
    max_streams: MaxStreams
    instance: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Process of the agent. Its sessions exist side by side."""
    connection: int = Field(default=0, ge=0, le=255)
    """Number of the session within the instance; a newer session with it replaces this one."""
    worker: int | None = Field(default=None, ge=0, lt=MAX_WORKERS)
    """Worker of the acceptor that the session is for; 0 if it is missing."""
    resume: Resume | None = None


class Welcome(Message):
    """First frame of the acceptor."""

    version: int
    capabilities: list[Text] = Field(default=[], max_length=64)
    session: SessionId
    software: Text = ""
    window: Window
    max_streams: MaxStreams
    secret: Secret | None = Field(default=None, repr=False)
    """Secret with which the dialer proves later that the session is its own."""
    resume_timeout: float = Field(default=0.0, ge=0, le=3600)
    """Seconds for which the session waits without a link, at both ends."""
    resumed: bool = False
    received: Count = 0
    """Number of counted frames that the acceptor has received, if the session was resumed."""
    workers: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    """Number of the acceptor's workers; 1 if it is missing."""
    server: ServerId | None = None
    """Id of the acceptor among the servers of its database; MEMBERS follows."""


class ControlMessage(Message):
    """A message that an open session carries (`Session.send`, `SessionSink.message`).

    Attributes:
        frame_type: type of the frame that carries it.
    """

    frame_type: ClassVar[FrameType]


class Register(ControlMessage):
    """A service that the agent offers."""

    frame_type = FrameType.REGISTER

    id: ServiceId
    hosts: list[Host] = Field(min_length=1, max_length=256)
    websocket: bool = True
    listen_on: Literal["http", "https", "both"] = "both"
    http_redirect: bool = True
    """Redirect http requests to https; ignored if `listen_on` is `http`."""
    name: Text = ""
    weight: int = Field(default=100, ge=1, le=1000)
    """Share of the requests for this agent if several agents serve the host name."""
    sticky: bool = False
    """Send all requests of a client to the same agent."""
    policy: dict[str, Any] | None = None
    """Policy of the service (`model.policy`), parsed later: an error costs its service only."""


class Registered(ControlMessage):
    """The server's answer to a registration."""

    frame_type = FrameType.REGISTERED

    id: ServiceId
    accepted: list[str] = []
    refused: dict[str, str] = {}


class Renew(ControlMessage):
    """The agent's request for its next certificate."""

    frame_type = FrameType.RENEW

    csr: str = Field(max_length=8192)
    """A certificate signing request with a new key (RFC 2986), PEM."""


class Renewed(ControlMessage):
    """The agent's next certificate, or the reason why the server issues none."""

    frame_type = FrameType.RENEWED

    chain: str = Field(default="", max_length=32768)
    """Certificate and intermediates up to the root, PEM; empty if the server issues none."""
    reason: Text = ""


class UpstreamFault(Message):
    """An upstream that is not healthy."""

    address: Text
    reason: Text = ""


class ServiceHealth(ControlMessage):
    """Health of the upstreams of a registered service."""

    frame_type = FrameType.HEALTH

    id: ServiceId
    healthy: UpstreamCount
    upstreams: UpstreamCount
    """Number of all upstreams."""
    unhealthy: list[UpstreamFault] = Field(default=[], max_length=MAX_UNHEALTHY)
    """Some of those that are not healthy."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.healthy + len(self.unhealthy) > self.upstreams:
            raise ValueError("healthy and unhealthy upstreams are more than upstreams")
        return self


class Member(Message):
    """A server that the agent shall keep sessions with."""

    id: ServerId
    address: Annotated[str, Field(max_length=261), AfterValidator(parse_host_port)]
    """`host:port`. The host must be a name in the server's certificate."""


class Members(ControlMessage):
    """All servers that share the acceptor's database, the acceptor too."""

    frame_type = FrameType.MEMBERS

    members: list[Member] = Field(max_length=MAX_MEMBERS)


class Unregister(ControlMessage):
    """A service that the agent no longer offers."""

    frame_type = FrameType.UNREGISTER

    id: ServiceId


class Ready(ControlMessage):
    """The agent has sent all its registrations. The frame has no payload."""

    frame_type = FrameType.READY

    def encode(self) -> bytes:
        return b""


AGENT_MESSAGES: Final[dict[int, type[ControlMessage]]] = {
    message.frame_type: message for message in (Register, Unregister, Ready, Renew, ServiceHealth)
}
"""Messages that agents send, by frame type."""
SERVER_MESSAGES: Final[dict[int, type[ControlMessage]]] = {
    message.frame_type: message for message in (Registered, Renewed, Members)
}
"""Messages that servers send, by frame type."""
