"""Tests of resumption: replay buffer, retransmission, and authentication of the peer."""

import sys
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.tunnel import (
    HELLO,
    REQUEST,
    SECRET,
    SESSION_ID,
    WELCOME,
    Owner,
    Pair,
    RecordingSink,
    joined,
    message,
    reason_of,
    server,
)
from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.binary import pack_head
from zerotrust.tunnel.codes import CAPABILITIES, RESUME, Code
from zerotrust.tunnel.codes import FrameType as T
from zerotrust.tunnel.frames import encode
from zerotrust.tunnel.keepalive import DEAD_AFTER
from zerotrust.tunnel.messages import Resume, Welcome
from zerotrust.tunnel.resume import ACK_BYTES, ACK_FRAMES, MOST_REPLAYS, Resumption
from zerotrust.tunnel.session import Phase, SessionOptions
from zerotrust.tunnel.stream import Stream
from zerotrust.tunnel.window import DEFAULT_WINDOW

ANSWER = pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n")
TIMEOUT = 60.0


def frames(first: int, last: int) -> bytes:
    return b"".join(encode(T.DATA, 0, 2, str(number).encode()) for number in range(first, last + 1))


def test_what_is_not_acknowledged_is_sent_again() -> None:
    kept = Resumption()
    kept.record(encode(T.PING, 0, 0, bytes(8)) + frames(1, 3), 3)
    kept.record(frames(4, 5) + encode(T.ACK, 0, 0, bytes(8)) + frames(6, 6), 3)
    assert kept.replay() == frames(1, 6)
    kept.acknowledge(2)
    assert kept.replay() == frames(3, 6)
    assert kept.unacknowledged > 0
    kept.acknowledge(3)
    assert kept.replay() == frames(4, 6)
    kept.acknowledge(1)
    assert kept.replay() == frames(4, 6), "an old acknowledgement says nothing"
    kept.acknowledge(6)
    assert (kept.replay(), kept.unacknowledged) == (b"", 0)
    with pytest.raises(RemoteProtocolError, match="7 frames acknowledged, 6 were sent"):
        kept.acknowledge(7)


def test_when_to_acknowledge() -> None:
    some = Resumption()
    assert not some.arrived(ACK_FRAMES - 1, 10)
    assert some.arrived(1, 10)
    assert some.acknowledgement() == encode(T.ACK, 0, 0, ACK_FRAMES.to_bytes(8, "big"))
    assert some.untold == 0
    assert some.arrived(1, ACK_BYTES)


def test_what_is_kept_is_bounded() -> None:
    kept = Resumption(budget=100)
    assert kept.left == 100
    kept.record(bytes(100), 0)
    assert kept.left <= 0 and not kept.hopeless
    kept.record(bytes(100 * (MOST_REPLAYS - 1)), 0)
    assert kept.hopeless


def test_small_writes_count_with_the_memory_that_they_take() -> None:
    kept = Resumption()
    for number in range(1000):
        kept.record(bytes([number % 256]), 1)
    assert kept.unacknowledged >= 1000 * (sys.getsizeof(b"x") + sys.getsizeof((1, b"x")))
    kept.acknowledge(1000)
    assert kept.unacknowledged == 0


# ---- two ends


def cut(pair: Pair) -> None:
    """The link breaks; what was on its way is gone."""
    for owner in (pair.server, pair.agent):
        pair.wires[owner].clear()
        owner.session.lost("cut", pair.now)


def ask(pair: Pair) -> Resume:
    """The agent asks for its session; what an acceptor makes of that."""
    pair.agent.session.redial(pair.now)
    acceptor = Owner(dialer=False, now=pair.now)
    acceptor.session.receive_data(pair.agent.session.data_to_send(1 << 20), pair.now)
    assert acceptor.wanted is not None and not acceptor.sent()
    return acceptor.wanted


def restore(pair: Pair) -> None:
    wanted = ask(pair)
    assert pair.server.session.refusal(wanted) is None
    pair.server.session.reattach(wanted, pair.now)


def opened(pair: Pair) -> tuple[Stream, RecordingSink, Stream, RecordingSink]:
    """A stream from server to agent, both ends of it."""
    stream, sink = pair.server.open()
    pair.pump()
    return stream, sink, pair.agent.session.streams[stream.id], pair.agent.sinks[stream.id]


