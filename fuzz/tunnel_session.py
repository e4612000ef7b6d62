"""Fuzz target: no input of a peer raises or breaks the rules for memory, windows, events.

Run: python fuzz/tunnel_session.py -max_total_time=60

The first byte of an input chooses the role, the state of the handshake and the actions of the
sinks; the second one chooses how the rest is split. The rest is the peer's data: as it is, or (so
that inputs get beyond the frame header) as short commands that become frames.
"""

import struct
import sys

import atheris

with atheris.instrument_imports(include=["zerotrust.tunnel"]):
    from zerotrust.tunnel.binary import pack_head, pack_open
    from zerotrust.tunnel.codes import RESUME, Code, FrameType
    from zerotrust.tunnel.frames import FrameReader, encode
    from zerotrust.tunnel.messages import (
        ControlMessage,
        Hello,
        Register,
        Registered,
        Renew,
        Renewed,
        Resume,
        Welcome,
    )
    from zerotrust.tunnel.outbox import HIGH_WATER
    from zerotrust.tunnel.session import Phase, Session, SessionOptions
    from zerotrust.tunnel.stream import Stream, StreamState
    from zerotrust.tunnel.window import MAX_GROWTH_BYTES, MAX_WINDOW, MIN_WINDOW

SESSION_ID = "0" * 32
SECRET = "1" * 64
LIMIT = 100_000
OPTIONS = SessionOptions(window=MIN_WINDOW, max_streams=4, max_unconsumed_bytes=LIMIT)
HELLO = Hello(versions=[1], window=MIN_WINDOW, max_streams=4)
WELCOME = Welcome(version=1, session=SESSION_ID, window=MIN_WINDOW, max_streams=4)
REQUEST = pack_open(
    2, 0, flags=0, service=b"s", request_id=b"r", block=b"GET / HTTP/1.1\r\nHost: a\r\n"
)
ANSWER = pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n")
PAYLOADS = (
    b"",
    b"\0",
    bytes(8),
    bytes(MIN_WINDOW),
    bytes(40_001),
    REQUEST,
    ANSWER,
    b"a: b\r\n",
    struct.pack(">I", 1),
    struct.pack(">I", MIN_WINDOW),
    struct.pack(">I", 2**31 - 1),
    HELLO.encode(),
    WELCOME.encode(),
    Register(id="a", hosts=["a"]).encode(),
    Registered(id="a", accepted=["a"]).encode(),
    Renew(csr="-").encode(),
    Renewed(reason="no").encode(),
    b'{"id":"a","hosts":[' + b'"a",' * 9000 + b'"a"]}',
)


class Sink:
    """A stream's sink; what it does in its events comes from the input."""

    def __init__(self, owner: "Owner") -> None:
        self.owner = owner
        self.stream: Stream | None = None
        self.over = self.ended = self.silenced = False
        self.blocked = False
        self.unconsumed = 0

    def heard(self) -> None:
        assert not self.over and not self.silenced
        self.owner.act(self)

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        assert not self.ended
        self.ended = end
        self.heard()

    def data(self, payload: bytes, *, end: bool) -> None:
        assert not self.ended and (payload or end)
        self.ended = end
        self.unconsumed += len(payload)
        self.heard()

    def trailers(self, payload: bytes) -> None:
        assert not self.ended
        self.ended = True
        self.heard()

    def reset(self, code: Code, reason: str) -> None:
        assert isinstance(code, Code) and reason.isprintable()
        self.heard()
        self.over = True

    def writable(self) -> None:
        assert self.blocked
        self.blocked = False
        self.heard()


class Owner:
    """A session's sink."""

    def __init__(self, choices: int, deeds: bytes) -> None:
        self.dialer = bool(choices & 1)
        self.deeds = list(deeds)
        self.established_once = self.over = False
        self.sinks: list[Sink] = []
        self.depth = 0
        self.session = Session(
            dialer=self.dialer,
            sink=self,
            wake=lambda: None,
            now=0.0,
            options=OPTIONS,
            session_id="" if self.dialer else SESSION_ID,
            secret="" if self.dialer else SECRET,
        )

    def act(self, sink: Sink | None = None) -> None:
        """One of the things that an owner may do."""
        if not self.deeds or self.depth > 3:
            return
        deed = self.deeds.pop()
        if sink is None and self.sinks:
            sink = self.sinks[deed % len(self.sinks)]
        self.depth += 1
        self.do(deed >> 4, deed & 15, sink)
        self.depth -= 1

    def do(self, deed: int, detail: int, sink: Sink | None) -> None:
        session = self.session
        if deed == 0 and detail == 0:
            session.close(Code.INTERNAL, "enough")
        elif deed == 1:
            session.send(Registered(id="a", accepted=["a"]))
        elif deed == 2:
            self.open(end=bool(detail & 1))
        elif sink is not None and sink.stream is not None:
            self.use(sink, sink.stream, deed, detail)

    def use(self, sink: Sink, stream: Stream, deed: int, detail: int) -> None:
        session = self.session
        alive = session.streams.get(stream.id) is stream and not sink.silenced
        if deed <= 6:
            count, sink.unconsumed = sink.unconsumed, 0
            session.consumed(stream, count, detail * 0.01)
        elif deed <= 7 and alive:
            sink.silenced = True
            session.reset(stream, Code.NO_ERROR if detail & 1 else Code.CANCELLED, "enough")
        elif deed <= 9 and alive and stream.sending is StreamState.HEAD:
            session.send_head(stream, ANSWER, end=detail == 1)
        elif deed <= 14 and alive and stream.sending is StreamState.BODY and not sink.blocked:
            sink.blocked = not session.send_data(stream, bytes(1 << (detail + 3)), end=detail == 3)
        elif alive and stream.sending is StreamState.BODY:
            session.send_trailers(stream, b"a: b\r\n")

    def open(self, *, end: bool) -> None:
        if self.session.can_open and len(self.sinks) < 50:
            sink = Sink(self)
            self.sinks.append(sink)
            sink.stream = self.session.open_stream(REQUEST, sink, end=end, now=0.0)

    # ---- tunnel.session.SessionSink

    def established(self, peer: Hello | Welcome) -> None:
        assert not self.established_once
        self.established_once = True

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> Sink | None:
        assert not self.over
        if self.deeds and self.deeds[-1] == 255:
            self.session.reset(stream, Code.UNKNOWN_SERVICE)
            return None
        sink = Sink(self)
        sink.stream = stream
        sink.ended = end
        stream.sink = sink
        self.sinks.append(sink)
        self.act(sink)
        return sink

    def message(self, message: ControlMessage) -> None:
        match message:
            case Register():
                self.session.send(Registered(id=message.id, accepted=message.hosts))
            case Renew():
                self.session.send(Renewed(reason="no"))
            case _:
                self.act()

    def going_away(self, code: Code, reason: str) -> None:
        assert reason.isprintable()
        self.act()

    def resume(self, wanted: Resume) -> None:
        """Ignore the request: there is no other session."""

    def detached(self, reason: str) -> None:
        assert not self.over

    def reattached(self) -> None:
        assert not self.over
        self.act()

    def closed(self, code: Code, reason: str) -> None:
        assert not self.over and reason.isprintable()
        self.over = True


