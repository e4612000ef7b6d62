"""Tests of streams and of the StreamSink contract, for any owner and any split of bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.examples import examples
from tests.support.tunnel import REQUEST, Owner, RecordingSink, joined
from tests.unit.tunnel.test_codes import rows
from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.binary import pack_head
from zerotrust.tunnel.codes import END, INTERIM, Code, FrameType
from zerotrust.tunnel.outbox import HIGH_WATER
from zerotrust.tunnel.session import SessionOptions
from zerotrust.tunnel.stream import MAX_INTERIM_HEADS, QUANTUM, TRANSITIONS, Stream, StreamState
from zerotrust.tunnel.window import (
    MAX_GROWTH_BYTES,
    MAX_WINDOW,
    MIN_WINDOW,
    GrowthBudget,
    ReceiveWindow,
)

ANSWER = pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n")
TRAILERS = b"a: b\r\n"
LARGEST = 200_000
WORDS = bytes(n * 7 % 251 for n in range(LARGEST * 2))
WAYS = ("at once", "later", "never")

which = st.integers(0, 3)
sides = st.booleans()
sizes = st.sampled_from([0, 1, 100, 5_000, 16_384, 33_000, LARGEST])

COLUMNS = [
    (FrameType.HEAD, INTERIM),
    (FrameType.HEAD, 0),
    (FrameType.HEAD, END),
    (FrameType.DATA, 0),
    (FrameType.DATA, END),
    (FrameType.TRAILERS, END),
]


def make(*, opener: bool = False, ended: bool = False, credit: int = 1 << 20) -> Stream:
    return Stream(
        2,
        opener=opener,
        ended=ended,
        credit=credit,
        window=ReceiveWindow(65536, GrowthBudget(0), 0.0),
    )


def test_transitions_are_the_table_of_the_specification() -> None:
    table = {}
    for name, *cells in rows("state"):
        for (kind, flags), cell in zip(COLUMNS, cells, strict=True):
            if cell != "error":
                table[StreamState[name], int(kind), flags] = StreamState[cell]
    assert table == TRANSITIONS


@pytest.mark.parametrize(
    ("state", "kind", "flags"), list(product(StreamState, FrameType, range(4)))
)
def test_a_frame_moves_by_the_table_or_is_an_error(
    state: StreamState, kind: FrameType, flags: int
) -> None:
    stream = make()
    stream.receiving = state
    after = TRANSITIONS.get((state, int(kind), flags))
    if after is None:
        with pytest.raises(RemoteProtocolError):
            stream.receive(kind, flags)
        assert stream.receiving is state
    else:
        stream.receive(kind, flags)
        assert stream.receiving is after


def test_other_flags_are_ignored() -> None:
    stream = make()
    stream.receive(FrameType.DATA, 0xFC | END)
    assert stream.receiving is StreamState.DONE


@pytest.mark.parametrize(("opener", "ended"), list(product((True, False), repeat=2)))
def test_the_openers_direction_begins_in_body_and_the_other_in_head(
    opener: bool, ended: bool
) -> None:
    stream = make(opener=opener, ended=ended)
    request, answer = (
        (stream.sending, stream.receiving) if opener else (stream.receiving, stream.sending)
    )
    assert request is (StreamState.DONE if ended else StreamState.BODY)
    assert answer is StreamState.HEAD


def test_interim_heads_are_counted() -> None:
    stream = make()
    for _ in range(MAX_INTERIM_HEADS):
        stream.count_interim()
    with pytest.raises(RemoteProtocolError):
        stream.count_interim()


@given(st.lists(st.binary(min_size=1, max_size=3 * QUANTUM)), st.lists(st.integers(1, QUANTUM * 2)))
def test_pieces_are_the_queue_within_quantum_and_credit(
    written: list[bytes], credits: list[int]
) -> None:
    stream = make(credit=0)
    for data in written:
        stream.enqueue(data)
    assert stream.queued == sum(map(len, written))
    taken = bytearray()
    for credit in [*credits, 1 << 30]:
        stream.credit += credit
        while stream.ready:
            before = stream.credit
            piece = stream.take()
            assert 0 < len(piece) <= min(QUANTUM, before)
            assert stream.credit == before - len(piece)
            taken += piece
    assert taken == b"".join(written)
    assert stream.queued == 0 and not stream.queue


def test_a_tail_waits_for_the_queue_but_not_for_credit() -> None:
    stream = make(credit=0)
    stream.tail = (FrameType.DATA, b"")
    assert stream.ready
    stream.enqueue(b"x")
    assert not stream.ready
    stream.credit = 1
    assert stream.ready


def test_many_small_pieces_leave_together() -> None:
    """A frame for each byte that waited would be eight bytes of header for one of body."""
    stream = make()
    for _ in range(10_000):
        stream.enqueue(b"ab")
    assert len(stream.take()) == 20_000


def test_the_rest_of_a_read_waits_for_credit_without_the_part_that_has_left() -> None:
    stream = make(credit=99_999)
    stream.enqueue(bytes(100_000))
    while stream.ready:
        stream.take()
    assert stream.queue is not None
    (rest,) = stream.queue
    assert isinstance(rest, memoryview)
    assert isinstance(rest.obj, bytes)
    assert len(rest.obj) == len(rest) == 1


# ---- the contract of StreamSink, between two sessions


class Listener(RecordingSink):
    """A sink that consumes bytes at once, when the test says so, or never."""

    def __init__(self, entrypoint: str) -> None:
        super().__init__()
        self.entrypoint = entrypoint
        self.unconsumed = 0
        self.waiting = False
        self.consume: Callable[[int], None] = lambda count: None

    def data(self, payload: bytes, *, end: bool) -> None:
        super().data(payload, end=end)
        if self.entrypoint == "at once":
            self.consume(len(payload))
        else:
            self.unconsumed += len(payload)

    def reset(self, code: Code, reason: str) -> None:
        super().reset(code, reason)
        self.unconsumed = 0

    def writable(self) -> None:
        super().writable()
        assert self.waiting, "writable without a False before"
        self.waiting = False


@dataclass
class Half:
    """One end of a stream, and the bytes that the other end must have received at the end."""

    owner: Owner
    sink: Listener
    stream: Stream
    written: bytearray = field(default_factory=bytearray)
    interims: int = 0
    head: bool = False
    ended: bool = False
    trailer: bool = False
    bare: bool = False
    """A request without a body: OPEN had END."""
    left: Code | None = None
    """Code of this end's reset; None while it has not reset the stream."""

    @property
    def open(self) -> bool:
        return self.left is None and self.sink.over is None


class TwoSessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        options = SessionOptions(window=MIN_WINDOW, max_streams=4)
        self.pair = joined(server_options=options, agent_options=options)
        self.next_way = "at once"
        self.halves: dict[int, tuple[Half, Half]] = {}
        """The server's and the agent's half of each stream; the latter comes with the OPEN."""
        self.openers: dict[int, Half] = {}
        self.pair.agent.accept = self.accept
        for mine, yours in (("at once", "at once"), ("later", "later"), ("never", "later")):
            self.open(end=False, mine=mine, yours=yours)
            self.pair.pump()
            self.head(number=len(self.halves) - 1, interim=False, end=False)

    def accept(self, stream: Stream, payload: bytes, end: bool) -> RecordingSink:
        assert payload == REQUEST
        half = self.half(self.pair.agent, stream, self.next_way)
        opener = self.openers[stream.id]
        assert end == opener.bare
        self.halves[stream.id] = (opener, half)
        return half.sink

    def half(self, owner: Owner, stream: Stream, entrypoint: str) -> Half:
        sink = Listener(entrypoint)
        sink.consume = lambda count: owner.session.consumed(stream, count, self.pair.now)
        return Half(owner, sink, stream)

    def pick(self, number: int, server: bool) -> Half | None:
        """A half that has not been reset, if there is one."""
        halves = (
            [pair[0] for pair in self.halves.values()]
            if server
            else [pair[1] for pair in self.halves.values()]
        )
        if server:
            halves += [half for stream, half in self.openers.items() if stream not in self.halves]
        alive = [half for half in halves if half.open]
        return alive[number % len(alive)] if alive else None

    # ---- what owners do

    @rule(end=st.booleans(), mine=st.sampled_from(WAYS), yours=st.sampled_from(WAYS))
    def open(self, end: bool, mine: str, yours: str) -> None:
        session = self.pair.server.session
        if not session.can_open:
            return
        self.next_way = yours
        sink = Listener(mine)
        stream = session.open_stream(REQUEST, sink, end=end, now=self.pair.now)
        sink.consume = lambda count: session.consumed(stream, count, self.pair.now)
        self.openers[stream.id] = Half(
            self.pair.server, sink, stream, head=True, ended=end, bare=end
        )

    @rule(number=which, interim=st.booleans(), end=st.booleans())
    def head(self, number: int, interim: bool, end: bool) -> None:
        half = self.pick(number, server=False)
        if half is None or half.head or half.interims == 32:
            return
        half.owner.session.send_head(half.stream, ANSWER, end=end and not interim, interim=interim)
        if interim:
            half.interims += 1
        else:
            half.head, half.ended = True, end

    @rule(number=which, server=sides, size=sizes)
    def write_on(self, number: int, server: bool, size: int) -> None:
        self.write(number, server, size, end=False)

    @rule(number=which, server=sides, size=sizes, end=st.booleans())
    def write(self, number: int, server: bool, size: int, end: bool) -> None:
        half = self.pick(number, server)
        if half is None or not half.head or half.ended or half.sink.waiting:
            return
        at = len(half.written) % LARGEST
        data = WORDS[at : at + size]
        half.written += data
        half.ended = end
        half.sink.waiting = not half.owner.session.send_data(half.stream, data, end=end)

    @rule(number=which, server=sides)
    def trailers(self, number: int, server: bool) -> None:
        half = self.pick(number, server)
        if half is not None and half.head and not half.ended:
            half.ended = half.trailer = True
            half.owner.session.send_trailers(half.stream, TRAILERS)

    @rule(
        number=which,
        server=sides,
        code=st.sampled_from([Code.NO_ERROR, Code.CANCELLED]),
        luck=st.integers(0, 2),
    )
    def reset(self, number: int, server: bool, code: Code, luck: int) -> None:
        half = self.pick(number, server)
        if (
            half is None
            or luck
            or half.owner.session.streams.get(half.stream.id) is not half.stream
        ):
            return
        half.left = code
        half.sink.silenced = True
        half.owner.session.reset(half.stream, code, "enough")

    @rule(number=which, server=sides, part=st.floats(0, 1))
    def consume(self, number: int, server: bool, part: float) -> None:
        half = self.pick(number, server)
        if half is not None and half.sink.entrypoint == "later":
            count = int(half.sink.unconsumed * part)
            half.sink.unconsumed -= count
            half.sink.consume(count)

    # ---- what the network does

    @rule(server=sides, budget=st.sampled_from([0, 1, 1_000, 40_000, 1 << 20]))
    def send(self, server: bool, budget: int) -> None:
        self.pair.send(self.pair.server if server else self.pair.agent, budget)

    @rule(server=sides, count=st.sampled_from([1, 7, 9, 500, 20_000, 1 << 20]))
    def deliver(self, server: bool, count: int) -> None:
        self.pair.deliver(self.pair.server if server else self.pair.agent, count)

    @rule(pause=st.sampled_from([0.0, 0.001, 0.1, 2.0]))
    def tick(self, pause: float) -> None:
        self.pair.now += pause
        for owner in (self.pair.server, self.pair.agent):
            if self.pair.now - owner.session.keepalive.heard_at > 9:
                self.pair.pump()
            owner.session.tick(self.pair.now)

    @rule()
    def pump(self) -> None:
        self.pair.pump()

    # ---- what must hold

    @invariant()
    def nobody_broke_a_rule(self) -> None:
        assert self.pair.server.over is None and self.pair.agent.over is None

    @invariant()
    def bytes_arrive_once_and_in_order(self) -> None:
        for server, agent in self.halves.values():
            for here, there in ((server, agent), (agent, server)):
                assert here.written.startswith(there.sink.body)
                assert not there.sink.ended or (here.ended and (there.sink.body == here.written))
                assert (there.sink.trailer is not None) == (there.sink.ended and here.trailer)
                assert len(there.sink.interims) <= here.interims
                if there.sink.over is not None:
                    assert there.sink.over[0] == here.left

    @invariant()
    def memory_is_bounded_and_accounted_for(self) -> None:
        for owner in (self.pair.server, self.pair.agent):
            session = owner.session
            assert session.unconsumed == sum(
                stream.window.unconsumed for stream in session.streams.values()
            )
            grown = sum(
                stream.window.size - stream.window.initial for stream in session.streams.values()
            )
            assert session.growth.left == MAX_GROWTH_BYTES - grown
            for stream in session.streams.values():
                assert stream.queued <= HIGH_WATER + LARGEST
                assert 0 <= stream.window.unconsumed <= stream.window.size <= MAX_WINDOW
                assert stream.queued == sum(map(len, stream.queue or ()))
                other = self.pair.other(owner).session.streams.get(stream.id)
                assert stream.credit >= 0
                assert other is None or stream.credit <= other.window.size

    def settle(self) -> None:
        """Everybody reads what there is, and all that was sent travels."""
        moved = True
        while moved:
            self.pair.now += 0.01
            before = sum(len(half.sink.body) for pair in self.halves.values() for half in pair)
            self.pair.pump()
            for pair in self.halves.values():
                for half in pair:
                    count, half.sink.unconsumed = half.sink.unconsumed, 0
                    if half.open:
                        half.sink.consume(count)
            moved = before != sum(
                len(half.sink.body) for pair in self.halves.values() for half in pair
            )
            moved = (
                moved or self.pair.server.session.has_output or self.pair.agent.session.has_output
            )

    def teardown(self) -> None:
        self.settle()
        self.nobody_broke_a_rule()
        self.memory_is_bounded_and_accounted_for()
        self.bytes_arrive_once_and_in_order()
        for server, agent in self.halves.values():
            for here, there in ((server, agent), (agent, server)):
                graceful = here.left is Code.NO_ERROR and here.ended
                whole = (here.left is None or graceful) and there.left is None
                if whole:
                    assert there.sink.body == here.written and there.sink.ended == here.ended
                    assert not here.sink.waiting or graceful, (
                        "nobody said that the queue has drained"
                    )
                over = here.left is not None and (there.left is None)
                done = here.ended and there.ended
                assert not over or there.sink.over is not None or done
                if whole and done and there.left is here.left is None:
                    assert here.stream.id not in here.owner.session.streams, (
                        "both directions have ended"
                    )
        for pair in self.halves.values():
            for half in pair:
                if half.open:
                    half.left = Code.CANCELLED
                    half.sink.silenced = half.stream.id in half.owner.session.streams
                    half.owner.session.reset(half.stream, Code.CANCELLED)
        self.settle()
        self.nobody_broke_a_rule()
        for owner in (self.pair.server, self.pair.agent):
            assert not owner.session.streams and owner.session.unconsumed == 0
            assert owner.session.growth.left == MAX_GROWTH_BYTES
            assert owner.session.own_streams == 0 and not owner.session.has_output


TwoSessions.TestCase.settings = settings(
    max_examples=examples(120), stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
TestTwoSessions = pytest.mark.slow(TwoSessions.TestCase)
