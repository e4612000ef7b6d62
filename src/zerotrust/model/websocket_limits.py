"""Limits of the WebSockets of a service, which the server enforces."""

from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from zerotrust.model.base import Duration
from zerotrust.model.rates import ByteRate, ByteSize, Rate, parse_byte_size
from zerotrust.model.service_access import Origin
from zerotrust.model.strict import Strict

MIN_PING: Final = 5.0
"""Seconds. Shorter intervals would wake mobile devices all the time."""


def _not_empty(value: str) -> str:
    if not parse_byte_size(value):
        raise ValueError("max_message must be at least 1 byte; remove the key for no limit")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) and value != "same" else value


def _ping(value: float) -> float:
    if value and value < MIN_PING:
        raise ValueError(f"ping must be at least {MIN_PING:g}s, or 0 for no pings")
    return value


UpgradeOrigins = Annotated[
    Annotated[Literal["same"], Tag("same")]
    | Annotated[list[Origin], Field(min_length=1, max_length=64), Tag("origins")],
    Discriminator(lambda value: "same" if value == "same" else "origins"),
    BeforeValidator(_as_list),
]
"""`same`, an origin or a list of origins."""


class WebSocketLimits(Strict):
    """Limits of the service's WebSockets. The server enforces them before anything reaches the
    agent.

    They are keys of the section `websocket`, too: `websocket: {max_message: 1MiB, messages: 50/s}`.
    A client that exceeds `max_message`, `messages` or `bytes` gets a Close frame. To slow clients
    down instead, use `traffic_shaping`.
    """

    origins: UpgradeOrigins | None = None
    """Origins whose pages may open WebSockets, besides the service's own; others get 403. `same`:
    only its own. Clients that are no browsers send no `Origin`, and pass. Without the key, all
    pages may, except with the cookie of a sign-in (`access.origins`)."""

    max_message: Annotated[ByteSize, AfterValidator(_not_empty)] | None = None
    """Maximum size of a message from a client; beyond it, close code 1009. A compressed message
    counts as compressed."""

    messages: Rate | None = None
    """Maximum rate of messages from one WebSocket, with its pings and pongs; beyond it, close code
    1008."""

    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    """Maximum messages at once. Default: the number in `messages`."""

    bytes: ByteRate | None = None
    """Maximum rate of bytes from one WebSocket; beyond it, close code 1008. One second of the rate,
    or a message of `max_message`, may come at once."""

    handshakes: Rate | None = None
    """Maximum rate of requests for an upgrade from one client (IPv4 address or IPv6 /64 network);
    beyond it, 429."""

    ping: Annotated[Duration, AfterValidator(_ping)] = 0.0
    """Longest time without a byte on a WebSocket: before it is over, the server sends the client a
    Ping. A client that has not answered after the same time is gone, and its WebSocket is ended.
    The backend sees none of it. 0 means no pings."""

    @model_validator(mode="after")
    def _consistent(self) -> "WebSocketLimits":
        if self.burst is not None and self.messages is None:
            raise ValueError("burst needs messages: add it, or remove burst")
        return self
