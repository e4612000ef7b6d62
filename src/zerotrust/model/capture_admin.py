"""Requests and responses of the admin API about captures of WebSockets.

They follow the rules of `model.admin`. Payloads are strangers' bytes.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from zerotrust.model.admin import MAX_REASON, Number
from zerotrust.model.base import Duration, Model
from zerotrust.model.strict import Strict
from zerotrust.model.traffic_admin import MAX_ROWS, Text

MAX_SECONDS: Final = 600.0


def _with_words(value: str) -> str:
    if not value.strip():
        raise ValueError("say why: the audit log keeps it")
    return value.strip()


def _short(value: float) -> float:
    if not 1 <= value <= MAX_SECONDS:
        raise ValueError("a capture takes from 1s to 10m")
    return value


CaptureState = Literal["waiting", "running", "ended"]
MessageKind = Literal["text", "binary", "close", "ping", "pong", "unknown"]


class StartCaptureRequest(Strict):
    """Request to capture the messages of an open WebSocket, or of the next one of a host name.

    Either `connection`, an `id` in the list of connections, or `host` is given. After the duration
    `time` the capture ends, and its messages are forgotten.
    """

    connection: Text | None = None
    host: Text | None = None
    reason: Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_with_words)]
    time: Annotated[Duration, AfterValidator(_short)] = MAX_SECONDS

    @model_validator(mode="after")
    def _has_one_target(self) -> "StartCaptureRequest":
        if (self.connection is None) is (self.host is None):
            raise ValueError("give either a connection or a host name")
        return self


class CaptureRequest(Strict):
    """Request about one capture."""

    id: Text


class CapturedMessageQuery(Strict):
    """Request for the messages of a capture with a number above `after`, oldest first."""

    id: Text
    after: Number = 0
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100


class CaptureInfo(Model):
    """Capture of a WebSocket.

    `connection` is empty while the capture waits for one. `messages` is the number of messages so
    far, of which the newest are kept. `lost` is the number of bytes that it could not follow.
    `over` is the reason for its end; empty before. At `ends_at` its messages are forgotten.
    """

    id: str
    state: CaptureState
    host: str
    agent: str
    service: str
    connection: str
    reason: str
    actor: str
    started_at: int
    ends_at: int
    messages: int
    lost: int
    over: str


class CaptureList(Model):
    """Captures, newest first."""

    captures: list[CaptureInfo]


class CapturedMessageInfo(Model):
    """Captured message or control frame.

    `at` is in seconds since 1970, with a fraction. `size` is the payload as sent, in bytes. Of the
    first 1024 bytes, `text` has those of a text message and the reason of a Close frame, `hex` all
    others. Both are empty if the message is `compressed`, because it cannot be inflated. `cut`:
    more bytes follow. `code` is that of a Close frame.
    """

    number: int
    at: float
    by: Literal["client", "backend"]
    kind: MessageKind
    size: int
    text: str
    hex: str
    code: int | None
    compressed: bool
    cut: bool


class CapturedMessageList(Model):
    """Capture with some of its messages, oldest first."""

    capture: CaptureInfo
    messages: list[CapturedMessageInfo]