def test_a_head_in_several_frames_outlives_its_link() -> None:
    pair = joined()
    _, sink, far, _ = opened(pair)
    head = ANSWER + bytes(1 << 17)
    pair.agent.session.send_head(far, head, end=True)
    pair.send(pair.agent)
    pair.deliver(pair.server, 90_000)
    cut(pair)
    restore(pair)
    pair.pump()
    assert sink.heads == [head]


def test_streams_do_not_notice() -> None:
    pair = joined()
    stream, sink, far, far_ear = opened(pair)
    pair.agent.session.send_head(far, ANSWER)
    pair.agent.session.send_data(far, b"one ")
    pair.pump()
    pair.agent.session.send_data(far, b"two ")
    pair.server.session.send_data(stream, b"up")
    pair.send(pair.agent)
    pair.send(pair.server)
    pair.deliver(pair.server, 5)
    cut(pair)
    pair.agent.session.send_data(far, b"three", end=True)
    assert not pair.agent.session.has_output, "nobody to send it to"
    restore(pair)
    pair.pump()
    assert sink.heads == [ANSWER]
    assert (bytes(sink.body), sink.ended) == (b"one two three", True)
    assert bytes(far_ear.body) == b"up"
    assert pair.agent.links == pair.server.links == ["cut", "back"]
    assert pair.agent.over is pair.server.over is None


def test_the_acceptor_need_not_have_noticed() -> None:
    pair = joined()
    _stream, sink, far, _ = opened(pair)
    pair.agent.session.send_head(far, ANSWER)
    pair.agent.session.lost("the address has changed", pair.now)
    for wire in pair.wires.values():
        wire.clear()
    restore(pair)
    pair.pump()
    assert sink.heads == [ANSWER]
    assert pair.server.links == ["the agent has another connection", "back"]


def test_what_a_lost_link_still_brings_is_ignored() -> None:
    pair = joined()
    _, sink, _, _ = opened(pair)
    cut(pair)
    late = encode(T.DATA, 0, 2, b"late")
    pair.server.session.receive_data(late, pair.now)
    pair.agent.session.redial(pair.now)
    pair.agent.session.receive_data(late[:3], pair.now)  # the begin of an answer
    assert not sink.body and pair.server.over is pair.agent.over is None
    assert not pair.server.session.attached and not pair.agent.session.attached


def test_who_was_woken_without_a_link_is_woken_again() -> None:
    pair = joined()
    _, _, far, _ = opened(pair)
    pair.agent.session.lost("cut", pair.now)
    pair.agent.session.send_head(far, ANSWER)
    for owner in (pair.agent, pair.server):
        owner.woken = 0
    restore(pair)
    assert (pair.agent.woken, pair.server.woken) == (1, 1)
    pair.agent.woken = 0
    pair.pump()
    assert pair.agent.woken > 0, "what waited is to be sent"


def test_no_stream_is_opened_without_a_link() -> None:
    pair = joined()
    cut(pair)
    assert not pair.server.session.can_open
    restore(pair)
    assert pair.server.session.can_open


@pytest.mark.parametrize("end", ["server", "agent"])
def test_who_does_not_come_back_in_time(end: str) -> None:
    pair = joined()
    _, sink, _, far_ear = opened(pair)
    cut(pair)
    owner, hears = (pair.server, sink) if end == "server" else (pair.agent, far_ear)
    owner.session.tick(pair.now + TIMEOUT - 0.1)
    assert owner.over is None and hears.over is None
    owner.session.tick(pair.now + TIMEOUT)
    assert reason_of(owner) == (Code.SILENCE, "no link for 60 s")
    assert hears.over == (Code.GOING_AWAY, "no link for 60 s")


def test_silence_costs_the_link_and_not_the_session() -> None:
    pair = joined()
    pair.server.session.tick(pair.now + DEAD_AFTER)
    assert (pair.server.over, pair.server.links) == (None, ["nothing heard for 12 s"])


