"""Tests of the outbox: order, credit, fairness, and memory bounds under any peer and clients."""

import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.examples import examples
from tests.support.tunnel import (
    REQUEST,
    Owner,
    RecordingSink,
    agent,
    frames_of,
    joined,
    reason_of,
    serve,
    server,
    window,
)
from zerotrust.tunnel.binary import MAX_HEAD_FRAME_BYTES, pack_head
from zerotrust.tunnel.codes import CAPABILITIES, END, Code, FrameType
from zerotrust.tunnel.frames import encode
from zerotrust.tunnel.handshake import (
    CONGESTED_BYTES,
    MAX_QUEUED_BYTES,
    MAX_UNWRITTEN_BYTES,
    SHARED_QUEUE_BYTES,
)
from zerotrust.tunnel.keepalive import PING_INTERVAL
from zerotrust.tunnel.outbox import HIGH_WATER, LOW_WATER
from zerotrust.tunnel.session import Session, SessionOptions
from zerotrust.tunnel.stream import QUANTUM, Stream
from zerotrust.tunnel.window import DEFAULT_WINDOW, MIN_WINDOW

T = FrameType
ANSWER = pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n")
PING = encode(T.PING, 0, 0, b"12345678")
READ = 64 * 1024
"""As much as a connection to a backend or a client reads at a time."""


def waiting(session: Session) -> int:
    """Bytes of the frames that wait to be sent, but for the streams' queues."""
    return sum(len(chunk) for chunk in session.outbox._out)


# ---- frames that leave directly


def test_a_pong_goes_before_everything_else() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.send_data(stream, bytes(1000))
    owner.feed(PING)
    assert owner.said() == [(T.PONG, 0), (T.OPEN, 2), (T.DATA, 2)]


def test_open_and_reset_in_one_turn_leave_in_order() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.send_data(stream, b"x")
    owner.session.send_data(stream, bytes(QUANTUM + 1))
    owner.session.reset(stream, Code.CANCELLED)
    assert owner.said() == [(T.OPEN, 2), (T.DATA, 2), (T.RESET, 2)]
    assert not owner.session.has_output


def test_wake_is_called_once_until_the_next_output() -> None:
    owner = server()
    owner.woken = 0
    stream, _ = owner.open()
    owner.session.send_data(stream, b"x")
    owner.session.send_data(stream, bytes(QUANTUM + 1))
    assert owner.woken == 1
    owner.sent()
    owner.session.send_data(stream, b"x")
    assert owner.woken == 2


def test_what_has_not_left_when_a_session_ends_never_does() -> None:
    pair = joined()
    before, _ = pair.server.open()
    pair.pump()
    late, sink = pair.server.open()
    pair.server.session.send_data(late, b"\x20" * 40)
    pair.server.session.send_data(before, b"body")
    pair.server.session.close(Code.GOING_AWAY, "bye")
    assert pair.server.session.unsent == {late.id}
    assert sink.over == (Code.GOING_AWAY, "bye")
    pair.pump()
    assert (list(pair.agent.sinks), bytes(pair.agent.sinks[before.id].body)) == (
        [before.id],
        b"body",
    )
    assert reason_of(pair.agent) == (Code.GOING_AWAY, "bye")


def test_what_has_not_left_while_the_link_takes_nothing() -> None:
    options = SessionOptions(capabilities=CAPABILITIES, resume_timeout=5)
    pair = joined(server_options=options, agent_options=options)
    on_its_way, _ = pair.server.open()
    pair.server.session.data_to_send(1 << 20)
    waiting, _ = pair.server.open()
    pair.server.session.lost("cut", 1.0)
    pair.server.session.tick(6.0)
    assert pair.server.over is not None
    assert pair.server.session.unsent == {waiting.id}
    assert on_its_way.id not in pair.server.session.unsent


def test_no_stream_is_opened_over_a_link_that_takes_nothing() -> None:
    owner = server()
    while owner.session.can_open:
        stream, sink = owner.open(bytes(28_000))
        sink.silenced = True
        owner.session.reset(stream, Code.CANCELLED)
        assert owner.session.outbox.unwritten <= CONGESTED_BYTES + MAX_HEAD_FRAME_BYTES
    assert waiting(owner.session) <= owner.session.outbox.unwritten
    assert owner.over is None, "it may be a slow link"
    owner.session.data_to_send(1 << 30)
    assert owner.session.outbox.unwritten == 0 and owner.session.can_open


