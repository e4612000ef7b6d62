"""Output of one session: the frames that wait to be sent, and the limits on them.

Most frames leave directly, in the order in which they were added. DATA does so too as long as
nothing holds it back; otherwise it waits in its stream's queue until there is credit and a turn
(`scheduler`), so small messages overtake bulk while the link is congested.
"""

from collections.abc import Callable, Iterable
from typing import Final, final

from zerotrust.tunnel.codes import COUNTED, FrameType
from zerotrust.tunnel.frames import FrameReader, encode, encode_header, read_header
from zerotrust.tunnel.handshake import SessionOptions
from zerotrust.tunnel.resume import Resumption
from zerotrust.tunnel.scheduler import Scheduler
from zerotrust.tunnel.stream import QUANTUM, Chunk, Stream

HIGH_WATER: Final = 128 * 1024
"""Queued bytes of a stream above which it is blocked, until they have come down to LOW_WATER."""
LOW_WATER: Final = 32 * 1024
DIRECT_BYTES: Final = 64 * 1024
"""DATA that leaves directly in one write; more of it waits for its stream's turn."""
ACK_ALONG: Final = 16
"""Frames after which an acknowledgement is added to a write that happens anyway."""
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Answers that a peer may cause without reading them: twice the size of refusing 16384 streams."""
FRAME_OVERHEAD: Final = 64
"""Memory in bytes that a frame takes besides its payload."""

_DATA: Final = int(FrameType.DATA)
_OPEN: Final = int(FrameType.OPEN)


_NO_STREAMS: Final[list[Stream]] = []


def _wake_nothing() -> None:
    """Stand in for `wake` once the session has ended."""


@final
class Outbox:
    """Frames of one session that wait to be sent.

    Args:
        wake: called when there is something to send, once until the next `take`.

    Attributes:
        resumption: keeps what was sent until the peer acknowledges it; None if the session ends
            with its link.
        queued: bytes of bodies that wait in the streams' queues.
        unwritten: memory of the other frames that wait, in bytes.
        has_room: the peer has acknowledged enough to be sent more bodies.
        stalls: number of times that `has_room` became False.
        little_credit: credit below which a stream counts as slow while other streams fill the
            queues.
        pong: payload of the PONG to send; a newer one replaces it (section 8).
        ack_due: an acknowledgement is to be sent.
    """

    __slots__ = (
        "_answered",
        "_awake",
        "_closed",
        "_congested_bytes",
        "_counted",
        "_direct",
        "_max_queued",
        "_max_unwritten",
        "_out",
        "_queue_was_full",
        "_scheduler",
        "_shared_queue",
        "_wake",
        "ack_due",
        "has_room",
        "little_credit",
        "pong",
        "queued",
        "resumption",
        "stalls",
        "unwritten",
    )

    def __init__(self, options: SessionOptions, wake: Callable[[], None]) -> None:
        self.resumption: Resumption | None = None
        self.queued = self.unwritten = self.stalls = self.little_credit = 0
        self.has_room = True
        self.pong: bytes | None = None
        self.ack_due = False
        self._wake = wake
        self._awake = self._closed = self._queue_was_full = False
        self._out: list[Chunk] = []
        self._counted = self._direct = self._answered = 0
        self._scheduler = Scheduler()
        self._shared_queue = options.shared_queue_bytes
        self._max_queued = options.max_queued_bytes
        self._congested_bytes = options.congested_bytes
        self._max_unwritten = options.max_unwritten_bytes

    @property
    def congested(self) -> bool:
        """The peer reads or acknowledges so slowly that neither end may open another stream."""
        resumption = self.resumption
        return self.unwritten > self._congested_bytes or (
            resumption is not None and resumption.hopeless
        )

    @property
    def overfull(self) -> bool:
        """The streams' queues have passed the limit of the session."""
        return self.queued > self._max_queued

    @property
    def has_output(self) -> bool:
        """`take` would return something."""
        return bool(self._out or (self._scheduler and self.has_room) or self.pong or self.ack_due)

    # ---- frames that leave directly

    def emit(self, kind: int, stream_id: int, payload: bytes, flags: int = 0) -> bool:
        """Add a frame; False if too much waits already, because the peer does not read."""
        if self._closed:
            return True
        self.unwritten += len(payload) + FRAME_OVERHEAD
        if kind >= COUNTED:
            if self.unwritten > self._max_unwritten:
                return False
            self._counted += 1
        self._out.append(encode(kind, flags, stream_id, payload))
        self.rouse()
        return True

    def count_answer(self, size: int) -> bool:
        """Count a payload that the peer has caused; False if too many of them wait."""
        self._answered += size + FRAME_OVERHEAD
        return self._answered <= MAX_ANSWER_BYTES

    def send_now(self, stream: Stream, data: bytes, end: bool) -> bool:
        """Add DATA; False if it has to wait for credit, a turn or an acknowledgement."""
        size = len(data)
        if (
            stream.queued
            or size > stream.credit
            or size > QUANTUM
            or self._scheduler
            or self._direct >= DIRECT_BYTES
            or not self.has_room
        ):
            return False
        stream.credit -= size
        self._direct += size + FRAME_OVERHEAD
        self._counted += 1
        self._out.append(encode_header(_DATA, 1 if end else 0, size, stream.id))
        if size:
            self._out.append(data)
        if not self._awake:
            self._awake = True
            self._wake()
        return True

    # ---- bodies that wait in the streams' queues

    def enqueue(self, stream: Stream, data: bytes, end: bool) -> None:
        """Add DATA to the stream's queue."""
        if data:
            stream.enqueue(data)
            self.queued += len(data)
        if end:
            stream.tail = (_DATA, b"")
        self.schedule(stream)

    def schedule(self, stream: Stream) -> None:
        """Give the stream a turn if it has something to send and may send it."""
        if stream.ready:
            self._scheduler.add(stream)
            self.rouse()

    def discard(self, stream: Stream) -> None:
        """Drop what waits in the stream's queue."""
        self.queued -= stream.queued
        stream.queue = None
        stream.queued = 0
        stream.tail = None
        stream.blocked = False

    def takes_more(self, stream: Stream) -> bool:
        """Return whether the stream may queue more; if not, `writable` follows."""
        if self.queued > self._shared_queue:
            # Other streams fill the queues, perhaps for clients that read nothing. What leaves soon
            # still passes.
            self._queue_was_full = True
            full = stream.queued > 0 or stream.credit < self.little_credit
        else:
            full = stream.queued > HIGH_WATER
        stream.blocked = stream.blocked or full
        return not stream.blocked

    def unblock(self, stream: Stream) -> None:
        """Call `writable` of a blocked stream if it may queue more by now."""
        if self.queued > self._shared_queue:
            if stream.queued or stream.credit < self.little_credit:
                return
        elif stream.queued > LOW_WATER:
            return
        stream.blocked = False
        if stream.sink is not None:
            stream.sink.writable()

    def unblock_all(self, streams: Iterable[Stream]) -> None:
        """Unblock the streams that waited because others had filled the queues."""
        if self._queue_was_full and self.queued <= self._shared_queue:
            self._queue_was_full = False
            for stream in list(streams):
                if stream.blocked:
                    self.unblock(stream)

    # ---- what the peer acknowledges

    def acknowledge(self, count: int) -> None:
        """The peer has received the first `count` frames.

        Raises:
            RemoteProtocolError: fewer frames were sent.
        """
        resumption = self.resumption
        assert resumption is not None
        resumption.acknowledge(count)
        if not self.has_room and resumption.left > 0:
            self.has_room = True
            self.rouse()

    # ---- the link

    def rouse(self) -> None:
        """Tell the owner that there is something to send."""
        if not self._awake:
            self._awake = True
            self._wake()

    def start(self) -> None:
        """Begin to send on a new link; an earlier `wake` had no link to send on."""
        assert self.resumption is not None
        self.has_room = self.resumption.left > 0
        self.pong = None
        self.ack_due = False
        self._awake = True
        self._wake()

    def close(self) -> None:
        """Add no more frames; the last one was CLOSE, if the session could still send it."""
        self._closed = True

    def part(self) -> None:
        """Forget the owner, so that the two are freed without the garbage collector."""
        self._wake = _wake_nothing

    def keep_last(self) -> None:
        """Drop all direct frames except the last."""
        del self._out[:-1]

    def take_back_opens(self) -> frozenset[int]:
        """Drop the direct frames of streams whose OPEN has not left, and return these streams."""
        frames = FrameReader().feed(b"".join(self._out))
        unsent = frozenset(frame[2] for frame in frames if frame[0] == _OPEN)
        self._out = [encode(*frame) for frame in frames if frame[2] not in unsent]
        return unsent

    def take(self, budget: int) -> tuple[bytes, list[Stream]]:
        """Return the bytes to send now, and the streams whose queues gave some of them.

        These are the direct frames, then about `budget` bytes from the queues.
        """
        self._awake = False
        counted, direct = self._counted, self._direct
        if self.unwritten <= budget or self._closed:
            out, self._out = self._out, []
            self._counted = self._direct = self._answered = self.unwritten = 0
        else:
            out, counted = self._take_frames(budget)
            direct = budget
        if self.pong is not None:
            out.insert(0, encode(FrameType.PONG, 0, 0, self.pong))
            self.pong = None
        served = _NO_STREAMS
        resumption = self.resumption
        if self._scheduler and budget > direct and self.has_room:
            allowed = (
                budget - direct if resumption is None else min(budget - direct, resumption.left)
            )
            served, taken = self._scheduler.fill(out, allowed)
            self.queued -= taken
            counted += len(served)
        if (
            resumption is not None
            and (self.ack_due or resumption.untold >= ACK_ALONG)
            and not self._closed
        ):
            self.ack_due = False
            out.append(resumption.acknowledgement())
        # One write is one TLS record for small frames: joining costs less than a record each.
        written = b"".join(out)
        if counted and resumption is not None:
            resumption.record(written, counted)
            if self.has_room and resumption.left <= 0:
                self.has_room = False
                self.stalls += 1
        return written, served

    def _take_frames(self, budget: int) -> tuple[list[Chunk], int]:
        """Remove direct frames of about `budget` bytes; return them and how many of them are
        counted."""
        out = self._out
        at = size = counted = 0
        while at < len(out) and (size < budget or not at):
            kind, _, length, _ = read_header(bytes(out[at]), 0)
            weight = length + FRAME_OVERHEAD
            size += weight
            if kind >= COUNTED:
                counted += 1
            if kind == _DATA:
                self._direct -= weight
                at += 2 if length else 1  # header and payload
            else:
                self.unwritten -= weight
                at += 1
        self._out = out[at:]
        self._counted -= counted
        return out[:at], counted