def test_a_second_break_before_the_answer() -> None:
    pair = joined()
    _, sink, far, _ = opened(pair)
    pair.agent.session.send_head(far, ANSWER, end=True)
    cut(pair)
    restore(pair)
    cut(pair)
    restore(pair)
    pair.pump()
    assert sink.heads == [ANSWER] and sink.ended
    assert pair.server.links == ["cut", "back", "cut", "back"]
    assert pair.agent.links == ["cut", "back"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"secret": "0" * 64}, "no such session"),
        ({"attempt": 0}, "a later connection has asked already"),
        ({"received": 10**6}, "1000000 frames received, which cannot be"),
    ],
)
def test_who_does_not_get_a_session(change: dict[str, Any], reason: str) -> None:
    pair = joined()
    opened(pair)
    cut(pair)
    wanted = ask(pair)
    assert pair.server.session.refusal(wanted.model_copy(update=change)) == reason
    assert pair.server.session.refusal(wanted) is None


def test_a_connection_that_comes_late_is_not_believed() -> None:
    pair = joined()
    cut(pair)
    first, second = ask(pair), ask(pair)
    pair.server.session.reattach(second, pair.now)
    assert pair.server.session.refusal(first) == "a later connection has asked already"


def test_what_was_acknowledged_cannot_be_asked_for_again() -> None:
    pair = joined()
    stream, _, _, _ = opened(pair)
    for _ in range(ACK_FRAMES):
        pair.server.session.send_data(stream, b"x")
        pair.pump()
    cut(pair)
    wanted = ask(pair)
    assert pair.server.session.refusal(wanted.model_copy(update={"received": 0})) is not None


def test_a_session_that_ends_with_its_link_is_not_given_back() -> None:
    wanted = Resume(session=SESSION_ID, secret=SECRET, received=0, attempt=1)
    assert server(SessionOptions(capabilities=())).session.refusal(wanted) == "no such session"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resumed": False}, "WELCOME of another session"),
        ({"session": "f" * 32}, "WELCOME of another session"),
        ({"received": 1}, "1 frames received, 2 were before"),
    ],
)
def test_an_answer_to_a_request_for_the_session_that_cannot_be(
    change: dict[str, Any], reason: str
) -> None:
    resumption = Resumption()
    resumption.record(frames(1, 2), 2)
    resumption.acknowledge(2)
    answer = WELCOME.model_copy(update={"resumed": True, "received": 2})
    resumption.check_answer(answer, SESSION_ID)
    with pytest.raises(RemoteProtocolError, match=reason):
        resumption.check_answer(answer.model_copy(update=change), SESSION_ID)


def test_an_acknowledgement_without_its_number_breaks_the_protocol() -> None:
    pair = joined()
    pair.server.feed(encode(T.ACK, 0, 0, bytes(7)))
    assert reason_of(pair.server) == (Code.PROTOCOL_ERROR, "ACK needs 8 bytes")


def test_another_worker_does_not_end_the_session() -> None:
    pair = joined()
    cut(pair)
    ask(pair)
    pair.agent.feed(encode(T.CLOSE, 0, 0, Code.WRONG_WORKER.to_bytes(2, "big") + b"worker 1"))
    assert pair.agent.over is None
    assert not pair.agent.session.attached


def test_a_refusal_ends_the_session() -> None:
    pair = joined()
    _, _, _, far_ear = opened(pair)
    cut(pair)
    ask(pair)
    pair.agent.feed(encode(T.CLOSE, 0, 0, Code.NOT_RESUMED.to_bytes(2, "big") + b"no such session"))
    assert reason_of(pair.agent) == (Code.NOT_RESUMED, "no such session")
    assert far_ear.over is not None


@pytest.mark.parametrize(
    "answer",
    [
        {"resumed": False},
        {"session": "0" * 32},
        {"received": 10**6},
    ],
)
def test_an_answer_that_is_none(answer: dict[str, Any]) -> None:
    pair = joined()
    cut(pair)
    ask(pair)
    welcome = Welcome(
        version=1,
        capabilities=list(CAPABILITIES),
        session=SESSION_ID,
        window=DEFAULT_WINDOW,
        max_streams=10,
        secret=SECRET,
        resumed=True,
    )
    pair.agent.feed(message(T.WELCOME, welcome.model_copy(update=answer)))
    assert reason_of(pair.agent)[0] is Code.PROTOCOL_ERROR