def test_a_peer_that_reads_slowly_makes_room_for_what_it_has_read() -> None:
    owner = server()
    while owner.session.can_open:
        owner.open(bytes(28_000))
    before = owner.session.outbox.unwritten
    owner.feed(encode(T.PING, 0, 0, b"12345678"))
    data = owner.session.data_to_send(128 * 1024)
    kinds = [frame[0] for frame in frames_of(data)]
    assert 128 * 1024 <= len(data) < 128 * 1024 + 2 * 28_000, "a link takes only so much at a time"
    assert kinds[0] == T.PONG and set(kinds[1:]) == {T.OPEN}
    assert before - owner.session.outbox.unwritten == pytest.approx(len(data), rel=0.05)
    assert owner.session.can_open


def test_frames_leave_in_order_and_whole_whatever_the_link_takes() -> None:
    owner = agent()
    for number in range(2, 42, 2):
        owner.feed(encode(T.OPEN, END, number, REQUEST))
        stream = owner.session.streams[number]
        owner.session.send_head(stream, ANSWER)
        owner.session.send_data(stream, bytes([number]) * (number * 100))
        owner.session.send_data(stream, b"", end=True)
    found = []
    while owner.session.has_output:
        found += owner.sent(1000)
    for number in range(2, 42, 2):
        mine = [
            (kind, flags, payload)
            for kind, flags, stream_id, payload in found
            if stream_id == number
        ]
        assert mine[0] == (T.HEAD, 0, ANSWER)
        assert b"".join(payload for _, _, payload in mine[1:]) == bytes([number]) * (number * 100)
        assert mine[-1][:2] == (T.DATA, END)


def test_a_ping_among_frames_that_leave_in_parts_is_not_counted() -> None:
    pair = joined()
    resumption = pair.server.session.resumption
    assert resumption is not None
    before = resumption.sent
    for _ in range(5):
        pair.server.open()
    pair.server.session.tick(PING_INTERVAL + 1)
    for _ in range(5):
        pair.server.open()
    sent: list[int] = []
    while pair.server.session.has_output:
        sent += [kind for kind, *_ in pair.server.sent(100)]
    assert (sent.count(T.OPEN), sent.count(T.PING)) == (10, 1)
    assert resumption.sent - before == 10


def test_requests_are_refused_over_a_link_that_takes_no_answers() -> None:
    owner = agent()
    head, number = pack_head(0, 0, 0, bytes(24_000)), 2
    while not owner.session.outbox.congested:
        owner.feed(encode(T.OPEN, END, number, REQUEST))
        owner.session.send_head(owner.session.streams[number], head, end=True)
        number += 2
    assert owner.session.outbox.unwritten <= CONGESTED_BYTES + MAX_HEAD_FRAME_BYTES
    owner.feed(encode(T.OPEN, END, number, REQUEST))
    assert number not in owner.sinks, "a request that another agent may have"
    assert owner.sent()[-1][:3] == (T.RESET, 0, number)
    owner.feed(encode(T.OPEN, END, number + 2, REQUEST))
    assert number + 2 in owner.sinks


def test_a_session_whose_peer_does_not_read_is_closed() -> None:
    """Requests that were accepted before the link was congested are still answered."""
    owner = agent()
    for number in range(2, 3002, 2):
        owner.feed(encode(T.OPEN, END, number, REQUEST))
    sinks = list(owner.sinks.values())
    streams = list(owner.session.streams.values())
    for stream in streams:
        owner.session.send_head(stream, pack_head(0, 0, 0, bytes(24_000)), end=True)
        owner.session.send_data(stream, b"late", end=True) if owner.over else None
        assert owner.session.outbox.unwritten <= MAX_UNWRITTEN_BYTES + MAX_HEAD_FRAME_BYTES
    assert reason_of(owner) == (Code.OVERLOADED, "the other end does not read")
    assert any(sink.over is not None for sink in sinks)
    assert [frame[0] for frame in owner.sent()] == [T.CLOSE], "what waited for this peer is dropped"
    for stream in streams[-2:]:
        owner.session.send_head(stream, ANSWER)
        owner.session.send_trailers(stream, b"")
    assert not owner.session.has_output


