"""The session: the sans-I/O state machine of both ends of a tunnel (docs/spec/tunnel-v1.md).

The owner feeds `receive_data` and `tick`. After `wake` it sends what `data_to_send` returns, as
soon as the connection takes more.

Memory is bounded, whatever the peer and the clients do. Each of these has a limit for the session:

    bytes                        limit                          at the limit
    bodies that wait to be sent  handshake.SHARED_QUEUE_BYTES   streams queue only what leaves soon
                                 handshake.MAX_QUEUED_BYTES     the largest queues are reset
    other frames that wait       handshake.CONGESTED_BYTES      neither end opens a stream
                                 handshake.MAX_UNWRITTEN_BYTES  the session is closed
    answers that the peer causes outbox.MAX_ANSWER_BYTES        the session is closed
    received and not consumed    window.MAX_UNCONSUMED_BYTES    the stream that passes it is reset
    sent and not acknowledged    resume.REPLAY_BYTES            no DATA is sent; at 4 times that,
                                                                neither end opens a stream, and
                                                                `tick` closes the session

Where both ends offer it, a session outlives its link (section 7). Without a link it is *detached*:
its streams stay as they are until the owner calls `redial` (dialer) or `reattach` (acceptor) with
another one.
"""

from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Final, Protocol, cast, final

from zerotrust.errors import LocalProtocolError, RemoteProtocolError
from zerotrust.tunnel.binary import (
    MAX_HEAD_FRAME_BYTES,
    MAX_HEAD_PAYLOAD_BYTES,
    MAX_OPEN_PAYLOAD_BYTES,
    pack_reason,
    unpack_reason,
)
from zerotrust.tunnel.codes import (
    COUNTED,
    END,
    HEALTH,
    INTERIM,
    LARGE_HEADS,
    MEMBERS,
    MORE,
    RENEWAL,
    REPORTS,
    RESUME,
    Code,
    FrameType,
)
from zerotrust.tunnel.frames import MAX_PAYLOAD, MAX_STREAM_ID, Frame, FrameReader, encode
from zerotrust.tunnel.handshake import (
    SessionOptions,
    common,
    hello,
    read_hello,
    read_welcome,
    welcome,
)
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
from zerotrust.tunnel.outbox import Outbox
from zerotrust.tunnel.resume import Resumption, read_count
from zerotrust.tunnel.stream import QUANTUM, Stream, StreamSink, StreamState
from zerotrust.tunnel.window import MAX_CREDIT, MAX_GROWTH_BYTES, GrowthBudget, ReceiveWindow

__all__ = ["Phase", "Session", "SessionOptions", "SessionSink"]

_DATA: Final = int(FrameType.DATA)
_WINDOW: Final = int(FrameType.WINDOW)
_OPEN: Final = int(FrameType.OPEN)
_HEAD: Final = int(FrameType.HEAD)
_TRAILERS: Final = int(FrameType.TRAILERS)
_RESET: Final = int(FrameType.RESET)
# Compiled code loads a constant faster than a member of an enumeration.
_NEEDS: Final = {
    int(FrameType.RENEW): RENEWAL,
    int(FrameType.RENEWED): RENEWAL,
    int(FrameType.HEALTH): HEALTH,
    int(FrameType.MEMBERS): MEMBERS,
}
"""Capability that a message needs."""

_BODY: Final = StreamState.BODY
_DONE: Final = StreamState.DONE


class Phase(IntEnum):
    """State of a session as a whole."""

    HANDSHAKE = 0
    OPEN = 1
    CLOSED = 2


_HANDSHAKE: Final = Phase.HANDSHAKE
_OPENED: Final = Phase.OPEN
_CLOSED: Final = Phase.CLOSED


class EndedBy(IntEnum):
    """Cause of the end of a session."""

    HERE = 0
    """This end has closed it."""
    PEER = 1
    """The peer has closed it."""
    LINK = 2
    """Its link was lost, and there was no other one in time."""


