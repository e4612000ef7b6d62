"""Tests of session statistics, against an independent count of the memory."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.tunnel import Pair, RecordingSink, joined
from zerotrust.tunnel.binary import pack_head
from zerotrust.tunnel.codes import Code, FrameType
from zerotrust.tunnel.session import Session, SessionOptions
from zerotrust.tunnel.session_stats import SessionStats, StallCounter
from zerotrust.tunnel.stream import StreamState

T = FrameType
ANSWER = pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n")


def usage_of(*sessions: Session) -> SessionStats:
    usage = SessionStats()
    for session in sessions:
        usage.add(session)
    return usage


def answering(pair: Pair) -> int:
    """A stream on which the agent answers; its number."""
    stream, _ = pair.server.open(end=True)
    pair.pump()
    session = pair.agent.session
    session.send_head(session.streams[stream.id], pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n"))
    pair.pump()
    return stream.id


def test_what_arrived_counts_until_it_is_handed_on() -> None:
    pair = joined()
    number = answering(pair)
    pair.agent.session.send_data(pair.agent.session.streams[number], bytes(1000))
    pair.pump()
    session = pair.server.session
    assert (usage_of(session).unconsumed, usage_of(session).bytes) == (
        1000,
        1000 + session.unacknowledged,
    )
    session.consumed(session.streams[number], 600, 0.0)
    assert usage_of(session).unconsumed == 400
    session.close(Code.NO_ERROR)
    assert usage_of(session).unconsumed == 0


def test_frames_that_wait_for_the_link_count() -> None:
    session = joined().server.session
    before = usage_of(session).bytes
    session.open_stream(bytes(20_000), RecordingSink(), end=True, now=0.0)
    usage = usage_of(session, session)
    assert usage.unwritten == 2 * session.outbox.unwritten > 2 * 20_000
    assert usage.bytes == 2 * (before + session.outbox.unwritten) == 2 * usage.most
    session.data_to_send(1 << 20)
    assert usage_of(session).unwritten == 0


def test_sums() -> None:
    pair, other = joined(), joined()
    answering(pair)
    other.server.session.lost("gone", 1.0)
    usage = usage_of(pair.server.session, other.server.session)
    assert (usage.sessions, usage.detached, usage.streams, usage.stalled) == (2, 1, 1, 0)
    assert usage.most == pair.server.session.unacknowledged > 0
    both = SessionStats()
    both.include(usage)
    both.include(usage_of(joined().server.session))
    assert (both.sessions, both.detached, both.streams, both.most) == (3, 1, 1, usage.most)


@settings(max_examples=examples(60))
@given(st.randoms(use_true_random=False))
def test_what_is_queued_is_what_the_streams_have_queued(rng: random.Random) -> None:
    pair = joined(agent_options=SessionOptions(replay_bytes=200_000))
    session = pair.agent.session
    numbers = [answering(pair) for _ in range(3)]
    for _ in range(40):
        stream = session.streams.get(rng.choice(numbers))
        match rng.randrange(5):
            case 0 | 1 if stream is not None and stream.sending is StreamState.BODY:
                session.send_data(
                    stream, bytes(rng.choice((10, 5_000, 90_000))), end=rng.random() < 0.05
                )
            case 2:
                pair.send(pair.agent, rng.choice((1_000, 40_000, 1 << 20)))
                pair.deliver(pair.server)
            case 3:
                server = pair.server.session
                for one in list(server.streams.values()):
                    server.consumed(one, one.window.unconsumed, 0.0)
                pair.send(pair.server)
                pair.deliver(pair.agent)
            case 4 if stream is not None and rng.random() < 0.1:
                session.reset(stream, Code.CANCELLED)
        assert session.outbox.queued == sum(one.queued for one in session.streams.values())
        assert session.unconsumed == sum(one.window.unconsumed for one in session.streams.values())


def stalled() -> Pair:
    """The agent may keep 100,000 bytes, and has sent more than that without an acknowledgement."""
    pair = joined(agent_options=SessionOptions(replay_bytes=100_000))
    session = pair.agent.session
    for _ in range(3):
        session.send_data(session.streams[answering(pair)], bytes(60_000))
    pair.send(pair.agent)
    return pair


def test_a_session_that_may_keep_no_more_stands_still_and_goes_on() -> None:
    pair = stalled()
    session = pair.agent.session
    assert not session.outbox.has_room
    assert session.outbox.stalls == 1
    assert usage_of(session).unacknowledged >= 100_000
    assert usage_of(session).stalled == 1
    pair.deliver(pair.server)
    pair.pump()
    pair.server.session.tick(1.0)
    pair.pump()
    assert session.outbox.has_room
    assert session.outbox.stalls == 1


def test_stalls_are_counted_beyond_the_end_of_their_session() -> None:
    stalls, first, second = StallCounter(), stalled().agent.session, stalled().agent.session
    stalls.note([first])
    assert stalls.total == 1
    stalls.note([first, second])
    assert stalls.total == 2
    stalls.note([second])
    stalls.note([])
    assert stalls.total == 2
