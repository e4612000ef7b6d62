"""One stream: the state of its directions and the queue of bytes that wait for credit (section 5).

The state of each direction moves by `TRANSITIONS`, which is the table of the specification;
anything else is an error. A stream does not know its session: it neither sends nor receives.
"""

from collections import deque
from enum import IntEnum
from typing import Final, Protocol

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import END, INTERIM, Code, FrameType
from zerotrust.tunnel.window import ReceiveWindow

MAX_INTERIM_HEADS: Final = 32
QUANTUM: Final = 32 * 1024
"""Bytes that a stream sends in its turn, and the largest DATA frame that this end sends."""

JOINED: Final = 1024
"""Pieces that are shorter together are joined: each costs some fifty bytes of its own."""

Chunk = bytes | memoryview
"""Bytes to send. A memoryview is always one of bytes: the transport keeps it without a copy."""


class StreamState(IntEnum):
    """Frame that one direction of a stream waits for."""

    HEAD = 0
    BODY = 1
    DONE = 2


_DONE: Final = StreamState.DONE
_HEAD, _DATA, _TRAILERS = int(FrameType.HEAD), int(FrameType.DATA), int(FrameType.TRAILERS)

TRANSITIONS: Final[dict[tuple[StreamState, int, int], StreamState]] = {
    (StreamState.HEAD, _HEAD, INTERIM): StreamState.HEAD,
    (StreamState.HEAD, _HEAD, 0): StreamState.BODY,
    (StreamState.HEAD, _HEAD, END): StreamState.DONE,
    (StreamState.BODY, _DATA, 0): StreamState.BODY,
    (StreamState.BODY, _DATA, END): StreamState.DONE,
    (StreamState.BODY, _TRAILERS, END): StreamState.DONE,
}
"""Next state, by state, frame type and flags."""


class StreamSink(Protocol):
    """Owner of one stream; the session calls it with what the peer sends.

    Events are plain calls, one for each frame: the data path affords no more. A sink may call back
    into the session from within an event. It must not raise; if it raises while a frame arrives,
    the session resets the frame's stream.
    """

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        """The peer sent the head of an answer (HEAD)."""

    def data(self, payload: bytes, *, end: bool) -> None:
        """The peer sent bytes of a body; `Session.consumed` is due once they are handed on."""

    def trailers(self, payload: bytes) -> None:
        """The peer sent trailer fields, which end its direction."""

    def reset(self, code: Code, reason: str) -> None:
        """The stream has ended: a RESET, a broken rule, or the end of the session. Last event.

        NOT_ALLOWED means that the peer has lost its permission: the sink drops what it has not
        handed on.
        """

    def writable(self) -> None:
        """The queue of a stream for which `Session.send_data` returned False has drained."""


class Stream:
    """One request. The session and the scheduler change its fields."""

    __slots__ = (
        "blocked",
        "credit",
        "deficit",
        "id",
        "interim_heads",
        "leaving",
        "queue",
        "queued",
        "receiving",
        "round",
        "scheduled",
        "sending",
        "sink",
        "tail",
        "window",
    )

    def __init__(
        self, stream_id: int, *, opener: bool, ended: bool, credit: int, window: ReceiveWindow
    ) -> None:
        request = StreamState.DONE if ended else StreamState.BODY
        self.id = stream_id
        self.sending = request if opener else StreamState.HEAD
        self.receiving = StreamState.HEAD if opener else request
        self.credit = credit
        self.window = window
        self.sink: StreamSink | None = None
        self.queue: deque[Chunk] | None = None
        self.queued = 0
        self.tail: tuple[int, bytes] | None = None
        self.deficit = QUANTUM
        self.round = 0
        self.scheduled = False
        self.blocked = False
        self.interim_heads = 0
        self.leaving: str | None = None

    @property
    def sent(self) -> bool:
        """The sending direction has ended, and its queue is empty."""
        return self.sending is _DONE and self.tail is None and not self.queued

    @property
    def done(self) -> bool:
        """Both directions have ended, and the queue is empty."""
        return self.receiving is _DONE and self.sent

    @property
    def ready(self) -> bool:
        """The stream has something to send, and may send it."""
        return (self.credit > 0 and self.queued > 0) or (self.tail is not None and not self.queued)

    def receive(self, kind: int, flags: int) -> None:
        """Move the receiving direction to its next state.

        Raises:
            RemoteProtocolError: the frame is not allowed in this state.
        """
        state = TRANSITIONS.get((self.receiving, kind, flags & (END | INTERIM)))
        if state is None:
            raise RemoteProtocolError(
                f"stream {self.id}: {FrameType(kind).name} with flags {flags} in state"
                f" {self.receiving.name}"
            )
        self.receiving = state

    def count_interim(self) -> None:
        """Count an interim head.

        Raises:
            RemoteProtocolError: there were too many.
        """
        self.interim_heads += 1
        if self.interim_heads > MAX_INTERIM_HEADS:
            raise RemoteProtocolError(
                f"stream {self.id}: more than {MAX_INTERIM_HEADS} interim heads"
            )

    def enqueue(self, data: bytes) -> None:
        """Add bytes to the queue."""
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        if queue and len(queue[-1]) + len(data) <= JOINED:
            queue[-1] = b"".join((queue[-1], data))
        else:
            queue.append(memoryview(data) if len(data) > QUANTUM else data)
        self.queued += len(data)

    def take(self) -> Chunk:
        """Remove at most a quantum from the queue, and use its credit; small pieces are joined."""
        limit = min(QUANTUM, self.credit)
        queue = self.queue
        assert queue is not None
        piece = queue.popleft()
        size = len(piece)
        if size > limit:
            rest = piece[limit:]
            if limit == self.credit and isinstance(rest, memoryview):
                # It may wait long for credit, and must not keep all that was read with it.
                rest = memoryview(bytes(rest))
            queue.appendleft(rest)
            piece = piece[:limit]
            size = limit
        elif queue and size + len(queue[0]) <= limit:
            pieces = [piece]
            while queue and size + len(queue[0]) <= limit:
                pieces.append(queue.popleft())
                size += len(pieces[-1])
            piece = b"".join(pieces)
        self.queued -= size
        self.credit -= size
        return piece