class SessionSink(Protocol):
    """Owner of a session. The rules of `StreamSink` hold here, too."""

    def established(self, peer: Hello | Welcome) -> None:
        """The handshake is complete."""

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        """The peer opened a stream. Return its sink, or None if the owner has reset it."""

    def message(self, message: ControlMessage) -> None:
        """The peer sent a control message that this end may get."""

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
        """The session has ended, and its streams were reset; CLOSE may still wait to be sent."""


@final
class Session:
    """One session: frames in, events out.

    One link owns it, and `sink` is the component that it serves.

    Args:
        dialer: this end opened the connection (the agent).
        session_id: 32 hexadecimal digits, chosen by the acceptor; dialers pass an empty string.
        secret: 64 hexadecimal digits, likewise; whoever shows them later may resume the session.
        wake: called when there is something to send, once until the next `data_to_send`.

    Attributes:
        attached: there is a link, and the peer has agreed to continue the session over it.
        outbox: the frames that wait to be sent.
        resumption: what the session needs to outlive its link; None if it ends with it.
        unconsumed: bytes that have arrived and that the sinks have not consumed.
        end: cause and code of the session's end; None before.
        unsent: once the session has ended, this end's streams of which no frame has left.
        growth: memory by which the windows of all streams may still grow.
        max_open: maximum size of the head of a request (`binary.pack_open`).
        max_head: maximum size of the head of an answer (`binary.pack_head`).
        reports: the server may ask for reports (`binary.pack_report`).
        own_streams: number of open streams that this end has opened.
        next_id: id of the next stream that this end opens.
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
        self.phase = Phase.HANDSHAKE
        self.end: tuple[EndedBy, Code] | None = None
        self.attached = True
        self.keepalive = Keepalive(now)
        self.streams: dict[int, Stream] = {}
        self.going_away = False
        self.capabilities: frozenset[str] = frozenset()
        self.unsent: frozenset[int] = frozenset()
        self.unconsumed = 0
        self._options = options or SessionOptions()
        self._max_unconsumed = self._options.max_unconsumed_bytes
        self.outbox = Outbox(self._options, wake)
        self.resumption: Resumption | None = None
        self._dialer = dialer
        self._sink = sink
        self._secret = secret
        self._reader = FrameReader()
        self._greeting = b""
        self._parts = b""  # of an OPEN or HEAD that takes several frames
        self._parts_of = (0, 0)
        self.max_open = self.max_head = MAX_HEAD_FRAME_BYTES
        self.reports = False
        self.growth = GrowthBudget(MAX_GROWTH_BYTES)
        self.next_id = 1 if dialer else 2
        self._last_peer_id = self.own_streams = 0
        self._peer_window = self._peer_max_streams = 0
        self._handshake_by = now + HANDSHAKE_TIMEOUT
        if dialer:
            self._emit(FrameType.HELLO, 0, hello(self._options))

    # ---- what the owner asks for

    @property
    def unacknowledged(self) -> int:
        """Memory of what was sent and not yet acknowledged, in bytes."""
        return self.resumption.unacknowledged if self.resumption is not None else 0

    @property
    def can_open(self) -> bool:
        """A stream may be opened now."""
        return (
            self.phase is _OPENED
            and self.attached
            and not self.going_away
            and self.own_streams < self._peer_max_streams
            and self.next_id <= MAX_STREAM_ID
            and not self.outbox.congested
        )

    def open_stream(self, payload: bytes, sink: StreamSink, *, end: bool, now: float) -> Stream:
        """Open a stream with the head of a request (`binary.pack_open`).

        Raises:
            LocalProtocolError: `can_open` is False, or the head is too large.
        """
        if not self.can_open:
            raise LocalProtocolError("no stream can be opened now")
        if len(payload) > self.max_open:
            raise LocalProtocolError(
                f"a head of {len(payload)} bytes, at most {self.max_open} allowed"
            )
        stream = self._new_stream(self.next_id, opener=True, ended=end, now=now)
        stream.sink = sink
        self.next_id += 2
        self.own_streams += 1
        self._emit_head(_OPEN, stream.id, payload, END if end else 0)
        return stream

    def send_head(
        self, stream: Stream, payload: bytes, *, end: bool = False, interim: bool = False
    ) -> None:
        """Send the head of an answer (`binary.pack_head`).

        Raises:
            LocalProtocolError: a final head was sent before, or the head is too large.
        """
        if stream.sending is not StreamState.HEAD:
            if self.phase is _CLOSED:
                return
            raise LocalProtocolError(f"stream {stream.id}: a second head")
        limit = MAX_HEAD_FRAME_BYTES if interim else self.max_head
        if len(payload) > limit:
            raise LocalProtocolError(f"a head of {len(payload)} bytes, at most {limit} allowed")
        if not interim:
            stream.sending = _DONE if end else _BODY
        self._emit_head(
            _HEAD, stream.id, payload, (END if end else 0) | (INTERIM if interim else 0)
        )
        if end:
            self._settle(stream)

    def send_data(self, stream: Stream, data: bytes, *, end: bool = False) -> bool:
        """Send bytes of a body, or queue them.

        Returns:
            False if the queue is full: the owner sends no more until the sink's `writable`.

        Raises:
            LocalProtocolError: the direction is not open.
        """
        if stream.sending is not _BODY:
            if self.phase is _CLOSED:
                return True
            raise LocalProtocolError(f"stream {stream.id}: data in state {stream.sending.name}")
        outbox = self.outbox
        if outbox.send_now(stream, data, end):
            if end:
                stream.sending = _DONE
                self._settle(stream)
                return True
            return outbox.takes_more(stream)
        if end:
            stream.sending = _DONE
        outbox.enqueue(stream, data, end)
        if outbox.overfull:
            self._shed(stream)
        return outbox.takes_more(stream)

    def send_trailers(self, stream: Stream, payload: bytes) -> None:
        """End the direction with trailer fields.

        Raises:
            LocalProtocolError: the direction is not open, or the fields are too large.
        """
        if stream.sending is not _BODY:
            if self.phase is _CLOSED:
                return
            raise LocalProtocolError(f"stream {stream.id}: trailers in state {stream.sending.name}")
        if len(payload) > MAX_PAYLOAD:
            raise LocalProtocolError(
                f"trailers of {len(payload)} bytes, at most {MAX_PAYLOAD} allowed"
            )
        stream.sending = _DONE
        stream.tail = (_TRAILERS, payload)
        self.outbox.schedule(stream)

    def consumed(self, stream: Stream, count: int, now: float) -> None:
        """Grant credit for bytes that `StreamSink.data` delivered and the sink has handed on."""
        window = stream.window
        if not window.unconsumed:
            return
        self.unconsumed -= count
        if stream.receiving is _DONE:
            window.unconsumed -= count
            return
        grant = window.consumed(count, now, self.keepalive.round_trip)
        if grant:
            self._emit(_WINDOW, stream.id, grant.to_bytes(4, "big"))

    def reset(self, stream: Stream, code: Code, reason: str = "") -> None:
        """End both directions of a stream at once. The sink gets no more events.

        NO_ERROR after the end of this end's direction says that the rest of the other one is not
        wanted: the RESET waits until the queue has left, and the session drops what arrives
        meanwhile.
        """
        if self.streams.get(stream.id) is not stream:
            return
        if code is Code.NO_ERROR and stream.sending is _DONE and not stream.sent:
            stream.leaving = reason
            stream.sink = None
            self.consumed(stream, stream.window.unconsumed, self.keepalive.heard_at)
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
            self.close(
                Code.INTERNAL,
                f"{message.frame_type.name} of {len(payload)} bytes fits into no frame",
            )
        elif self._dialer:
            self._emit(message.frame_type, 0, payload)
        else:
            self._answer(message.frame_type, 0, payload)

    def go_away(self, code: Code, reason: str = "") -> None:
        """Ask the peer to open no more streams; the open ones continue."""
        self._emit(FrameType.GOAWAY, 0, pack_reason(code, reason))

    def close(self, code: Code, reason: str = "") -> None:
        """End the session: reset all streams, send CLOSE, and ignore what arrives later."""
        if self.phase is not _CLOSED:
            self._emit(FrameType.CLOSE, 0, pack_reason(code, reason))
            self._end(code, reason, EndedBy.HERE)

    # ---- what arrives

    def receive_data(self, data: bytes, now: float) -> None:  # noqa: C901 - a call less for each frame
        """Take bytes from the link and call the sinks. A broken rule closes the session.

        Raises:
            Exception: the first one that a sink raised, which is a bug. The session has reset the
                frame's stream, handled all other frames, and continues.
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
                    if kind == _DATA and self.phase is _OPENED:
                        stream = streams.get(stream_id)
                        if stream is None:
                            self._check_known(stream_id)
                        else:
                            self._receive_data(stream, flags, payload)
                    elif self.phase is not _CLOSED:
                        self._receive_other(kind, flags, stream_id, payload, now)
                except RemoteProtocolError:
                    raise
                except Exception as error:  # noqa: BLE001 - raised below, when the other streams have their frames
                    fault = fault or error
                    self._reset_faulty(stream_id)
        except RemoteProtocolError as error:
            self.close(Code(error.wire), str(error))
        resumption = self.resumption
        if counted and resumption is not None and resumption.arrived(counted, len(data)):
            self.outbox.ack_due = self.phase is _OPENED
            self.outbox.rouse()
        if fault is not None:
            raise fault

    def tick(self, now: float) -> None:
        """Look at the clock: ping, or give up. The owner calls it about once a second."""
        if self.phase is _CLOSED:
            return
        resumption = self.resumption
        if not self.attached:
            if resumption is not None and now >= resumption.expires_at:
                reason = f"no link for {resumption.timeout:g} s"
                self._end(Code.SILENCE, reason, EndedBy.LINK)
        elif self.phase is _HANDSHAKE:
            if now >= self._handshake_by:
                self.close(Code.SILENCE, f"no handshake within {HANDSHAKE_TIMEOUT:g} s")
        elif self.keepalive.dead(now):
            reason = f"nothing heard for {DEAD_AFTER:g} s"
            if resumption is None:
                self.close(Code.SILENCE, reason)
            else:
                self.lost(reason, now)
        else:
            self._send_overdue(now)

    def lost(self, reason: str, now: float) -> None:
        """Note the end of the link without CLOSE: the session waits for another one, or ends."""
        if self.phase is _CLOSED:
            return
        if self.resumption is None:
            self._end(Code.GOING_AWAY, reason, EndedBy.LINK)
            return
        self._reader = FrameReader()
        self._greeting = b""
        if self.attached:
            self.attached = False
            self.resumption.detach(now)
            self._sink.detached(reason)

    # ---- from one link to the next

    def redial(self, now: float) -> None:
        """Ask the acceptor to resume the session over a new link (dialers, when detached)."""
        resumption = self.resumption
        assert resumption is not None and not self.attached
        self.keepalive = Keepalive(now)
        self._greeting = encode(
            FrameType.HELLO, 0, 0, hello(self._options, resumption.request(self.id))
        )
        self.outbox.start()

    def refusal(self, wanted: Resume) -> str | None:
        """Return the reason why a dialer may not resume the session; None if it may (acceptors)."""
        if self.phase is not _OPENED or self.resumption is None:
            return "no such session"
        return self.resumption.refusal(wanted)

    def reattach(self, wanted: Resume, now: float) -> None:
        """Continue over the link of a dialer that has asked and met no `refusal` (acceptors)."""
        resumption = self.resumption
        assert resumption is not None
        if self.attached:  # the dialer has noticed the end of the old link first
            self.lost("the agent has another connection", now)
        resumption.grant(wanted)
        answer = welcome(
            self._options,
            self.id,
            self.capabilities,
            secret=self._secret,
            received=resumption.received,
        )
        self._continue(encode(FrameType.WELCOME, 0, 0, answer), wanted.received, now)

    def supersede(self) -> None:
        """End without a frame or an event: another session has taken the link over (acceptors)."""
        self.phase = _CLOSED
        self.outbox.close()
        self._part()

    # ---- what leaves

    @property
    def has_output(self) -> bool:
        """`data_to_send` would return something."""
        return bool(self._greeting) or (self.attached and self.outbox.has_output)

    def data_to_send(self, budget: int) -> bytes:
        """Return the bytes to send now: the direct frames, then about `budget` bytes of bodies."""
        greeting, self._greeting = self._greeting, b""
        if not self.attached:
            return greeting
        written, served = self.outbox.take(budget)
        for stream in served:
            if stream.blocked:
                self.outbox.unblock(stream)
            if stream.done:
                self._settle(stream)
            elif stream.leaving is not None:
                self.reset(stream, Code.NO_ERROR, stream.leaving)
        # Compiled, even an empty one is joined by a copy.
        return greeting + written if greeting else written

    # ---- inside

    def _send_overdue(self, now: float) -> None:
        """Send the acknowledgement and the PING that are due, and unblock streams."""
        resumption = self.resumption
        if resumption is not None:
            if resumption.hopeless:
                self.close(Code.OVERLOADED, "the other end acknowledges nothing")
                return
            if resumption.untold:
                self.outbox.ack_due = True
                self.outbox.rouse()
        self.outbox.unblock_all(self.streams.values())
        nonce = self.keepalive.ping(now)
        if nonce is not None:
            self._emit(FrameType.PING, 0, nonce)

    def _continue(self, greeting: bytes, received: int, now: float) -> None:
        """Continue on a new link: send `greeting`, and all frames after the first `received`."""
        resumption = self.resumption
        assert resumption is not None
        self._greeting = greeting + resumption.attach(received)
        self.keepalive = Keepalive(now)
        self.attached = True
        self.outbox.start()
        self._sink.reattached()

    def _emit(self, kind: int, stream_id: int, payload: bytes, flags: int = 0) -> None:
        if not self.outbox.emit(kind, stream_id, payload, flags):
            self._give_up("the other end does not read")

    def _emit_head(self, kind: int, stream_id: int, payload: bytes, flags: int) -> None:
        """Emit an OPEN or HEAD, in several frames if it is large."""
        while len(payload) > MAX_HEAD_FRAME_BYTES:
            self._emit(kind, stream_id, payload[:MAX_HEAD_FRAME_BYTES], MORE)
            payload = payload[MAX_HEAD_FRAME_BYTES:]
        self._emit(kind, stream_id, payload, flags)

    def _answer(self, kind: int, stream_id: int, payload: bytes) -> None:
        """Emit a frame that the peer has caused."""
        if self.outbox.count_answer(len(payload)):
            self._emit(kind, stream_id, payload)
        else:
            self._give_up("the other end asks and does not read the answers")

    def _give_up(self, reason: str) -> None:
        """Close the session of a peer that does not read; of the output, only CLOSE remains."""
        self.close(Code.OVERLOADED, reason)
        self.outbox.keep_last()

    def _shed(self, spared: Stream) -> None:
        """Reset the largest queues until a quarter of the limit is free; no credit goes first."""
        outbox = self.outbox
        victims = [
            stream for stream in self.streams.values() if stream.queued and stream is not spared
        ]
        victims.sort(key=lambda stream: (not stream.ready, stream.queued))
        error = RemoteProtocolError(
            f"this session queues {outbox.queued} bytes, which is too much", wire=Code.OVERLOADED
        )
        while victims and outbox.queued * 4 > self._options.max_queued_bytes * 3:
            self._fail_stream(victims.pop(), error)

    def _new_stream(self, stream_id: int, *, opener: bool, ended: bool, now: float) -> Stream:
        window = ReceiveWindow(self._options.window, self.growth, now)
        stream = Stream(
            stream_id, opener=opener, ended=ended, credit=self._peer_window, window=window
        )
        self.streams[stream_id] = stream
        return stream

    def _settle(self, stream: Stream) -> None:
        """Forget a stream of which both directions have ended."""
        if stream.done and self.streams.get(stream.id) is stream:
            self._forget(stream)

    def _forget(self, stream: Stream) -> StreamSink | None:
        """Remove a stream and return its sink; without the cycle, both are freed at once."""
        sink, stream.sink = stream.sink, None
        del self.streams[stream.id]
        if self._is_own(stream.id):
            self.own_streams -= 1
        self.unconsumed -= stream.window.close()
        self.outbox.discard(stream)
        stream.sending = stream.receiving = _DONE
        return sink

    def _is_own(self, stream_id: int) -> bool:
        return bool(stream_id & 1) is self._dialer

    def _check_known(self, stream_id: int) -> None:
        """Check that an unknown stream was open once: a frame for it is late, and ignored.

        Raises:
            RemoteProtocolError: the stream was never opened.
        """
        limit = self.next_id - 2 if self._is_own(stream_id) else self._last_peer_id
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
            self.unconsumed += size
            if self.unconsumed > self._max_unconsumed:
                raise RemoteProtocolError(
                    f"this session holds {self.unconsumed} bytes, which is too much",
                    wire=Code.OVERLOADED,
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

    def _receive_other(
        self, kind: int, flags: int, stream_id: int, payload: bytes, now: float
    ) -> None:
        if self.phase is _HANDSHAKE:
            self._receive_handshake(kind, payload, now)
        elif kind >= _OPEN:
            whole: bytes | None = payload
            if flags & MORE or self._parts:
                whole = self._join(kind, flags, stream_id, payload)
            if whole is not None:
                self._receive_stream(kind, flags, stream_id, whole, now)
        else:
            self._receive_control(kind, payload, now)

    def _receive_handshake(self, kind: int, payload: bytes, now: float) -> None:
        if kind == FrameType.CLOSE:
            self._end(*unpack_reason(payload), EndedBy.PEER)
            return
        peer: Hello | Welcome
        if self._dialer:
            peer = read_welcome(kind, payload)
            self.capabilities = common(self._options, peer)
            self.id = peer.session
            self._secret = peer.secret or ""
            resume_timeout = peer.resume_timeout
        else:
            peer = read_hello(kind, payload, self._options)
            self.capabilities = common(self._options, peer)
            if peer.resume is not None and RESUME in self.capabilities:
                self._sink.resume(peer.resume)
                return
            resume_timeout = self._options.resume_timeout
            self._emit(
                FrameType.WELCOME,
                0,
                welcome(self._options, self.id, self.capabilities, secret=self._secret),
            )
        if RESUME in self.capabilities:
            self.resumption = self.outbox.resumption = Resumption(
                secret=self._secret, timeout=resume_timeout, budget=self._options.replay_bytes
            )
        if LARGE_HEADS in self.capabilities:
            self.max_open, self.max_head = MAX_OPEN_PAYLOAD_BYTES, MAX_HEAD_PAYLOAD_BYTES
        self.reports = REPORTS in self.capabilities
        self._peer_window = peer.window
        self.outbox.little_credit = min(QUANTUM, peer.window // 2)
        self._peer_max_streams = peer.max_streams
        self.phase = Phase.OPEN
        self.tick(now)
        self._sink.established(peer)

    def _receive_resumed(self, frames: list[Frame], now: float) -> list[Frame]:
        """Take the answer to `redial`, and return the frames after it (dialers; others ignore
        all)."""
        if not frames or not self._dialer:
            return []
        kind, _, _, payload = frames[0]
        if kind == FrameType.CLOSE:
            code, reason = unpack_reason(payload)
            if code is not Code.WRONG_WORKER:  # another connection may find the right one
                self._end(code, reason, EndedBy.PEER)
            return []
        peer = read_welcome(kind, payload)
        assert self.resumption is not None
        self.resumption.check_answer(peer, self.id)
        self._continue(b"", peer.received, now)
        return frames[1:]

    def _receive_control(self, kind: int, payload: bytes, now: float) -> None:
        match kind:
            case FrameType.PING:
                if len(payload) != 8:
                    raise RemoteProtocolError("PING needs 8 bytes")
                self.outbox.pong = payload
                self.outbox.rouse()
            case FrameType.PONG:
                self.keepalive.pong(payload, now)
            case FrameType.ACK if self.resumption is not None:
                self.outbox.acknowledge(read_count(payload))
            case FrameType.GOAWAY:
                self.going_away = True
                self._sink.going_away(*unpack_reason(payload))
            case FrameType.CLOSE:
                self._end(*unpack_reason(payload), EndedBy.PEER)
            case _:
                self._receive_message(kind, payload)

    def _receive_message(self, kind: int, payload: bytes) -> None:
        message_type = (SERVER_MESSAGES if self._dialer else AGENT_MESSAGES).get(kind)
        needed = _NEEDS.get(kind)
        if message_type is None or (needed is not None and needed not in self.capabilities):
            raise RemoteProtocolError(f"a frame of type {kind:#04x} is not expected here")
        self._sink.message(Ready() if message_type is Ready else decode(message_type, payload))

    def _receive_stream(
        self, kind: int, flags: int, stream_id: int, payload: bytes, now: float
    ) -> None:
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

    def _join(self, kind: int, flags: int, stream_id: int, payload: bytes) -> bytes | None:
        """Return the whole payload of an OPEN or HEAD with its last part; None with the others.

        Raises:
            RemoteProtocolError: the parts are interrupted, too small or too large.
        """
        if LARGE_HEADS not in self.capabilities:
            return payload
        if self._parts and (kind, stream_id) != self._parts_of:
            raise RemoteProtocolError(f"a frame of type {kind:#04x} between the parts of a head")
        whole = self._parts + payload
        if not flags & MORE:
            self._parts = b""
            return whole
        if (
            kind not in (_OPEN, _HEAD)
            or len(payload) != MAX_HEAD_FRAME_BYTES
            or len(whole) > MAX_HEAD_PAYLOAD_BYTES
        ):
            raise RemoteProtocolError(
                f"a frame of type {kind:#04x} with MORE and {len(payload)} bytes"
            )
        self._parts, self._parts_of = whole, (kind, stream_id)
        return None

    def _receive_open(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if self._is_own(stream_id) or not self._last_peer_id < stream_id <= MAX_STREAM_ID:
            raise RemoteProtocolError(f"OPEN with stream {stream_id} after {self._last_peer_id}")
        self._last_peer_id = stream_id
        end = bool(flags & END)
        stream = self._new_stream(stream_id, opener=False, ended=end, now=now)
        if len(self.streams) - self.own_streams > self._options.max_streams:
            self.reset(stream, Code.REFUSED, f"more than {self._options.max_streams} streams")
        elif self.outbox.congested:
            self.reset(stream, Code.REFUSED, "the link is congested")
        elif len(payload) > self.max_open:
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
            raise RemoteProtocolError(
                f"stream {stream.id}: window of {credit} bytes", wire=Code.FLOW_CONTROL
            )
        stream.credit = credit
        self.outbox.schedule(stream)
        if stream.blocked:
            self.outbox.unblock(stream)

    def _receive_head(self, stream: Stream, flags: int, payload: bytes) -> None:
        interim = bool(flags & INTERIM)
        if len(payload) > (MAX_HEAD_FRAME_BYTES if interim else self.max_head):
            raise RemoteProtocolError(f"HEAD of {len(payload)} bytes")
        stream.receive(_HEAD, flags)
        if interim:
            stream.count_interim()
        if stream.sink is not None:
            stream.sink.head(payload, end=bool(flags & END), interim=interim)
        self._settle(stream)

    def _end(self, code: Code, reason: str, by: EndedBy) -> None:
        self.phase = _CLOSED
        self.end = (by, code)
        self.outbox.close()
        if self.own_streams:
            self.unsent = self.outbox.take_back_opens()
        # Streams end with GOING_AWAY, whatever ended the session. NOT_ALLOWED alone is passed on:
        # it tells the sinks to drop what they have not handed on, so a revoked agent delivers
        # nothing more.
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

    def set_sink(self, sink: SessionSink) -> None:
        """Give the session another owner, which gets all events from now on (as
        `asyncio.Transport.set_protocol`)."""
        self._sink = sink

    def _part(self) -> None:
        """Forget the owner, so that the two are freed without the garbage collector."""
        self._sink = cast("SessionSink", None)
        self.outbox.part()
