"""Tunnel sessions without a network, with sinks that record events and reject illegal ones."""

from collections.abc import Callable

from zerotrust.tunnel.binary import pack_open
from zerotrust.tunnel.codes import END, Code, FrameType
from zerotrust.tunnel.frames import Frame, FrameReader, encode
from zerotrust.tunnel.messages import ControlMessage, Hello, Message, Resume, Welcome
from zerotrust.tunnel.session import Session, SessionOptions
from zerotrust.tunnel.stream import Stream
from zerotrust.tunnel.window import DEFAULT_WINDOW

SESSION_ID = "0123456789abcdef" * 2
SECRET = "fedcba9876543210" * 4
REQUEST = pack_open(
    2, 0, flags=0, service=b"web", request_id=b"r1", block=b"GET / HTTP/1.1\r\nHost: a\r\n"
)
HELLO = Hello(versions=[1], window=DEFAULT_WINDOW, max_streams=16384)
WELCOME = Welcome(version=1, session=SESSION_ID, window=DEFAULT_WINDOW, max_streams=16384)


class RecordingSink:
    """A stream's sink that records events and fails on events that the contract forbids."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.interims: list[bytes] = []
        self.body = bytearray()
        self.trailer: bytes | None = None
        self.ended = False
        self.over: tuple[Code, str] | None = None
        self.drained = 0
        self.silenced = False
        """True once the test has reset the stream; no event may follow."""

    def _alive(self) -> None:
        assert self.over is None, "an event after reset"
        assert not self.silenced, "an event after our own reset"

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        self._alive()
        assert not self.ended and not self.heads and not self.body
        (self.interims if interim else self.heads).append(payload)
        self.ended = end

    def data(self, payload: bytes, *, end: bool) -> None:
        self._alive()
        assert not self.ended
        assert payload or end, "data that says nothing"
        self.body += payload
        self.ended = end

    def trailers(self, payload: bytes) -> None:
        self._alive()
        assert not self.ended
        self.trailer = payload
        self.ended = True

    def reset(self, code: Code, reason: str) -> None:
        self._alive()
        assert reason.isprintable()
        self.over = (code, reason)

    def writable(self) -> None:
        self._alive()
        self.drained += 1


class Owner:
    """A session and its sink.

    Streams that the peer opens get a `RecordingSink`, or the sink that `accept` returns.
    """

    def __init__(
        self, *, dialer: bool, options: SessionOptions | None = None, now: float = 0.0
    ) -> None:
        self.peer: Hello | Welcome | None = None
        self.sinks: dict[int, RecordingSink] = {}
        self.payloads: dict[int, bytes] = {}
        self.messages: list[ControlMessage] = []
        self.goaway: tuple[Code, str] | None = None
        self.over: tuple[Code, str] | None = None
        self.wanted: Resume | None = None
        self.links: list[str] = []
        """Reasons of lost links, and "back" for each new link."""
        self.woken = 0
        self.accept: Callable[[Stream, bytes, bool], RecordingSink | None] = (
            lambda stream, payload, end: RecordingSink()
        )
        self.session = Session(
            dialer=dialer,
            sink=self,
            wake=self._wake,
            now=now,
            options=options,
            session_id="" if dialer else SESSION_ID,
            secret="" if dialer else SECRET,
        )
        self._reader = FrameReader()

    def _wake(self) -> None:
        self.woken += 1

    def established(self, peer: Hello | Welcome) -> None:
        assert self.peer is None and self.over is None
        self.peer = peer

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> RecordingSink | None:
        assert self.over is None
        self.payloads[stream.id] = payload
        sink = self.accept(stream, payload, end)
        if sink is not None:
            sink.ended = end
            self.sinks[stream.id] = sink
        return sink

    def message(self, message: ControlMessage) -> None:
        self.messages.append(message)

    def going_away(self, code: Code, reason: str) -> None:
        self.goaway = (code, reason)

    def resume(self, wanted: Resume) -> None:
        self.wanted = wanted

    def detached(self, reason: str) -> None:
        assert self.over is None
        self.links.append(reason)

    def reattached(self) -> None:
        assert self.over is None
        self.links.append("back")

    def closed(self, code: Code, reason: str) -> None:
        assert self.over is None, "closed twice"
        assert reason.isprintable()
        self.over = (code, reason)

    def open(
        self, payload: bytes = REQUEST, *, end: bool = False, now: float = 0.0
    ) -> tuple[Stream, RecordingSink]:
        """Open a stream."""
        sink = RecordingSink()
        stream = self.session.open_stream(payload, sink, end=end, now=now)
        self.sinks[stream.id] = sink
        return stream, sink

    def feed(self, *frames: bytes, now: float = 0.0) -> None:
        """Hand the session frames from its peer."""
        self.session.receive_data(b"".join(frames), now)

    def sent(self, budget: int = 1 << 30) -> list[Frame]:
        """Return the frames that wait to be sent."""
        return frames_of(self.session.data_to_send(budget))

    def said(self) -> list[tuple[FrameType, int]]:
        """Return type and stream of the frames that wait to be sent, without pings."""
        return [
            (FrameType(kind), stream)
            for kind, _, stream, _ in self.sent()
            if kind != FrameType.PING
        ]


def reason_of(owner: Owner) -> tuple[Code, str]:
    """Return the code and reason that closed the session; fail if it is open."""
    assert owner.over is not None
    return owner.over


def frames_of(data: bytes) -> list[Frame]:
    """Split the bytes of `data_to_send` into whole frames."""
    reader = FrameReader()
    found = list(reader.feed(data))
    assert sum(8 + len(frame[3]) for frame in found) == len(data), "a frame that is cut short"
    return found


def message(kind: FrameType, content: Message) -> bytes:
    """Return the frame of a control message."""
    return encode(kind, 0, 0, content.encode())


def window(stream: int, credit: int) -> bytes:
    """Return the frame that grants credit."""
    return encode(FrameType.WINDOW, 0, stream, credit.to_bytes(4, "big"))


def serve(owner: Owner, stream: int = 2, *, end: bool = False) -> tuple[Stream, RecordingSink]:
    """Open a stream as an agent's peer does."""
    owner.feed(encode(FrameType.OPEN, END if end else 0, stream, REQUEST))
    return owner.session.streams[stream], owner.sinks[stream]