@pytest.mark.large
@pytest.mark.parametrize("size", [0, 1, 3])
def test_tiny_frames_count_with_the_memory_that_they_take(size: int) -> None:
    owner = server()
    stream, _ = owner.open()
    owner.sent()
    for _ in range(100_000):
        owner.session.send_data(stream, bytes(size))
    chunks = sum(sys.getsizeof(chunk) for chunk in owner.session.outbox._out)
    chunks += sum(sys.getsizeof(chunk) for chunk in stream.queue or ())
    assert chunks < 2 * (READ + 100_000 * size)


# ---- what is queued


def test_writable_comes_once_after_a_full_queue_has_drained() -> None:
    owner = server()
    stream, sink = owner.open()
    owner.feed(window(2, 10 << 20))
    assert owner.session.send_data(stream, bytes(HIGH_WATER))
    assert not owner.session.send_data(stream, b"x")
    while stream.queued > LOW_WATER:
        assert sink.drained == 0
        owner.session.data_to_send(QUANTUM)
    assert sink.drained == 1
    owner.sent()
    assert sink.drained == 1


def test_writable_comes_also_where_more_was_sent_while_the_queue_drained() -> None:
    """The source is stopped; clearing the mark between the two limits would never restart it."""
    owner = server()
    stream, sink = owner.open()
    owner.feed(window(2, 10 << 20))
    assert not owner.session.send_data(stream, bytes(HIGH_WATER + 1))
    while stream.queued > (HIGH_WATER + LOW_WATER) // 2:
        owner.session.data_to_send(QUANTUM)
    assert not owner.session.send_data(stream, b"late")
    owner.sent()
    assert sink.drained == 1


def test_the_end_does_not_overtake_data_that_waits_for_credit() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.send_data(stream, bytes(DEFAULT_WINDOW))
    owner.session.send_data(stream, b"x")
    owner.sent()
    assert stream.credit == 0
    owner.session.send_data(stream, b"", end=True)
    assert owner.sent() == []
    owner.feed(window(2, 1))
    assert [(kind, flags, payload) for kind, flags, _, payload in owner.sent()] == [
        (T.DATA, END, b"x")
    ]


def test_a_stream_lives_until_what_it_has_queued_is_sent() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.send_data(stream, bytes(DEFAULT_WINDOW + 1), end=True)
    owner.sent()
    owner.feed(encode(T.HEAD, END, 2, ANSWER))
    assert 2 in owner.session.streams
    owner.feed(window(2, 1))
    assert owner.said() == [(T.DATA, 2)] and not owner.session.streams


def test_nothing_goes_straight_out_while_others_wait_their_turn() -> None:
    owner = server()
    bulk, _ = owner.open()
    other, _ = owner.open()
    owner.sent()
    owner.session.send_data(bulk, bytes(2 * QUANTUM))
    owner.session.send_data(other, bytes(QUANTUM))
    assert owner.sent(budget=1)[0][2] == bulk.id


def test_queued_data_wakes_when_credit_arrives() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.send_data(stream, bytes(DEFAULT_WINDOW + 1))
    owner.sent()
    assert not owner.session.has_output
    owner.woken = 0
    owner.feed(window(2, 1))
    assert owner.woken == 1 and owner.said() == [(T.DATA, 2)]


def test_small_answers_overtake_a_download() -> None:
    owner = agent()
    slow, _ = serve(owner, 2)
    quick, _ = serve(owner, 4)
    owner.feed(window(2, 100 << 20))
    owner.session.send_head(slow, ANSWER)
    owner.session.send_data(slow, bytes(10 << 20))
    frames_of(owner.session.data_to_send(4 * QUANTUM))
    owner.session.send_head(quick, ANSWER)
    owner.session.send_data(quick, b"hello", end=True)
    assert [kind_stream for kind_stream in owner.said() if kind_stream[1]][:2] == [
        (T.HEAD, 4),
        (T.DATA, 4),
    ]


def stalled_clients(owner: Owner, count: int, *, first: int = 2) -> list[Stream]:
    """Streams whose clients ask for much and read nothing: sources write as long as they may."""
    streams = []
    for number in range(first, first + 2 * count, 2):
        owner.feed(encode(T.OPEN, END, number, REQUEST))
        stream = owner.session.streams.get(number)
        if stream is None:
            continue
        streams.append(stream)
        owner.session.send_head(stream, ANSWER)
        writes_on(owner, stream)
        owner.session.data_to_send(1 << 30)
    return streams


def writes_on(owner: Owner, stream: Stream) -> None:
    """Send on a stream without end until it is closed or out of credit."""
    while owner.session.streams.get(stream.id) is stream and owner.session.send_data(
        stream, bytes(READ)
    ):
        owner.session.data_to_send(1 << 30)


