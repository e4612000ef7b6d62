"""Meter of a WebSocket: counts its frames in both directions, and records who ended it.

It follows the lengths of frames (RFC 6455 s5.2) and changes no byte. Of payloads, it reads those of
control frames, which have at most 125 bytes: a Ping and its Pong give the round-trip time of
whoever answered, a Close gives code and reason (s5.5).

Where the bytes are no valid frames, it goes on by their lengths, as the two ends may do, too.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from zerotrust.http.websocket_frames import header_size, payload_size

CLIENT: Final = "client"
CONNECTION: Final = "connection"
SERVER: Final = "server"
TUNNEL: Final = "tunnel"
AGENT: Final = "agent"
BACKEND: Final = "backend"
"""Who has ended a WebSocket.

`client` and `backend` have sent the first Close frame; without one, `backend` has closed or broken
off its connection. `connection`: that of the browser, or of Caddy, was lost without one. `server`:
a limit, a rule, a restart or a revocation. `tunnel`: the link to the agent was lost for good.
`agent`: it went away, or applied a limit of its own.
"""

NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
"""Codes of s7.4.1 that no frame has: a Close without a code, and an end without a Close."""

MAX_CONTROL_BYTES: Final = 125

OPCODES: Final = ("continuation", "text", "binary", "close", "ping", "pong", "reserved")
SIZES: Final = 12
"""Classes of frame sizes: class n has payloads of less than 4**n bytes, the last one all others."""

_TEXT: Final = 0x81
_BINARY: Final = 0x82
"""First bytes of frames that are whole messages."""
_MASKED: Final = 0x80
_FIN: Final = 0x80
_COMPRESSED: Final = 0x40
_UNKNOWN_BITS: Final = 0x30
_CONTROL: Final = 0x08
_CLOSE, _PING, _PONG, _RESERVED = 3, 4, 5, 6
"""Places of control frames in `OPCODES`."""
_FIRST_SIZE: Final = 7
_LAST_SIZE: Final = _FIRST_SIZE + SIZES - 1
"""Places of the sizes behind the counts of `OPCODES`."""


class WebSocketEnd(NamedTuple):
    """End of a WebSocket.

    Attributes:
        by: who has ended it.
        code: close code; `ABNORMAL` without a Close frame.
        reason: text of the Close frame, untrusted; or the server's reason.
    """

    by: str
    code: int
    reason: str


class DirectionStats(NamedTuple):
    """Counts of one direction.

    Attributes:
        bytes: all bytes, with the headers of frames.
        frames: number of frames by `OPCODES`.
        messages: messages that have begun.
        compressed: frames with the bit that permessage-deflate sets (RSV1).
        largest_frame: payload of the largest frame, in bytes.
        largest_message: payload of the largest message or invalid control frame, as sent.
        sizes: number of frames in each of the `SIZES` classes.
    """

    bytes: int
    frames: dict[str, int]
    messages: int
    compressed: int
    largest_frame: int
    largest_message: int
    sizes: tuple[int, ...]


class WebSocketStats(NamedTuple):
    """Counts of a WebSocket at one moment.

    Attributes:
        since: time of the handshake, by the meter's clock.
        seconds: time since then.
        client, backend: counts of what either has sent.
        client_round_trip, backend_round_trip: seconds from the last Ping to the Pong of the client
            or the backend, as seen at the server; 0 if there was none.
        subprotocol, extensions: as the backend has chosen them.
        end: None while it is open.
    """

    since: float
    seconds: float
    client: DirectionStats
    backend: DirectionStats
    client_round_trip: float
    backend_round_trip: float
    subprotocol: str
    extensions: str
    end: WebSocketEnd | None


class FramePlace(NamedTuple):
    """Place between two bytes of one direction.

    Attributes:
        partial: the bytes before it that belong to an incomplete header or control frame.
        left: following bytes of the current frame, where its header is complete.
        plain: no frame before it was compressed.
    """

    partial: bytes = b""
    left: int = 0
    plain: bool = True


class ControlFrames:
    """Record of the control frames of both directions.

    Attributes:
        end: the first Close frame, or the end that came before it.
        client_round_trip, backend_round_trip: see `WebSocketStats`.
    """

    __slots__ = (
        "_backend_ping",
        "_backend_ping_at",
        "_client_ping",
        "_client_ping_at",
        "_clock",
        "backend_round_trip",
        "client_round_trip",
        "end",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._client_ping: bytes | None = None
        self._client_ping_at = 0.0
        self._backend_ping: bytes | None = None
        self._backend_ping_at = 0.0
        self.client_round_trip = 0.0
        self.backend_round_trip = 0.0
        self.end: WebSocketEnd | None = None

    def receive(self, kind: int, payload: bytes, *, from_client: bool) -> None:
        """Note a control frame; `kind` is a place in `OPCODES`."""
        if kind == _PING:
            self.ping(payload, from_client=from_client)
        elif kind == _PONG:
            self._pong(payload, from_client=from_client)
        elif kind == _CLOSE and self.end is None:
            code = int.from_bytes(payload[:2], "big") if payload else NO_STATUS
            reason = payload[2:].decode("utf-8", "replace")
            self.end = WebSocketEnd(CLIENT if from_client else BACKEND, code, reason)

    def ping(self, payload: bytes, *, from_client: bool) -> None:
        """Note a Ping. Only the last one counts, because only that must be answered (s5.5.3)."""
        if from_client:
            self._client_ping, self._client_ping_at = payload, self._clock()
        else:
            self._backend_ping, self._backend_ping_at = payload, self._clock()

    def _pong(self, payload: bytes, *, from_client: bool) -> None:
        if from_client and payload == self._backend_ping:
            self._backend_ping = None
            self.client_round_trip = self._clock() - self._backend_ping_at
        elif not from_client and payload == self._client_ping:
            self._client_ping = None
            self.backend_round_trip = self._clock() - self._client_ping_at


class FrameMeter:
    """Counts the frames of one direction of a WebSocket, and tracks where they end.

    Counts depend only on the bytes so far, not on how they are cut.

    Attributes:
        from_client: the direction.
        bytes: all bytes.
        messages: messages and control frames that have begun.
        sound: all frames so far were valid.
        closed: a Close frame has passed; no frame may follow it.
        has_data: a data frame has begun since this was last reset.
    """

    __slots__ = (
        "_compressed",
        "_control",
        "_counts",
        "_in_message",
        "_largest_fragmented",
        "_largest_frame",
        "_largest_whole",
        "_left",
        "_message",
        "_partial",
        "bytes",
        "closed",
        "from_client",
        "has_data",
        "messages",
        "sound",
    )

    def __init__(self, control: ControlFrames, *, from_client: bool) -> None:
        self._control = control
        self.from_client = from_client
        self._partial = b""
        self._left = 0
        self._counts = [0] * (_FIRST_SIZE + SIZES)
        self._compressed = 0
        self._largest_whole = 0
        self._largest_frame = 0
        self._largest_fragmented = 0
        self._message = 0
        self._in_message = False
        self.bytes = 0
        self.messages = 0
        self.sound = True
        self.closed = False
        self.has_data = False

    @property
    def between(self) -> bool:
        """The last byte ended a frame, or there was no byte yet."""
        return not self._left and not self._partial

    @property
    def place(self) -> FramePlace:
        """The place behind the last byte."""
        return FramePlace(self._partial, self._left, not self._compressed)

    @property
    def largest_message(self) -> int:
        """Payload of the largest message so far, of its frames that have begun."""
        return max(self._largest_whole, self._largest_fragmented)

    def until_end(self, data: bytes) -> int:
        """Return the number of following bytes of the current frame; at least all of `data` if
        unknown."""
        if not self._partial:
            return self._left
        whole = self._partial + data
        size = header_size(whole, 0, len(whole))
        return (size + payload_size(whole, 0) if size else len(whole)) - len(self._partial)

    def feed(self, data: bytes) -> None:  # noqa: C901 - a call less for each frame
        """Count these bytes."""
        at = 0
        end = len(data)
        self.bytes += end
        if self._partial:
            data = self._partial + data
            end = len(data)
            self._partial = b""
        elif self._left:
            if self._left >= end:
                self._left -= end
                return
            at = self._left
            self._left = 0
        while at < end:
            # `header_size` and `payload_size`, without the calls: this runs for each frame.
            if end - at < 2:
                self._partial = data[at:]
                return
            first = data[at]
            second = data[at + 1]
            length = second & 0x7F
            size = (4 if second & _MASKED else 0) + (
                2 if length < 126 else 4 if length == 126 else 10
            )
            if end - at < size:
                self._partial = data[at:]
                return
            if length >= 126:
                length = int.from_bytes(data[at + 2 : at + (4 if length == 126 else 10)], "big")
            if first in (_TEXT, _BINARY) and not self._in_message:
                self.has_data = True
                self.messages += 1
                self._counts[first & 0x0F] += 1
                if length > self._largest_whole:  # noqa: PLR1730 - `max` is a call
                    self._largest_whole = length
            elif not first & _CONTROL:
                self._count_data(first, length)
            elif length <= MAX_CONTROL_BYTES and end - at < size + length:
                self._partial = data[at:]
                return
            else:
                self._count_control(first, length, data[at : at + size + length], size)
            place = (length.bit_length() + 1) >> 1
            self._counts[_FIRST_SIZE + place if place < SIZES else _LAST_SIZE] += 1
            at += size + length
        self._left = at - end

    def _count_data(self, first: int, length: int) -> None:
        """Count a frame that is compressed, no whole message, or invalid."""
        self.has_data = True
        opcode = first & 0x0F
        if opcode or not self._in_message:
            self.messages += 1
            self._message = 0
        if opcode > 2 or first & _UNKNOWN_BITS or bool(opcode) is self._in_message:
            self.sound = False
        self._counts[opcode if opcode <= 2 else _RESERVED] += 1
        self._message += length
        self._largest_fragmented = max(self._largest_fragmented, self._message)
        self._largest_frame = max(self._largest_frame, length)
        self._in_message = not first & _FIN
        if first & _COMPRESSED:
            self._compressed += 1

    def _count_control(self, first: int, length: int, frame: bytes, size: int) -> None:
        self.messages += 1
        kind = min((first & 0x0F) - 5, _RESERVED)
        self._counts[kind] += 1
        self._largest_frame = max(self._largest_frame, length)
        if kind == _CLOSE:
            self.closed = True
        if kind == _RESERVED or length > MAX_CONTROL_BYTES or first & 0xF0 != _FIN:
            self.sound = False
        if length > MAX_CONTROL_BYTES:
            # No valid control frame (s5.5), so limits on messages hold for it.
            self._largest_fragmented = max(self._largest_fragmented, length)
        else:
            payload = frame[size:]
            if frame[1] & _MASKED:
                payload = unmasked(payload, frame[size - 4 : size])
            self._control.receive(kind, payload, from_client=self.from_client)

    def continue_from(self, other: "FrameMeter") -> None:
        """Take over counts and place of another meter, which is used no more."""
        self._partial, self._left, self._in_message = other._partial, other._left, other._in_message
        self._counts, self._compressed, self.bytes = other._counts, other._compressed, other.bytes
        self._largest_whole, self._largest_frame = other._largest_whole, other._largest_frame
        self._largest_fragmented, self._message = other._largest_fragmented, other._message
        self.messages, self.sound = other.messages, other.sound
        self.closed, self.has_data = other.closed, other.has_data

    def stats(self) -> DirectionStats:
        """Return the counts so far."""
        counts = self._counts
        frames = dict(zip(OPCODES, counts, strict=False))
        control = sum(counts[_CLOSE : _PONG + 1])
        return DirectionStats(
            self.bytes,
            frames,
            self.messages - control,
            self._compressed,
            max(self._largest_whole, self._largest_frame),
            self.largest_message,
            tuple(counts[_FIRST_SIZE:]),
        )


class FrameObserver(Protocol):
    """Gets the bytes of a WebSocket."""

    def passed(self, meter: FrameMeter, data: bytes) -> None:
        """Note bytes that the meter has counted. They are about to be sent on, so this must cost
        little and raise nothing."""


class ObservedMeter(FrameMeter):
    """Meter of one direction that gives the bytes to an observer, too."""

    __slots__ = ("_observer",)

    def __init__(
        self, control: ControlFrames, observer: FrameObserver, *, from_client: bool
    ) -> None:
        super().__init__(control, from_client=from_client)
        self._observer = observer

    def feed(self, data: bytes) -> None:
        super().feed(data)
        self._observer.passed(self, data)


class WebSocketMeter:
    """Meter of one WebSocket, from its handshake to its end.

    Args:
        clock: monotonic seconds.

    Attributes:
        client, backend: counts of what either sends.
        subprotocol, extensions: as the backend has chosen them.
    """

    __slots__ = ("_clock", "_since", "backend", "client", "control", "extensions", "subprotocol")

    def __init__(
        self, clock: Callable[[], float], *, subprotocol: str = "", extensions: str = ""
    ) -> None:
        self._clock = clock
        self._since = clock()
        self.control = ControlFrames(clock)
        self.client = FrameMeter(self.control, from_client=True)
        self.backend = FrameMeter(self.control, from_client=False)
        self.subprotocol = subprotocol
        self.extensions = extensions

    def observe(self, observer: FrameObserver | None) -> None:
        """Give the bytes of both directions to an observer from now on; None for no observer.

        The meters are replaced, so those that nobody observes cost what they always did.
        """
        for meter in (self.client, self.backend):
            fresh = (
                FrameMeter(self.control, from_client=meter.from_client)
                if observer is None
                else ObservedMeter(self.control, observer, from_client=meter.from_client)
            )
            fresh.continue_from(meter)
            if meter.from_client:
                self.client = fresh
            else:
                self.backend = fresh

    @property
    def end(self) -> WebSocketEnd | None:
        """The first cause of the end; None while there is none."""
        return self.control.end

    def note_end(self, by: str, code: int = ABNORMAL, reason: str = "") -> WebSocketEnd:
        """Record the end, unless an earlier one is known; return the first."""
        if self.control.end is None:
            self.control.end = WebSocketEnd(by, code, reason)
        return self.control.end

    def stats(self) -> WebSocketStats:
        """Return the counts so far."""
        return WebSocketStats(
            self._since,
            self._clock() - self._since,
            self.client.stats(),
            self.backend.stats(),
            self.control.client_round_trip,
            self.control.backend_round_trip,
            self.subprotocol,
            self.extensions,
            self.end,
        )


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Return the payload of a client's frame without its mask (s5.3)."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def code_label(code: int) -> str:
    """Return the label of a close code in metrics. Peers choose codes, so most share a label."""
    if 1000 <= code <= 1015:
        return str(code)
    return f"{code // 1000}xxx" if 3000 <= code <= 4999 else "other"
