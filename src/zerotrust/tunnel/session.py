"""The session: one class for both ends, sans-I/O (docs/spec/tunnel-v1.md).

The owner feeds `receive_data` and `tick`, and sends what `data_to_send` returns whenever `wake` was called and the
connection takes more. What is sent while the connection is congested waits in the streams' queues, where small
messages overtake bulk (`schedule`); only heads, credit, resets and control frames go straight out.

Memory is bounded, whatever the peer and the clients do. Each of these has a limit for the whole session:

    bytes                                  limit                          at the limit
    bodies that wait to be sent            handshake.SHARED_QUEUE_BYTES   streams queue only what leaves soon
                                           handshake.MAX_QUEUED_BYTES     the streams that hold most are reset
    other frames that wait to be sent      handshake.CONGESTED_BYTES      neither end opens a stream
                                           handshake.MAX_UNWRITTEN_BYTES  the session is closed
    answers that the peer makes us send    MAX_ANSWER_BYTES               the session is closed
    received and not yet handed on         window.MAX_HELD_BYTES          the stream that passes it is reset
    sent and not acknowledged              resume.REPLAY_BYTES            no DATA is sent; at 4 times that neither
                                                                          end opens a stream, and `tick` closes the
                                                                          session

A session outlives its link where both ends offer that (section 7): it is then *detached*, its streams stay as they are,
and whoever has another connection for it calls `redial` (dialer) or `reattach` (acceptor).
"""

import math
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from hmac import compare_digest
from typing import Final, Protocol, cast

from zerotrust.errors import LocalProtocolError, RemoteProtocolError
from zerotrust.tunnel.binary import MAX_OPEN_PAYLOAD_BYTES, pack_reason, unpack_reason
from zerotrust.tunnel.codes import COUNTED, END, INTERIM, RENEWAL, RESUME, Code, FrameType
from zerotrust.tunnel.frames import HEADER, MAX_PAYLOAD, MAX_STREAM_ID, Frame, FrameReader, encode
from zerotrust.tunnel.handshake import SessionOptions, common, hello, read_hello, read_welcome, welcome
from zerotrust.tunnel.keepalive import DEAD_AFTER, HANDSHAKE_TIMEOUT, Keepalive
from zerotrust.tunnel.messages import (
    AGENT_MESSAGES,
    SERVER_MESSAGES,
    ControlMessage,
    Hello,
    Ready,
    Resume,
    Welcome,
    decode,
)
from zerotrust.tunnel.resume import Resumption, read_count
from zerotrust.tunnel.scheduler import Scheduler
from zerotrust.tunnel.stream import QUANTUM, Chunk, Stream, StreamSink, StreamState
from zerotrust.tunnel.window import MAX_CREDIT, MAX_GROWTH_BYTES, GrowthBudget, ReceiveWindow

__all__ = ["HIGH_WATER", "LOW_WATER", "Phase", "Session", "SessionOptions"]