def unresumable() -> SessionOptions:
    return SessionOptions(capabilities=())


def test_clients_that_read_nothing_fill_no_memory() -> None:
    owner = agent(unresumable())
    streams = stalled_clients(owner, 3000)
    assert owner.session.outbox.queued == sum(
        stream.queued for stream in owner.session.streams.values()
    )
    assert owner.session.outbox.queued <= SHARED_QUEUE_BYTES + len(streams) * 1024
    assert all(owner.sinks[stream.id].over is None for stream in streams), (
        "a slow client is no reason for a reset"
    )


def test_room_in_the_queues_wakes_only_streams_that_wait_for_it() -> None:
    owner = agent(unresumable())
    *others, waiting = stalled_clients(owner, 1000)
    number = waiting.id + 2
    owner.feed(encode(T.OPEN, END, number, REQUEST))
    assert waiting.blocked and not owner.session.streams[number].blocked
    for stream in others:
        owner.session.reset(stream, Code.CANCELLED)
    owner.session.tick(0.5)
    assert not waiting.blocked
    assert (owner.sinks[waiting.id].drained, owner.sinks[number].drained) == (1, 0)


def test_a_client_that_reads_has_its_answer_although_others_read_nothing() -> None:
    owner = agent(unresumable())
    streams = stalled_clients(owner, 1000)
    assert owner.session.outbox.queued > SHARED_QUEUE_BYTES
    number = streams[-1].id + 2
    owner.feed(encode(T.OPEN, END, number, REQUEST))
    stream, sink = owner.session.streams[number], owner.sinks[number]
    owner.session.send_head(stream, ANSWER)
    got = wrote = owed = 0
    free = True
    for _ in range(200):
        while free:
            wrote += READ
            free = owner.session.send_data(stream, bytes(READ))
        for kind, _, stream_id, payload in owner.sent():
            if (kind, stream_id) == (T.DATA, number):
                got += len(payload)
                owed += len(payload)
        if owed * 2 >= DEFAULT_WINDOW:
            before = sink.drained
            owner.feed(encode(T.WINDOW, 0, number, owed.to_bytes(4, "big")))
            owed = 0
            free = free or sink.drained > before
        free = free or sink.drained > 0
        sink.drained = 0
    assert got > 50 * DEFAULT_WINDOW and wrote - got <= 2 * READ


def test_a_source_that_waits_for_others_goes_on_when_they_are_gone() -> None:
    """Also where the peer gives no credit before all of it is used up."""
    owner = agent(unresumable())
    streams = stalled_clients(owner, 1000)
    last = streams[-1]
    assert last.blocked and owner.sinks[last.id].drained == 0
    for stream in streams[:-1]:
        owner.feed(encode(T.RESET, 0, stream.id, b"\0\3"))
    owner.session.tick(1.0)
    assert not last.blocked and owner.sinks[last.id].drained == 1


def test_those_who_hold_most_are_reset_before_it_is_too_much() -> None:
    """Sources read once before they are stopped: many of them exceed the common limit."""
    owner = agent(unresumable())
    numbers = range(2, 2 * 4000, 2)
    owner.feed(b"".join(encode(T.OPEN, END, number, REQUEST) for number in numbers))
    for number in numbers:
        stream = owner.session.streams.get(number)
        if stream is not None:
            owner.session.send_head(stream, ANSWER)
            owner.session.send_data(stream, bytes(READ))
        assert owner.session.outbox.queued <= MAX_QUEUED_BYTES
    over = [sink for sink in owner.sinks.values() if sink.over is not None]
    assert 1000 < len(over) < 3000 and {sink.over[0] for sink in over if sink.over} == {
        Code.OVERLOADED
    }
    assert owner.session.outbox.queued > MAX_QUEUED_BYTES // 2, "no more than there has to be"
    assert owner.over is None


def test_credit_saves_a_stream_when_others_have_none() -> None:
    """Though it holds more: what has credit leaves as soon as the link takes it."""
    limit = 60 * READ
    owner = agent(SessionOptions(capabilities=(), max_queued_bytes=limit, shared_queue_bytes=limit))
    numbers = range(2, 2 + 2 * 41, 2)
    dead, alive = set(numbers[:20]), numbers[20:]
    owner.feed(b"".join(encode(T.OPEN, END, number, REQUEST) for number in numbers))
    for number in (*dead, *alive):
        owner.session.send_head(owner.session.streams[number], ANSWER)
    for number in dead:
        owner.session.send_data(owner.session.streams[number], bytes(DEFAULT_WINDOW))
        owner.session.data_to_send(1 << 30)
        owner.session.send_data(owner.session.streams[number], bytes(READ))
    for number in alive:
        owner.session.send_data(owner.session.streams[number], bytes(2 * READ))
    over = {number for number, sink in owner.sinks.items() if sink.over is not None}
    assert over and over <= dead


