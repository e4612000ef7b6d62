"""Tables of docs/spec/tunnel-v1.md: frame types, flags, codes. A test compares them."""

from enum import IntEnum
from typing import Final

ALPN: Final = "0trust/1"
WORKER_ALPN: Final = f"{ALPN}/worker-"
"""With the number of a worker behind it: an offer that asks for this worker (section 13)."""
VERSION: Final = 1

POLICY: Final = "policy"
LISTEN_ON: Final = "listen_on"
RENEWAL: Final = "renewal"
RESUME: Final = "resume"
CONNECTIONS: Final = "connections"
WILDCARDS: Final = "wildcards"
LARGE_HEADS: Final = "large_heads"
ACCESS: Final = "access"
REPORTS: Final = "reports"
HEALTH: Final = "health"
WORKERS: Final = "workers"
MEMBERS: Final = "members"
CAPABILITIES: Final = (
    POLICY,
    LISTEN_ON,
    RENEWAL,
    RESUME,
    CONNECTIONS,
    WILDCARDS,
    LARGE_HEADS,
    ACCESS,
    REPORTS,
    HEALTH,
    WORKERS,
    MEMBERS,
)
"""Extensions of the first revision that this implementation has (section 3)."""


class FrameType(IntEnum):
    """First byte of a frame (section 2)."""

    HELLO = 0x01
    WELCOME = 0x02
    PING = 0x03
    PONG = 0x04
    ACK = 0x05
    CLOSE = 0x06
    REGISTER = 0x10
    UNREGISTER = 0x11
    REGISTERED = 0x12
    READY = 0x13
    GOAWAY = 0x14
    RENEW = 0x15
    RENEWED = 0x16
    HEALTH = 0x17
    MEMBERS = 0x18
    OPEN = 0x20
    HEAD = 0x21
    DATA = 0x22
    TRAILERS = 0x23
    WINDOW = 0x24
    RESET = 0x25


COUNTED: Final = 0x10
"""Frames of this type and above are counted, and sent again after a broken link (section 7)."""


class Code(IntEnum):
    """Reason for the end of a stream or a session (section 2, Codes)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL = 2
    CANCELLED = 3
    REFUSED = 4
    UNKNOWN_SERVICE = 5
    UPSTREAM_UNREACHABLE = 6
    UPSTREAM_TIMEOUT = 7
    UPSTREAM_FAILED = 8
    OVERLOADED = 9
    GOING_AWAY = 10
    INTERNAL = 11
    VERSION = 12
    SUPERSEDED = 13
    SILENCE = 14
    NOT_ALLOWED = 15
    UPSTREAMS_DOWN = 16
    UPSTREAMS_BUSY = 17
    NOT_RESUMED = 18
    WITHDRAWN = 19
    CONNECT_TIMEOUT = 20
    WRONG_WORKER = 21

    @classmethod
    def _missing_(cls, value: object) -> "Code":
        return cls.INTERNAL


UNTOUCHED: Final = frozenset(
    (
        Code.REFUSED,
        Code.UNKNOWN_SERVICE,
        Code.UPSTREAM_UNREACHABLE,
        Code.CONNECT_TIMEOUT,
        Code.UPSTREAMS_DOWN,
        Code.UPSTREAMS_BUSY,
    )
)
"""Codes with which an agent allows another agent to get the request (section 2, Codes)."""


END: Final = 0x01
INTERIM: Final = 0x02
MORE: Final = 0x04

KIND_NONE: Final = 0
KIND_LENGTH: Final = 1
KIND_CHUNKED: Final = 2
KIND_TUNNEL: Final = 4

FLAG_UPGRADE: Final = 0x01
FLAG_TRAILERS: Final = 0x02
FLAG_ANNOUNCE: Final = 0x04
FLAG_REPORT: Final = 0x08