def server(options: SessionOptions | None = None) -> Owner:
    """Return an acceptor after the handshake, with nothing left to send."""
    owner = Owner(dialer=False, options=options)
    owner.feed(message(FrameType.HELLO, HELLO))
    owner.sent()
    return owner


def agent(options: SessionOptions | None = None) -> Owner:
    """Return a dialer after the handshake, with nothing left to send."""
    owner = Owner(dialer=True, options=options)
    owner.feed(message(FrameType.WELCOME, WELCOME))
    owner.sent()
    return owner


class Pair:
    """A server and an agent, and the bytes in transit between them."""

    def __init__(
        self,
        *,
        server_options: SessionOptions | None = None,
        agent_options: SessionOptions | None = None,
    ) -> None:
        self.now = 0.0
        self.server = Owner(dialer=False, options=server_options)
        self.agent = Owner(dialer=True, options=agent_options)
        self.wires = {self.server: bytearray(), self.agent: bytearray()}
        """Bytes in transit to each end."""

    def other(self, owner: Owner) -> Owner:
        return self.agent if owner is self.server else self.server

    def send(self, owner: Owner, budget: int = 1 << 30) -> bool:
        """Put an end's pending bytes into transit; return True if there were any."""
        data = owner.session.data_to_send(budget)
        self.wires[self.other(owner)] += data
        return bool(data)

    def deliver(self, owner: Owner, count: int | None = None) -> None:
        """Deliver the next bytes in transit to an end."""
        wire = self.wires[owner]
        data = bytes(wire[:count])
        del wire[: len(data)]
        owner.session.receive_data(data, self.now)

    def pump(self) -> None:
        """Send and deliver until nothing is in transit."""
        moved = True
        while moved:
            moved = False
            for owner in (self.server, self.agent):
                moved |= self.send(owner)
                if self.wires[self.other(owner)]:
                    self.deliver(self.other(owner))


def joined(
    *, server_options: SessionOptions | None = None, agent_options: SessionOptions | None = None
) -> Pair:
    """Return two ends after the handshake."""
    pair = Pair(server_options=server_options, agent_options=agent_options)
    pair.pump()
    assert pair.server.peer is not None and pair.agent.peer is not None
    return pair