def test_a_stream_with_little_credit_waits_for_more_while_others_hold_the_queue() -> None:
    """Else its source would be read, and all that it has no credit for would wait here."""
    owner = agent(unresumable())
    stalled_clients(owner, 300)
    owner.feed(encode(T.OPEN, END, 1000, REQUEST))
    stream = owner.session.streams[1000]
    owner.session.send_head(stream, ANSWER)
    assert owner.session.send_data(stream, bytes(30_000))
    assert not owner.session.send_data(stream, bytes(30_000))
    assert stream.queued == 0, "all of it has left"
    owner.feed(encode(T.WINDOW, 0, 1000, (10_000).to_bytes(4, "big")))
    assert owner.sinks[1000].drained == 0
    owner.feed(encode(T.WINDOW, 0, 1000, (50_000).to_bytes(4, "big")))
    assert owner.sinks[1000].drained == 1


# ---- whatever they do


@dataclass
class Flow:
    """One direction of a stream: bytes written, bytes received, bytes not yet consumed."""

    owner: Owner
    stream: Stream
    sink: RecordingSink
    reader: "Reader"
    written: int = 0
    ended: bool = False
    free: bool = True
    begun: bool = True


class Reader(RecordingSink):
    """A sink that counts its bytes and consumes them when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.got = self.unconsumed = 0

    def data(self, payload: bytes, *, end: bool) -> None:
        self._alive()
        self.got += len(payload)
        self.unconsumed += len(payload)
        self.ended = end


@dataclass
class Limits:
    """InProcessBackend enough for a test to pass them."""

    shared: int = 3 * READ
    queued: int = 7 * READ
    congested: int = 20_000
    unwritten: int = 60_000
    options: SessionOptions = field(init=False)

    def __post_init__(self) -> None:
        self.options = SessionOptions(
            window=MIN_WINDOW,
            max_streams=40,
            shared_queue_bytes=self.shared,
            max_queued_bytes=self.queued,
            congested_bytes=self.congested,
            max_unwritten_bytes=self.unwritten,
        )


LIMITS = Limits()
which = st.integers(0, 1000)
sizes = st.sampled_from([0, 1, 2, 100, 5_000, 33_000, READ])


class Congestion(RuleBasedStateMachine):
    """Two ends with sources that obey `send_data` and `writable`, and an arbitrary network."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = joined(server_options=LIMITS.options, agent_options=LIMITS.options)
        self.flows: list[Flow] = []
        self.up: dict[int, Flow] = {}
        self.pair.agent.accept = self.accept

    @property
    def ends(self) -> tuple[Owner, Owner]:
        return self.pair.server, self.pair.agent

    def accept(self, stream: Stream, payload: bytes, end: bool) -> Reader:
        reader = Reader()
        up = self.up[stream.id]
        assert isinstance(up.sink, Reader)
        self.flows.append(Flow(self.pair.agent, stream, reader, up.sink, begun=False))
        up.reader = reader
        return reader

    def pick(self, number: int) -> Flow | None:
        flows = [
            flow
            for flow in self.flows
            if flow.owner.over is None and flow.sink.over is None and not flow.sink.silenced
        ]
        return flows[number % len(flows)] if flows else None

    @rule(size=st.sampled_from([100, 5_000, 15_000]), count=st.integers(1, 10))
    def open(self, size: int, count: int) -> None:
        for _ in range(count):
            if self.pair.server.session.can_open:
                reader = Reader()
                session = self.pair.server.session
                stream = session.open_stream(
                    REQUEST + bytes(size), reader, end=False, now=self.pair.now
                )
                flow = Flow(self.pair.server, stream, reader, Reader())
                self.up[stream.id] = flow
                self.flows.append(flow)

    @rule(number=which, size=st.sampled_from([0, 2_000, 15_000]), times=st.integers(1, 20))
    def head(self, number: int, size: int, times: int) -> None:
        for n in range(times):
            flow = self.pick(number + n)
            if flow is not None and not flow.begun:
                flow.begun = True
                flow.owner.session.send_head(flow.stream, ANSWER + bytes(size))

    @rule(number=which, size=sizes, end=st.booleans(), times=st.integers(1, 30))
    def write(self, number: int, size: int, end: bool, times: int) -> None:
        for n in range(times):
            flow = self.pick(number + n)
            if flow is None or not flow.begun or flow.ended or not (flow.free or flow.sink.drained):
                continue
            flow.sink.drained = 0
            flow.written += size
            flow.ended = end and n == 0 and size < READ
            flow.free = flow.owner.session.send_data(flow.stream, bytes(size), end=flow.ended)

    @rule(number=which)
    def reset(self, number: int) -> None:
        flow = self.pick(number)
        if flow is not None and flow.owner.session.streams.get(flow.stream.id) is flow.stream:
            flow.sink.silenced = True
            flow.owner.session.reset(flow.stream, Code.CANCELLED)

    @rule(part=st.floats(0, 1), every=st.integers(1, 3))
    def consume(self, part: float, every: int) -> None:
        for flow in self.flows[::every]:
            self.hand_on(flow, part)

    def hand_on(self, flow: Flow, part: float = 1.0) -> None:
        """Release received bytes of a flow, as their consumer does."""
        sink = flow.sink
        assert isinstance(sink, Reader)
        count = int(sink.unconsumed * part)
        if count and sink.over is None and not sink.silenced and flow.owner.over is None:
            sink.unconsumed -= count
            flow.owner.session.consumed(flow.stream, count, self.pair.now)

    @rule(number=which, times=st.integers(1, 8))
    def read_on(self, number: int, times: int) -> None:
        """A client that reads, while others may not."""
        flow = self.pick(number)
        if flow is None:
            return
        for _ in range(times):
            self.pair.pump()
            self.hand_on(flow)
            self.write(number, READ, end=False, times=1)

    @rule(server=st.booleans(), budget=st.sampled_from([0, 1_000, 40_000, 128 * 1024]))
    def send(self, server: bool, budget: int) -> None:
        self.pair.send(self.ends[0] if server else self.ends[1], budget)

    @rule(server=st.booleans(), count=st.sampled_from([1, 9, 20_000, 1 << 20]))
    def deliver(self, server: bool, count: int) -> None:
        self.pair.deliver(self.ends[0] if server else self.ends[1], count)

    @rule()
    def pump(self) -> None:
        self.pair.pump()

    @invariant()
    def memory_is_bounded(self) -> None:
        for owner in self.ends:
            session = owner.session
            queued = sum(
                len(chunk) for stream in session.streams.values() for chunk in stream.queue or ()
            )
            assert session.outbox.queued == queued <= LIMITS.queued + READ
            assert session.outbox.unwritten <= LIMITS.unwritten + MAX_HEAD_FRAME_BYTES
            assert waiting(session) <= session.outbox.unwritten + session.outbox._direct
            small = sum(
                len(chunk) < 512
                for stream in session.streams.values()
                for chunk in stream.queue or ()
            )
            assert small <= 2 * len(session.streams) + queued // 512

    @invariant()
    def only_too_much_ends_a_session(self) -> None:
        for owner in self.ends:
            assert owner.over is None or owner.over[0] is Code.OVERLOADED

    def teardown(self) -> None:
        before = -1
        while before != (before := self.progress()):
            for _ in range(5):
                self.pair.pump()
                for flow in self.flows:
                    self.hand_on(flow)
            self.pair.now += 1.0
            for owner in self.ends:
                owner.session.tick(self.pair.now)
            self.pair.pump()
        if any(owner.over is not None for owner in self.ends):
            return
        for flow in self.flows:
            if (
                flow.sink.over is flow.reader.over is None
                and not flow.sink.silenced
                and not flow.reader.silenced
            ):
                assert flow.reader.got == flow.written and flow.reader.ended == flow.ended
                assert flow.free or flow.sink.drained or flow.ended, (
                    "nobody said that there is room"
                )
        for owner in self.ends:
            assert (
                owner.session.outbox.queued == owner.session.outbox.unwritten == 0
                and not owner.session.has_output
            )

    def progress(self) -> int:
        return sum(flow.reader.got for flow in self.flows) + len(self.flows)


Congestion.TestCase.settings = settings(
    max_examples=examples(150), stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
TestCongestion = pytest.mark.slow(Congestion.TestCase)