def test_an_end_that_does_not_offer_it_loses_the_session() -> None:
    plain = SessionOptions(capabilities=tuple(name for name in CAPABILITIES if name != RESUME))
    pair = joined(agent_options=plain)
    pair.server.session.lost("cut", pair.now)
    assert reason_of(pair.server) == (Code.GOING_AWAY, "cut")


def test_data_waits_for_acknowledgements_and_heads_do_not() -> None:
    budget = 64 * 1024
    pair = joined(
        server_options=SessionOptions(replay_bytes=budget),
        agent_options=SessionOptions(window=1 << 20),
    )
    stream, _, _, _ = opened(pair)
    for _ in range(100):
        pair.server.session.send_data(stream, bytes(10_000))
    while pair.send(pair.server):
        pass
    kept = pair.server.session.resumption
    assert kept is not None
    assert budget <= kept.unacknowledged < 3 * budget
    assert not pair.server.session.has_output
    pair.server.open()
    assert (T.OPEN, 4) in [(T(kind), number) for kind, _, number, _ in pair.server.sent()]


def test_who_acknowledges_nothing_is_left() -> None:
    pair = joined(server_options=SessionOptions(replay_bytes=1000))
    pair.server.session.tick(0.1)
    while pair.server.session.can_open:
        pair.server.open(REQUEST)
        pair.server.session.data_to_send(1 << 20)
    assert 4 * 1000 <= pair.server.session.unacknowledged < 4 * 1000 + 500
    pair.server.session.tick(1.0)
    assert reason_of(pair.server) == (Code.OVERLOADED, "the other end acknowledges nothing")


def test_nothing_is_said_after_close() -> None:
    pair = joined()
    stream, _, _, _ = opened(pair)
    for _ in range(ACK_FRAMES):
        pair.server.session.send_data(stream, b"x")
    pair.send(pair.server)
    pair.deliver(pair.agent)
    pair.agent.session.close(Code.GOING_AWAY, "enough")
    assert [T(kind) for kind, *_ in pair.agent.sent()] == [T.CLOSE]
    pair.server.session.send_data(stream, b"x")
    pair.send(pair.server)
    pair.deliver(pair.agent)
    assert pair.agent.sent() == []


def test_what_is_kept_is_what_was_written_and_no_copy_of_it() -> None:
    pair = joined()
    session = pair.server.session
    assert session.resumption is not None
    session.open_stream(REQUEST, RecordingSink(), end=True, now=1.0)
    written = session.data_to_send(1 << 20)
    assert written and session.resumption._writes[-1][1] is written


def test_nothing_kept_while_both_are_idle() -> None:
    pair = joined()
    opened(pair)
    pair.now += 1
    for owner in (pair.server, pair.agent):
        owner.session.tick(pair.now)
    pair.pump()
    for owner in (pair.server, pair.agent):
        assert owner.session.resumption is not None
        assert owner.session.resumption.unacknowledged == 0


def test_a_door_without_the_session_hears_nothing_more() -> None:
    acceptor = Owner(dialer=False)
    wanted = Resume(session=SESSION_ID, secret=SECRET, received=0, attempt=1)
    hello = HELLO.model_copy(update={"capabilities": [RESUME], "resume": wanted})
    acceptor.feed(message(T.HELLO, hello))
    assert acceptor.wanted == wanted
    acceptor.session.supersede()
    acceptor.feed(encode(T.READY, 0, 0, b""))
    assert acceptor.session.phase is Phase.CLOSED
    assert (acceptor.over, acceptor.messages, acceptor.sent()) == (None, [], [])