def frames(script: bytes) -> bytes:
    """Each four bytes become a frame: type, flags and stream, payload, and how much of it."""
    kinds = list(FrameType)
    out = []
    for at in range(0, len(script) - 3, 4):
        kind, place, content, size = script[at : at + 4]
        payload = PAYLOADS[content % len(PAYLOADS)]
        if size & 1:
            payload = payload[: size >> 1]
        out.append(
            encode(
                kinds[kind % len(kinds)] if kind < 250 else kind,
                place & 3,
                (place >> 2) % 16,
                payload,
            )
        )
    return b"".join(out)


def check(owner: Owner) -> None:
    session = owner.session
    streams = session.streams.values()
    assert session.unconsumed == sum(stream.window.unconsumed for stream in streams)
    assert session.unconsumed <= LIMIT
    assert session.growth.left == MAX_GROWTH_BYTES - sum(
        s.window.size - s.window.initial for s in streams
    )
    assert len(session.streams) <= 8
    for stream in streams:
        assert 0 <= stream.window.unconsumed <= stream.window.size <= MAX_WINDOW
        assert 0 <= stream.credit < 2**31
        assert stream.queued == sum(map(len, stream.queue or ())) <= HIGH_WATER + (1 << 18)
    assert owner.over == (session.phase is Phase.CLOSED)
    if owner.over:
        assert not session.streams and session.unconsumed == 0
        for sink in owner.sinks:
            assert (
                sink.stream is None
                or sink.over
                or sink.silenced
                or sink.stream.sending is StreamState.DONE
            )


def go_on(owner: Owner, now: float, choice: int) -> None:
    """The link breaks, and there may be another one; the other end may have got less than all."""
    session = owner.session
    session.lost("broken", now)
    resumption = session.resumption
    if session.phase is not Phase.OPEN or resumption is None:
        return
    kept = resumption.sent - resumption.acknowledged
    received = resumption.acknowledged + (kept * (choice & 3) // 3)
    if owner.dialer:
        session.redial(now)
        session.data_to_send(1 << 20)
        welcome = WELCOME.model_copy(
            update={"resumed": True, "received": received, "secret": SECRET}
        )
        session.receive_data(encode(FrameType.WELCOME, 0, 0, welcome.encode()), now)
    else:
        wanted = Resume(
            session=SESSION_ID, secret=SECRET, received=received, attempt=resumption.attempt + 1
        )
        assert session.refusal(wanted) is None
        session.reattach(wanted, now)
    assert session.attached or owner.over


def test_one_input(data: bytes) -> None:
    if len(data) < 12:
        return
    choices, cut = data[0], data[1] + 1
    owner = Owner(choices, data[2:12])
    sent = data[12:] if choices & 4 else frames(data[12:])
    if choices & 2:
        resumes = (
            {"capabilities": [RESUME], "secret": SECRET, "resume_timeout": 5.0}
            if choices & 16
            else {}
        )
        welcome = WELCOME.model_copy(update=resumes)
        hello = HELLO.model_copy(update={"capabilities": [RESUME] if resumes else []})
        sent = (
            encode(FrameType.WELCOME, 0, 0, welcome.encode())
            if owner.dialer
            else encode(FrameType.HELLO, 0, 0, hello.encode())
        ) + sent
    if choices & 8:
        cut *= 500
    reader = FrameReader()
    last = 0
    for number, at in enumerate(range(0, len(sent), max(cut, len(sent) // 64))):
        if choices & 32 and number and number % 5 == 0:
            go_on(owner, at * 0.001, choices >> 6)
            reader = FrameReader()
            check(owner)
        owner.session.receive_data(sent[at : at + max(cut, len(sent) // 64)], at * 0.001)
        check(owner)
        owner.act()
        for kind, _, _, _ in reader.feed(owner.session.data_to_send(cut * 50)):
            assert last != FrameType.CLOSE, "something after CLOSE"
            last = kind
        check(owner)
    owner.session.lost("the end", 1000.0)
    owner.session.tick(2000.0)
    check(owner)
    assert not owner.session.streams


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