HIGH_WATER: Final = 128 * 1024
"""Queued bytes of a stream with which `send_data` returns False; `writable` follows at LOW_WATER."""
LOW_WATER: Final = 32 * 1024
DIRECT_BYTES: Final = 64 * 1024
ACK_ALONG: Final = 16
"""Frames of which an acknowledgement goes along with what is sent anyway."""
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""What a peer that does not read can make us answer: twice what refusing 16384 streams takes."""
_FRAME_OVERHEAD: Final = 64
"""Memory that a frame takes besides its payload."""

_DATA: Final = int(FrameType.DATA)
_WINDOW: Final = int(FrameType.WINDOW)
_OPEN: Final = int(FrameType.OPEN)
_HEAD: Final = int(FrameType.HEAD)
_TRAILERS: Final = int(FrameType.TRAILERS)
_RESET: Final = int(FrameType.RESET)
_BODY, _DONE = StreamState.BODY, StreamState.DONE


def _nobody() -> None:
    """To be woken when a session is over."""


class Phase(IntEnum):
    """Where a session is in its life."""

    HANDSHAKE = 0
    OPEN = 1
    CLOSED = 2


_PHASE_OPEN = Phase.OPEN


class SessionSink(Protocol):
    """Owner of a session. The rules of `StreamSink` hold here, too."""

    def established(self, peer: Hello | Welcome) -> None:
        """The handshake is complete."""

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        """The peer opened a stream. Return its sink, or None if the stream was already reset here."""

    def message(self, message: ControlMessage) -> None:
        """The peer sent a control message. The session passes on only those that this end may get."""

    def going_away(self, code: Code, reason: str) -> None:
        """The peer accepts no new streams."""

    def resume(self, wanted: Resume) -> None:
        """A dialer wants to resume an older session over this connection (acceptors only).

        The owner of the older session takes this connection over, or closes this session.
        """

    def detached(self, reason: str) -> None:
        """The connection has ended, and the session waits for another one."""

    def reattached(self) -> None:
        """The session continues over another connection."""

    def closed(self, code: Code, reason: str) -> None:
        """The session has ended and all its streams were reset. The link closes after the last output."""


class Session:
    """Frames in, events out. Owned by one link; `sink` is the component that the session serves.

    Args:
        dialer: this end opened the connection (the agent).
        session_id: 32 hexadecimal digits, from the acceptor; the dialer passes an empty string.
        secret: 64 hexadecimal digits, likewise; whoever shows it later may have the session back.
        wake: called when there is something to send, once until the next `data_to_send`.

    Attributes:
        attached: there is a link, and the other end has agreed that the session goes on over it.
        unsent: when it has ended, the streams of our own of which nothing has left: their requests are nowhere else.
        held: bytes that arrived and have not been handed on; `queued`: bytes of bodies that wait to be sent.
        unwritten: memory of the other frames that wait to be sent.
        stalls: how often no more bodies were sent because the other end had not acknowledged what it was sent.
    """

    def __init__(
        self,
        *,
        dialer: bool,
        sink: SessionSink,
        wake: Callable[[], None],
        now: float,
        options: SessionOptions | None = None,
        session_id: str = "",
        secret: str = "",
    ) -> None:
        self.id = session_id
        self.secret = secret
        self.phase = Phase.HANDSHAKE
        self.attached = True
        self.keepalive = Keepalive(now)
        self.streams: dict[int, Stream] = {}
        self.going_away = False
        self.capabilities: frozenset[str] = frozenset()
        self.unsent: frozenset[int] = frozenset()
        self.held = self.queued = self.unwritten = self.stalls = 0
        self._options = options or SessionOptions()
        self._dialer = dialer
        self._sink = sink
        self._wake = wake
        self._awake = False
        self._reader = FrameReader()
        self._out: list[Chunk] = []
        self._counted = 0
        self._first = b""
        self._resumption: Resumption | None = None
        self._resume_timeout = 0.0
        self._expires_at = math.inf
        self._attempt = 0
        self._room = True
        self._ack_due = False
        self._direct = self._answered = 0
        self._shared_queue = self._options.shared_queue_bytes
        self._max_queued = self._options.max_queued_bytes
        self._max_unwritten = self._options.max_unwritten_bytes
        self._little_credit = 0
        self._queue_was_full = False
        self._pong: bytes | None = None
        self._schedule = Scheduler()
        self._growth = GrowthBudget(MAX_GROWTH_BYTES)
        self._next_id = 1 if dialer else 2
        self._last_peer_id = self._own_streams = 0
        self._peer_window = self._peer_max_streams = 0
        self._handshake_by = now + HANDSHAKE_TIMEOUT
        if dialer:
            self._emit(FrameType.HELLO, 0, hello(self._options))

    # ---- what the owner asks for

    @property
    def kept(self) -> int:
        """Bytes that were sent and are kept until the other end has acknowledged them."""
        return self._resumption.held if self._resumption is not None else 0

    @property
    def stalled(self) -> bool:
        """No more bodies are sent until the other end acknowledges what it was sent."""
        return not self._room

    @property
    def congested(self) -> bool:
        """The peer reads or acknowledges so slowly that neither end may open another stream."""
        resumption = self._resumption
        return self.unwritten > self._options.congested_bytes or (resumption is not None and resumption.hopeless)

    @property
    def can_open(self) -> bool:
        """A stream may be opened now."""
        return (
            self.phase is Phase.OPEN
            and self.attached
            and not self.going_away
            and self._own_streams < self._peer_max_streams
            and self._next_id <= MAX_STREAM_ID
            and not self.congested
        )

    def open_stream(self, payload: bytes, sink: StreamSink, *, end: bool, now: float) -> Stream:
        """Send a request's head (`messages.pack_open`).

        Raises:
            LocalProtocolError: `can_open` is False, or the head is too large.
        """
        if not self.can_open:
            raise LocalProtocolError("no stream can be opened now")
        if len(payload) > MAX_OPEN_PAYLOAD_BYTES:
            raise LocalProtocolError(f"a head of {len(payload)} bytes, at most {MAX_OPEN_PAYLOAD_BYTES} allowed")
        stream = self._new_stream(self._next_id, opener=True, ended=end, now=now)
        stream.sink = sink
        self._next_id += 2
        self._own_streams += 1
        self._emit(_OPEN, stream.id, payload, END if end else 0)
        return stream

    def send_head(self, stream: Stream, payload: bytes, *, end: bool = False, interim: bool = False) -> None:
        """Send an answer's head (`messages.pack_head`).

        Raises:
            LocalProtocolError: a final head was sent before, or the head is too large.
        """
        if stream.sending is not StreamState.HEAD:
            if self.phase is Phase.CLOSED:
                return
            raise LocalProtocolError(f"stream {stream.id}: a second head")
        if len(payload) > MAX_OPEN_PAYLOAD_BYTES:
            raise LocalProtocolError(f"a head of {len(payload)} bytes, at most {MAX_OPEN_PAYLOAD_BYTES} allowed")
        if not interim:
            stream.sending = _DONE if end else _BODY
        self._emit(_HEAD, stream.id, payload, (END if end else 0) | (INTERIM if interim else 0))
        if end:
            self._settle(stream)

    def send_data(self, stream: Stream, data: bytes, *, end: bool = False) -> bool:
        """Send bytes of a body, or queue them.

        Returns:
            False where the queue is full enough: send no more until the sink's `writable`.

        Raises:
            LocalProtocolError: the direction is not open.
        """
        if stream.sending is not _BODY:
            if self.phase is Phase.CLOSED:
                return True
            raise LocalProtocolError(f"stream {stream.id}: data in state {stream.sending.name}")
        size = len(data)
        if (
            not stream.queued
            and size <= stream.credit
            and size <= QUANTUM
            and not self._schedule
            and self._direct < DIRECT_BYTES
            and self._room
        ):
            stream.credit -= size
            self._direct += size + _FRAME_OVERHEAD
            self._counted += 1
            self._out.append(HEADER.pack(_DATA, 1 if end else 0, size, stream.id))
            if size:
                self._out.append(data)
            if not self._awake:
                self._awake = True
                self._wake()
            if end:
                stream.sending = _DONE
                self._settle(stream)
                return True
            return self.queued <= self._shared_queue or self._takes_more(stream)
        if size:
            stream.enqueue(data)
            self.queued += size
        if end:
            stream.sending = _DONE
            stream.tail = (_DATA, b"")
        self._plan(stream)
        if self.queued > self._max_queued:
            self._shed(stream)
        return self._takes_more(stream)

    def send_trailers(self, stream: Stream, payload: bytes) -> None:
        """End the direction with trailer fields.

        Raises:
            LocalProtocolError: the direction is not open, or the fields are too large.
        """
        if stream.sending is not _BODY:
            if self.phase is Phase.CLOSED:
                return
            raise LocalProtocolError(f"stream {stream.id}: trailers in state {stream.sending.name}")
        if len(payload) > MAX_PAYLOAD:
            raise LocalProtocolError(f"trailers of {len(payload)} bytes, at most {MAX_PAYLOAD} allowed")
        stream.sending = _DONE
        stream.tail = (_TRAILERS, payload)
        self._plan(stream)

    def consumed(self, stream: Stream, count: int, now: float) -> None:
        """Bytes that `StreamSink.data` delivered have been handed on: the peer may send as many again."""
        window = stream.window
        if not window.held:
            return
        self.held -= count
        if stream.receiving is _DONE:
            window.held -= count
            return
        grant = window.consumed(count, now, self.keepalive.round_trip)
        if grant:
            self._emit(_WINDOW, stream.id, grant.to_bytes(4, "big"))

    def reset(self, stream: Stream, code: Code, reason: str = "") -> None:
        """End a stream in both directions, at once. The sink hears nothing more.

        NO_ERROR after the end of what we send says that the rest of the other direction is not wanted: it waits for
        what is queued, and what comes meanwhile is dropped.
        """
        if self.streams.get(stream.id) is not stream:
            return
        if code is Code.NO_ERROR and stream.sending is _DONE and not stream.sent:
            stream.leaving = reason
            stream.sink = None
            self.consumed(stream, stream.window.held, self.keepalive.heard_at)
            return
        self._forget(stream)
        payload = pack_reason(code, reason)
        if self._is_own(stream.id):
            self._emit(_RESET, stream.id, payload)
        else:
            self._answer(_RESET, stream.id, payload)

    def send(self, message: ControlMessage) -> None:
        """Send a control message. One that is too large for a frame ends the session."""
        payload = message.encode()
        if len(payload) > MAX_PAYLOAD:
            # The peer would wait for it in vain.
            self.close(Code.INTERNAL, f"{message.frame_type.name} of {len(payload)} bytes fits into no frame")
        elif self._dialer:
            self._emit(message.frame_type, 0, payload)
        else:
            self._answer(message.frame_type, 0, payload)

    def go_away(self, code: Code, reason: str = "") -> None:
        """Take no new streams; those that are open go on."""
        self._emit(FrameType.GOAWAY, 0, pack_reason(code, reason))

    def close(self, code: Code, reason: str = "") -> None:
        """End the session: CLOSE is the last frame, all streams are reset."""
        if self.phase is not Phase.CLOSED:
            self._emit(FrameType.CLOSE, 0, pack_reason(code, reason))
            self._end(code, reason)

    # ---- what arrives

    def receive_data(self, data: bytes, now: float) -> None:  # noqa: C901 - a call less for each frame
        """Take bytes from the link; the sinks hear what they mean. A broken rule closes the session.

        Raises:
            Exception: the first one that a sink has raised, which is a fault of ours. The frame's stream was reset; all
                other frames were handled, and the session goes on.
        """
        self.keepalive.heard(now)
        streams = self.streams
        counted = 0
        fault: Exception | None = None
        try:
            frames = self._reader.feed(data)
            if not self.attached:
                frames = self._receive_resumed(frames, now)
            for kind, flags, stream_id, payload in frames:
                if kind >= COUNTED:
                    counted += 1
                try:
                    if kind == _DATA and self.phase is _PHASE_OPEN:
                        stream = streams.get(stream_id)
                        if stream is None:
                            self._check_known(stream_id)
                        else:
                            self._receive_data(stream, flags, payload)
                    elif self.phase is not Phase.CLOSED:
                        self._receive_other(kind, flags, stream_id, payload, now)
                except RemoteProtocolError:
                    raise
                except Exception as error:  # noqa: BLE001 - raised below, when the other streams have their frames
                    fault = fault or error
                    self._reset_faulty(stream_id)
        except RemoteProtocolError as error:
            self.close(Code(error.wire), str(error))
        resumption = self._resumption
        if counted and resumption is not None and resumption.arrived(counted, len(data)):
            self._ack_due = self.phase is _PHASE_OPEN
            self._rouse()
        if fault is not None:
            raise fault

    def tick(self, now: float) -> None:
        """Look at the clock: ping, or give up. To be called at `deadline`, or more often."""
        if self.phase is Phase.CLOSED:
            return
        if not self.attached:
            if now >= self._expires_at:
                self._end(Code.SILENCE, f"no link for {self._resume_timeout:g} s")
        elif self.phase is Phase.HANDSHAKE:
            if now >= self._handshake_by:
                self.close(Code.SILENCE, f"no handshake within {HANDSHAKE_TIMEOUT:g} s")
        elif self.keepalive.dead(now):
            reason = f"nothing heard for {DEAD_AFTER:g} s"
            if self._resumption is None:
                self.close(Code.SILENCE, reason)
            else:
                self.lost(reason, now)
        else:
            self._speak(now)

    def deadline(self) -> float:
        """When `tick` has something to do."""
        if not self.attached:
            return self._expires_at
        return self._handshake_by if self.phase is Phase.HANDSHAKE else self.keepalive.deadline()

    def lost(self, reason: str, now: float) -> None:
        """The connection has ended without CLOSE: the session waits for another one, or ends."""
        if self.phase is Phase.CLOSED:
            return
        if self._resumption is None:
            self._end(Code.GOING_AWAY, reason)
            return
        self._reader = FrameReader()
        self._first = b""
        self._pong = None
        if self.attached:
            self.attached = False
            self._expires_at = now + self._resume_timeout
            self._sink.detached(reason)

    # ---- from one link to the next

    def redial(self, now: float) -> None:
        """Ask the acceptor for the session over a new connection (dialers, when detached)."""
        resumption = self._resumption
        assert resumption is not None and not self.attached
        self.keepalive = Keepalive(now)
        self._attempt += 1
        wanted = Resume(session=self.id, secret=self.secret, received=resumption.received, attempt=self._attempt)
        self._first = encode(FrameType.HELLO, 0, 0, hello(self._options, wanted))
        self._begin()

    def refusal(self, wanted: Resume) -> str | None:
        """Why a dialer may not have this session back; None where it may (acceptors)."""
        resumption = self._resumption
        if self.phase is not Phase.OPEN or resumption is None or not compare_digest(wanted.secret, self.secret):
            return "no such session"
        if wanted.attempt <= self._attempt:
            return "a later connection has asked already"
        if not resumption.acknowledged <= wanted.received <= resumption.sent:
            return f"{wanted.received} frames received, which cannot be"
        return None

    def reattach(self, wanted: Resume, now: float) -> None:
        """Go on over the connection that a dialer has asked on; to be called where there is no `refusal`."""
        resumption = self._resumption
        assert resumption is not None
        if self.attached:  # we have not noticed yet what the dialer has
            self.lost("the agent has another connection", now)
        self._attempt = wanted.attempt
        answer = welcome(self._options, self.id, self.capabilities, secret=self.secret, received=resumption.received)
        self._go_on(encode(FrameType.WELCOME, 0, 0, answer), wanted.received, now)

    def supersede(self) -> None:
        """Another session has taken this one's connection: it is over, without a word to anyone (acceptors)."""
        self.phase = Phase.CLOSED
        self._part()

    # ---- what leaves

    @property
    def has_output(self) -> bool:
        """`data_to_send` would return something."""
        if not self.attached:
            return bool(self._first)
        return bool(self._out or (self._schedule and self._room) or self._pong or self._ack_due or self._first)

    def data_to_send(self, budget: int) -> bytes:
        """What is to be sent now: all that goes straight out, then about `budget` bytes of what is queued."""
        self._awake = False
        first, self._first = self._first, b""
        if not self.attached:
            return first
        counted, direct = self._counted, self._direct
        if self.unwritten <= budget or self.phase is Phase.CLOSED:
            out, self._out = self._out, []
            self._counted = self._direct = self._answered = self.unwritten = 0
        else:
            out, counted = self._first_frames(budget)
            direct = budget
        if self._pong is not None:
            out.insert(0, encode(FrameType.PONG, 0, 0, self._pong))
            self._pong = None
        if self._schedule and budget > direct and self._room:
            allowed = budget - direct if self._resumption is None else min(budget - direct, self._resumption.left)
            served, taken = self._schedule.fill(out, allowed)
            self.queued -= taken
            counted += len(served)
            for stream in served:
                if stream.blocked:
                    self._unblock(stream)
                if stream.done:
                    self._settle(stream)
                elif stream.leaving is not None:
                    self.reset(stream, Code.NO_ERROR, stream.leaving)
        # One write is one TLS record for small frames: joining costs less than a record each.
        if self._resumption is None:
            return b"".join(out)
        kept = self._keep(self._resumption, out, counted)
        # Compiled, even an empty one is joined by a copy.
        return first + kept if first else kept

    # ---- inside

    def _speak(self, now: float) -> None:
        """Say what is due although nothing else is said."""
        resumption = self._resumption
        if resumption is not None:
            if resumption.hopeless:
                self.close(Code.OVERLOADED, "the other end acknowledges nothing")
                return
            if resumption.untold:
                self._ack_due = True
                self._rouse()
        if self._queue_was_full and self.queued <= self._shared_queue:
            self._queue_was_full = False
            for stream in list(self.streams.values()):
                if stream.blocked:
                    self._unblock(stream)
        nonce = self.keepalive.ping(now)
        if nonce is not None:
            self._emit(FrameType.PING, 0, nonce)

    def _keep(self, resumption: Resumption, out: list[Chunk], counted: int) -> bytes:
        if (self._ack_due or resumption.untold >= ACK_ALONG) and self.phase is _PHASE_OPEN:
            self._ack_due = False
            out.append(resumption.acknowledgement())
        written = b"".join(out)
        if counted:
            resumption.keep(written, counted)
            if self._room and resumption.left <= 0:
                self._room = False
                self.stalls += 1
        return written

    def _go_on(self, first: bytes, received: int, now: float) -> None:
        """The other end, which has so many frames, hears `first`, then what it lacks."""
        resumption = self._resumption
        assert resumption is not None
        resumption.acknowledge(received)
        resumption.tell()
        self._room = resumption.left > 0
        self._first = first + resumption.again()
        self.keepalive = Keepalive(now)
        self.attached = True
        self._expires_at = math.inf
        self._ack_due = False
        self._begin()
        self._sink.reattached()

    def _begin(self) -> None:
        """Speak on a new link: whoever was woken before could send nothing."""
        self._awake = True
        self._wake()

    def _emit(self, kind: int, stream_id: int, payload: bytes, flags: int = 0) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.unwritten += len(payload) + _FRAME_OVERHEAD
        if kind >= COUNTED:
            if self.unwritten > self._max_unwritten:
                self._give_up("the other end does not read")
                return
            self._counted += 1
        self._out.append(encode(kind, flags, stream_id, payload))
        self._rouse()

    def _answer(self, kind: int, stream_id: int, payload: bytes) -> None:
        """Emit what the peer has made us say."""
        self._answered += len(payload) + _FRAME_OVERHEAD
        if self._answered > MAX_ANSWER_BYTES:
            self._give_up("the other end asks and does not read the answers")
        self._emit(kind, stream_id, payload)

    def _give_up(self, reason: str) -> None:
        """Close the session of a peer that does not read. What waits for it is dropped, all but CLOSE."""
        self.close(Code.OVERLOADED, reason)
        del self._out[:-1]

    def _first_frames(self, budget: int) -> tuple[list[Chunk], int]:
        """Take whole frames of about `budget` bytes off what goes straight out; and how many of them are counted."""
        out = self._out
        at = size = counted = 0
        while at < len(out) and (size < budget or not at):
            kind, _, length, _ = HEADER.unpack_from(out[at])
            weight = length + _FRAME_OVERHEAD
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

    # ---- what is queued

    def _takes_more(self, stream: Stream) -> bool:
        """The stream may queue more; where it may not, its sink hears `writable` when it may."""
        if self.queued > self._shared_queue:
            # Other streams hold it, perhaps for clients that read nothing. What leaves soon still passes.
            self._queue_was_full = True
            full = stream.queued > 0 or stream.credit < self._little_credit
        else:
            full = stream.queued > HIGH_WATER
        stream.blocked = stream.blocked or full
        return not stream.blocked

    def _unblock(self, stream: Stream) -> None:
        """Tell the sink of a stream that was full whether it may queue more by now."""
        if self.queued > self._shared_queue:
            if stream.queued or stream.credit < self._little_credit:
                return
        elif stream.queued > LOW_WATER:
            return
        stream.blocked = False
        if stream.sink is not None:
            stream.sink.writable()

    def _shed(self, spared: Stream) -> None:
        """Reset the streams that hold most, first those without credit, until a quarter of the limit is free."""
        holders = [stream for stream in self.streams.values() if stream.queued and stream is not spared]
        holders.sort(key=lambda stream: (not stream.ready, stream.queued))
        error = RemoteProtocolError(f"this session queues {self.queued} bytes, which is too much", wire=Code.OVERLOADED)
        while holders and self.queued * 4 > self._max_queued * 3:
            self._fail_stream(holders.pop(), error)

    def _plan(self, stream: Stream) -> None:
        if stream.ready:
            self._schedule.add(stream)
            self._rouse()

    def _rouse(self) -> None:
        if not self._awake:
            self._awake = True
            self._wake()

    def _new_stream(self, stream_id: int, *, opener: bool, ended: bool, now: float) -> Stream:
        window = ReceiveWindow(self._options.window, self._growth, now)
        stream = Stream(stream_id, opener=opener, ended=ended, credit=self._peer_window, window=window)
        self.streams[stream_id] = stream
        return stream

    def _settle(self, stream: Stream) -> None:
        """Forget a stream of which both directions have ended."""
        if stream.done and self.streams.get(stream.id) is stream:
            self._forget(stream)

    def _forget(self, stream: Stream) -> StreamSink | None:
        """The sink, which the stream no longer knows: two that know each other would wait for the garbage collector."""
        sink, stream.sink = stream.sink, None
        del self.streams[stream.id]
        if self._is_own(stream.id):
            self._own_streams -= 1
        self.held -= stream.window.close()
        self.queued -= stream.queued
        stream.queue = None
        stream.queued = 0
        stream.tail = None
        stream.blocked = False
        stream.sending = stream.receiving = _DONE
        return sink

    def _is_own(self, stream_id: int) -> bool:
        return bool(stream_id & 1) is self._dialer

    def _check_known(self, stream_id: int) -> None:
        """A frame for a stream that has ended is late; one for a stream that never was breaks the protocol."""
        limit = self._next_id - 2 if self._is_own(stream_id) else self._last_peer_id
        if not 0 < stream_id <= limit:
            raise RemoteProtocolError(f"a frame for stream {stream_id}, which was never opened")

    def _fail_stream(self, stream: Stream, error: RemoteProtocolError) -> None:
        code, sink = Code(error.wire), stream.sink
        self.reset(stream, code, str(error))
        if sink is not None:
            sink.reset(code, str(error))

    def _reset_faulty(self, stream_id: int) -> None:
        """Reset a stream whose sink has raised."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            with suppress(Exception):  # the first exception is the one to report
                self._fail_stream(stream, RemoteProtocolError("internal error", wire=Code.INTERNAL))

    def _receive_data(self, stream: Stream, flags: int, payload: bytes) -> None:
        end = bool(flags & END)
        size = len(payload)
        try:
            if stream.receiving is not _BODY or flags & INTERIM:
                stream.receive(_DATA, flags)
            stream.window.received(size)
            self.held += size
            if self.held > self._options.max_held_bytes:
                raise RemoteProtocolError(
                    f"this session holds {self.held} bytes, which is too much", wire=Code.OVERLOADED
                )
        except RemoteProtocolError as error:
            self._fail_stream(stream, error)
            return
        if end:
            stream.receiving = _DONE
        if stream.leaving is not None:
            self.consumed(stream, size, self.keepalive.heard_at)
        elif stream.sink is not None and (size or end):
            stream.sink.data(payload, end=end)
        if end:
            self._settle(stream)

    def _receive_other(self, kind: int, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if self.phase is Phase.HANDSHAKE:
            self._receive_handshake(kind, payload, now)
        elif kind >= _OPEN:
            self._receive_stream(kind, flags, stream_id, payload, now)
        else:
            self._receive_control(kind, payload, now)

    def _receive_handshake(self, kind: int, payload: bytes, now: float) -> None:
        if kind == FrameType.CLOSE:
            self._end(*unpack_reason(payload))
            return
        peer: Hello | Welcome
        if self._dialer:
            peer = read_welcome(kind, payload)
            self.capabilities = common(self._options, peer)
            self.id = peer.session
            self.secret = peer.secret or ""
            self._resume_timeout = peer.resume_timeout
        else:
            peer = read_hello(kind, payload)
            self.capabilities = common(self._options, peer)
            if peer.resume is not None and RESUME in self.capabilities:
                self._sink.resume(peer.resume)
                return
            self._resume_timeout = self._options.resume_timeout
            self._emit(FrameType.WELCOME, 0, welcome(self._options, self.id, self.capabilities, secret=self.secret))
        if RESUME in self.capabilities:
            self._resumption = Resumption(self._options.replay_bytes)
        self._peer_window = peer.window
        self._little_credit = min(QUANTUM, peer.window // 2)
        self._peer_max_streams = peer.max_streams
        self.phase = Phase.OPEN
        self.tick(now)
        self._sink.established(peer)

    def _receive_resumed(self, frames: list[Frame], now: float) -> list[Frame]:
        """The acceptor's answer to `redial`; the frames behind it. Acceptors hear nothing when detached."""
        if not frames or not self._dialer:
            return []
        kind, _, _, payload = frames[0]
        if kind == FrameType.CLOSE:
            self._end(*unpack_reason(payload))
            return []
        peer = read_welcome(kind, payload)
        if not peer.resumed or peer.session != self.id:
            raise RemoteProtocolError("WELCOME of another session")
        resumption = self._resumption
        assert resumption is not None
        if peer.received < resumption.acknowledged:
            raise RemoteProtocolError(f"{peer.received} frames received, {resumption.acknowledged} were before")
        self._go_on(b"", peer.received, now)
        return frames[1:]

    def _receive_control(self, kind: int, payload: bytes, now: float) -> None:
        match kind:
            case FrameType.PING:
                if len(payload) != 8:
                    raise RemoteProtocolError("PING needs 8 bytes")
                self._pong = payload  # an earlier one that still waits is of no use to anyone (section 8)
                self._rouse()
            case FrameType.PONG:
                self.keepalive.pong(payload, now)
            case FrameType.ACK if self._resumption is not None:
                self._resumption.acknowledge(read_count(payload))
                if not self._room and self._resumption.left > 0:
                    self._room = True
                    self._rouse()
            case FrameType.GOAWAY:
                self.going_away = True
                self._sink.going_away(*unpack_reason(payload))
            case FrameType.CLOSE:
                self._end(*unpack_reason(payload))
            case _:
                self._receive_message(kind, payload)

    def _receive_message(self, kind: int, payload: bytes) -> None:
        message_type = (SERVER_MESSAGES if self._dialer else AGENT_MESSAGES).get(kind)
        if message_type is None or (RENEWAL not in self.capabilities and kind in (FrameType.RENEW, FrameType.RENEWED)):
            raise RemoteProtocolError(f"a frame of type {kind:#04x} is not expected here")
        self._sink.message(Ready() if message_type is Ready else decode(message_type, payload))

    def _receive_stream(self, kind: int, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if kind == _OPEN:
            self._receive_open(flags, stream_id, payload, now)
            return
        if kind > _RESET:
            raise RemoteProtocolError(f"a frame of unknown type {kind:#04x}")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id)
            return
        try:
            if kind == _WINDOW:
                self._receive_window(stream, payload)
            elif kind == _HEAD:
                self._receive_head(stream, flags, payload)
            elif kind == _TRAILERS:
                stream.receive(kind, flags)
                if stream.sink is not None:
                    stream.sink.trailers(payload)
                self._settle(stream)
            else:
                code, reason = unpack_reason(payload)
                sink = self._forget(stream)
                if sink is not None:
                    sink.reset(code, reason)
        except RemoteProtocolError as error:
            self._fail_stream(stream, error)

    def _receive_open(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if self._is_own(stream_id) or not self._last_peer_id < stream_id <= MAX_STREAM_ID:
            raise RemoteProtocolError(f"OPEN with stream {stream_id} after {self._last_peer_id}")
        self._last_peer_id = stream_id
        end = bool(flags & END)
        stream = self._new_stream(stream_id, opener=False, ended=end, now=now)
        if len(self.streams) - self._own_streams > self._options.max_streams:
            self.reset(stream, Code.REFUSED, f"more than {self._options.max_streams} streams")
        elif self.congested:
            self.reset(stream, Code.REFUSED, "the link is congested")
        elif len(payload) > MAX_OPEN_PAYLOAD_BYTES:
            self.reset(stream, Code.PROTOCOL_ERROR, f"OPEN of {len(payload)} bytes")
        else:
            sink = self._sink.opened(stream, payload, end=end)
            if sink is not None and self.streams.get(stream_id) is stream:
                stream.sink = sink

    def _receive_window(self, stream: Stream, payload: bytes) -> None:
        if len(payload) != 4:
            raise RemoteProtocolError("WINDOW needs 4 bytes")
        credit = stream.credit + int.from_bytes(payload, "big")
        if credit > MAX_CREDIT:
            raise RemoteProtocolError(f"stream {stream.id}: window of {credit} bytes", wire=Code.FLOW_CONTROL)
        stream.credit = credit
        self._plan(stream)
        if stream.blocked:
            self._unblock(stream)

    def _receive_head(self, stream: Stream, flags: int, payload: bytes) -> None:
        if len(payload) > MAX_OPEN_PAYLOAD_BYTES:
            raise RemoteProtocolError(f"HEAD of {len(payload)} bytes")
        stream.receive(_HEAD, flags)
        interim = bool(flags & INTERIM)
        if interim:
            stream.count_interim()
        if stream.sink is not None:
            stream.sink.head(payload, end=bool(flags & END), interim=interim)
        self._settle(stream)

    def _take_back(self) -> None:
        """What has been opened and has not left will not leave any more."""
        frames = FrameReader().feed(b"".join(self._out))
        self.unsent = frozenset(frame[2] for frame in frames if frame[0] == _OPEN)
        self._out = [encode(*frame) for frame in frames if frame[2] not in self.unsent]

    def _end(self, code: Code, reason: str) -> None:
        self.phase = Phase.CLOSED
        if self._own_streams:
            self._take_back()
        # Why a session ends is not why each request of it does, but for one that was not to be.
        told = code if code is Code.NOT_ALLOWED else Code.GOING_AWAY
        fault: Exception | None = None
        for sink in [self._forget(stream) for stream in list(self.streams.values())]:
            if sink is not None:
                try:
                    sink.reset(told, reason or code.name)
                except Exception as error:  # noqa: BLE001 - raised when all others have heard
                    fault = fault or error
        self._sink.closed(code, reason)
        self._part()
        if fault is not None:
            raise fault

    def _part(self) -> None:
        """Forget the owner, who hears nothing more: two that know each other would wait for the garbage collector."""
        self._sink = cast("SessionSink", None)
        self._wake = _nobody