class Breaking(RuleBasedStateMachine):
    """Two sessions, a link that breaks anywhere, a clock.

    What arrives is what was sent: all, once, in order.
    """

    @initialize(
        window=st.sampled_from([16384, DEFAULT_WINDOW]), budget=st.sampled_from([5000, 100_000])
    )
    def begin(self, window: int, budget: int) -> None:
        options = SessionOptions(window=window, replay_bytes=budget)
        self.pair = joined(server_options=options, agent_options=options)
        self.linked = True
        self.sent: dict[tuple[str, int], bytes] = {}
        self.numbers = 0

    def owners(self) -> dict[str, Owner]:
        return {"server": self.pair.server, "agent": self.pair.agent}

    @precondition(lambda self: self.pair.server.session.can_open)
    @rule()
    def open(self) -> None:
        stream, _ = self.pair.server.open(now=self.pair.now)
        self.sent["server", stream.id] = b""

    @rule(data=st.data(), size=st.integers(1, 9_000), end=st.booleans())
    def say(self, data: st.DataObject, size: int, end: bool) -> None:
        name = data.draw(st.sampled_from(["server", "agent"]))
        owner = self.owners()[name]
        if not owner.session.streams:
            return
        stream = owner.session.streams[data.draw(st.sampled_from(sorted(owner.session.streams)))]
        if stream.sending.name == "HEAD":
            owner.session.send_head(stream, ANSWER)
            self.sent["agent", stream.id] = b""
        elif stream.sending.name == "BODY" and not stream.blocked:
            self.numbers += 1
            content = (b"%d," % self.numbers) * (size // 4 + 1)
            owner.session.send_data(stream, content, end=end)
            self.sent[name, stream.id] += content

    @rule(
        name=st.sampled_from(["server", "agent"]),
        budget=st.integers(1, 100_000),
        count=st.integers(1, 60_000),
    )
    def carry(self, name: str, budget: int, count: int) -> None:
        owner = self.owners()[name]
        data = owner.session.data_to_send(budget)
        if self.linked:
            other = self.pair.other(owner)
            self.pair.wires[other] += data
            self.pair.deliver(other, count)
            self.hand_on(other)

    def hand_on(self, owner: Owner) -> None:
        for stream in list(owner.session.streams.values()):
            owner.session.consumed(stream, stream.window.unconsumed, self.pair.now)

    @rule(seconds=st.floats(0.1, 3))
    def wait(self, seconds: float) -> None:
        self.pair.now += seconds
        for owner in self.owners().values():
            if owner.session.attached:
                owner.session.keepalive.heard(self.pair.now)
            owner.session.tick(self.pair.now)

    @precondition(lambda self: self.linked)
    @rule(
        arrives=st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)), noticed=st.booleans()
    )
    def break_link(self, arrives: tuple[int, int], noticed: bool) -> None:
        for owner, count in zip((self.pair.server, self.pair.agent), arrives, strict=True):
            self.pair.send(self.pair.other(owner), 50_000)
            self.pair.deliver(owner, count)
            self.hand_on(owner)
            self.pair.wires[owner].clear()
        self.pair.agent.session.lost("broken", self.pair.now)
        if noticed:
            self.pair.server.session.lost("broken", self.pair.now)
        self.linked = False

    @precondition(
        lambda self: (
            not self.linked and self.pair.agent.over is None and self.pair.server.over is None
        )
    )
    @rule(answered=st.booleans())
    def restore(self, answered: bool) -> None:
        wanted = ask(self.pair)
        if answered:
            assert self.pair.server.session.refusal(wanted) is None
            self.pair.server.session.reattach(wanted, self.pair.now)
            self.linked = True

    @invariant()
    def is_a_prefix(self) -> None:
        for name, owner in self.owners().items():
            for number, sink in owner.sinks.items():
                said = self.sent.get(
                    (next(key for key in self.owners() if key != name), number), b""
                )
                assert said.startswith(bytes(sink.body))
                assert not (sink.over and owner.over is None), "a stream does not end by itself"

    def teardown(self) -> None:
        if not hasattr(self, "pair") or self.pair.agent.over or self.pair.server.over:
            return
        if not self.linked:
            restore(self.pair)
        for _ in range(100):
            self.pair.pump()
            for owner in self.owners().values():
                self.hand_on(owner)
                owner.session.keepalive.heard(self.pair.now)
                owner.session.tick(self.pair.now)
            self.pair.now += 1
            if all(self.heard(name, number) == said for (name, number), said in self.sent.items()):
                return
        raise AssertionError("not all has arrived")

    def heard(self, name: str, number: int) -> bytes:
        """Return the bytes that have arrived from `name` on a stream."""
        sink = (self.pair.agent if name == "server" else self.pair.server).sinks.get(number)
        return bytes(sink.body) if sink else b""


TestBreaking = pytest.mark.slow(Breaking.TestCase)
TestBreaking.settings = settings(stateful_step_count=40)
