import gc
import weakref
from collections.abc import Callable

import pytest

from tests.support.tunnel import (
    HELLO,
    REQUEST,
    WELCOME,
    Owner,
    Pair,
    RecordingSink,
    agent,
    joined,
    message,
    reason_of,
    serve,
    server,
    window,
)
from zerotrust.errors import LocalProtocolError
from zerotrust.tunnel.binary import (
    MAX_HEAD_FRAME_BYTES,
    MAX_HEAD_PAYLOAD_BYTES,
    MAX_OPEN_PAYLOAD_BYTES,
    pack_head,
    pack_reason,
    unpack_reason,
)
from zerotrust.tunnel.codes import END, INTERIM, MORE, RESUME, Code, FrameType
from zerotrust.tunnel.frames import MAX_PAYLOAD, MAX_STREAM_ID, encode
from zerotrust.tunnel.messages import (
    ControlMessage,
    Hello,
    Members,
    Ready,
    Register,
    Registered,
    Renew,
    Renewed,
    ServiceHealth,
    Unregister,
    decode,
)
from zerotrust.tunnel.outbox import HIGH_WATER
from zerotrust.tunnel.session import EndedBy, SessionOptions
from zerotrust.tunnel.stream import QUANTUM, Stream, StreamState
from zerotrust.tunnel.window import DEFAULT_WINDOW

T = FrameType
ANSWER = pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n")
PING = encode(T.PING, 0, 0, b"12345678")
HEALTHY = ServiceHealth(id="web", healthy=1, upstreams=1)
RESET = encode(T.RESET, 0, 2, pack_reason(Code.CANCELLED, "gone"))


# ---- services


def test_services_are_registered_and_answered() -> None:
    pair = joined()
    offers = [Register(id="web", hosts=["a.example"]), Ready(), Unregister(id="web")]
    answer = Registered(id="web", accepted=["a.example"], refused={"b": "taken"})
    for offer in offers:
        pair.agent.session.send(offer)
    pair.server.session.send(answer)
    pair.pump()
    assert pair.server.messages == offers
    assert pair.agent.messages == [answer]


@pytest.mark.parametrize(
    ("dialer", "content"),
    [
        (True, Register(id="web", hosts=["a.example"])),
        (True, Unregister(id="web")),
        (True, Ready()),
        (True, Renew(csr="-")),
        (True, Renewed(reason="no")),
        (True, HEALTHY),
        (False, HEALTHY),
        (False, Registered(id="web")),
        (False, Renewed(reason="no")),
        (False, Renew(csr="-")),
        (True, Members(members=[])),
        (False, Members(members=[])),
    ],
)
def test_a_message_for_the_other_end_or_without_its_capability_breaks_the_protocol(
    dialer: bool, content: ControlMessage
) -> None:
    owner = agent() if dialer else server()
    owner.feed(message(content.frame_type, content))
    code, reason = reason_of(owner)
    assert code is Code.PROTOCOL_ERROR
    assert reason == f"a frame of type {content.frame_type:#04x} is not expected here"
    assert not owner.messages


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff"])
def test_the_payload_of_ready_is_ignored(payload: bytes) -> None:
    owner = server()
    owner.feed(encode(T.READY, 0, 0, payload))
    assert owner.messages == [Ready()]


def test_certificates_are_renewed_where_both_ends_offer_it() -> None:
    pair = joined()
    pair.agent.session.send(Renew(csr="-"))
    pair.server.session.send(Renewed(reason="no"))
    pair.pump()
    assert pair.server.messages == [Renew(csr="-")]
    assert pair.agent.messages == [Renewed(reason="no")]


def test_an_answer_that_fits_into_no_frame_ends_the_session_and_raises_nothing() -> None:
    """Long host names of a hostile agent can make the answer longer than the request."""
    owner = server()
    owner.session.send(
        Registered(id="web", refused={f"{n}." + "x" * 250: "taken by another" for n in range(256)})
    )
    assert reason_of(owner)[0] is Code.INTERNAL


def test_going_away_stops_new_streams_only() -> None:
    pair = joined()
    stream, _ = pair.server.open()
    pair.agent.session.go_away(Code.GOING_AWAY, "restart")
    pair.pump()
    assert pair.server.goaway == (Code.GOING_AWAY, "restart")
    assert not pair.server.session.can_open
    with pytest.raises(LocalProtocolError):
        pair.server.open()
    pair.server.session.send_data(stream, b"x", end=True)
    pair.pump()
    assert bytes(pair.agent.sinks[stream.id].body) == b"x"


def test_a_session_tells_who_has_ended_it() -> None:
    pair = Pair()
    pair.pump()
    assert pair.server.session.end is None
    pair.agent.session.close(Code.GOING_AWAY, "a restart")
    pair.pump()
    assert pair.agent.session.end == (EndedBy.HERE, Code.GOING_AWAY)
    assert pair.server.session.end == (EndedBy.PEER, Code.GOING_AWAY)


@pytest.mark.parametrize(("resumable", "code"), [(True, Code.SILENCE), (False, Code.GOING_AWAY)])
def test_a_session_whose_link_is_lost_says_so(resumable: bool, code: Code) -> None:
    pair = Pair() if resumable else Pair(agent_options=SessionOptions(capabilities=()))
    pair.pump()
    session = pair.server.session
    session.lost("cut", 0.0)
    session.tick(10_000.0)
    assert session.end == (EndedBy.LINK, code)


@pytest.mark.parametrize(
    ("code", "told"), [(Code.NOT_ALLOWED, Code.NOT_ALLOWED), (Code.SUPERSEDED, Code.GOING_AWAY)]
)
def test_a_closed_session_tells_its_streams_once_and_delivers_nothing_more(
    code: Code, told: Code
) -> None:
    pair = joined()
    stream, sink = pair.server.open()
    pair.pump()
    answering = pair.agent.session.streams[stream.id]
    pair.agent.session.send_head(answering, ANSWER)
    pair.agent.session.send_data(answering, b"in flight", end=True)
    pair.agent.session.send(Ready())
    pair.send(pair.agent)
    pair.server.session.close(code, "revoked")
    pair.deliver(pair.server)
    assert sink.over == (told, "revoked")
    assert not sink.heads and not sink.body and not pair.server.messages


class Knowing(RecordingSink):
    """A sink with a reference to its stream, as the product's sinks have."""

    stream: Stream


@pytest.mark.parametrize("by_reset", [False, True])
def test_a_stream_and_its_sink_end_without_the_garbage_collector(by_reset: bool) -> None:
    pair = joined()
    sink = Knowing()
    sink.stream = stream = pair.server.session.open_stream(REQUEST, sink, end=True, now=0.0)
    pair.pump()
    if by_reset:
        pair.server.session.reset(stream, Code.CANCELLED)
    else:
        pair.agent.session.send_head(pair.agent.session.streams[stream.id], ANSWER, end=True)
    pair.pump()
    assert not pair.server.session.streams
    alive = weakref.ref(sink)
    gc.disable()
    try:
        del sink, stream
        assert alive() is None
    finally:
        gc.enable()


# ---- a hostile peer, after the handshake

BREAKS_THE_LINK: dict[str, bytes] = {
    "HELLO twice": message(T.HELLO, HELLO),
    "WELCOME twice": message(T.WELCOME, WELCOME),
    "ACK without resumption": encode(T.ACK, 0, 0, bytes(8)),
    "type 0": encode(0, 0, 0),
    "type 0x15": encode(0x15, 0, 0),
    "type 0x26": encode(0x26, 0, 2),
    "type 0xff on an ended stream": RESET + encode(0xFF, 0, 2),
    "PING of 7": encode(T.PING, 0, 0, bytes(7)),
    "PING of 9": encode(T.PING, 0, 0, bytes(9)),
    "PING of nothing": encode(T.PING, 0, 0),
    "CLOSE of 1": encode(T.CLOSE, 0, 0, b"\0"),
    "GOAWAY of 0": encode(T.GOAWAY, 0, 0),
    "DATA on stream 0": encode(T.DATA, 0, 0, b"x"),
    "WINDOW on stream 0": window(0, 1),
    "DATA on a stream never opened": encode(T.DATA, 0, 44, b"x"),
    "DATA on one of the agent's, never opened": encode(T.DATA, 0, 1, b"x"),
    "RESET on a stream never opened": encode(T.RESET, 0, 8, bytes(2)),
    "WINDOW on a stream beyond all": window(0xFFFFFFFF, 1),
}
FROM_AN_AGENT: dict[str, bytes] = {
    "OPEN with an even id": encode(T.OPEN, 0, 4, REQUEST),
    "OPEN with id 0": encode(T.OPEN, 0, 0, REQUEST),
    "OPEN with an id out of range": encode(T.OPEN, 0, 0x80000001, REQUEST),
    "OPEN twice": encode(T.OPEN, 0, 3, REQUEST) * 2,
    "OPEN with a decreasing id": encode(T.OPEN, 0, 5, REQUEST) + encode(T.OPEN, 0, 3, REQUEST),
    "REGISTERED": message(T.REGISTERED, Registered(id="a")),
    "REGISTER of nothing": encode(T.REGISTER, 0, 0),
    "REGISTER too deep": encode(T.REGISTER, 0, 0, b'{"x":' * 13_000),
    "UNREGISTER of something else": encode(T.UNREGISTER, 0, 0, b"[]"),
}
FROM_A_SERVER: dict[str, bytes] = {
    "REGISTER": message(T.REGISTER, Register(id="a", hosts=["a"])),
    "UNREGISTER": message(T.UNREGISTER, Unregister(id="a")),
    "READY": encode(T.READY, 0, 0),
    "OPEN with an odd id": encode(T.OPEN, 0, 5, REQUEST),
    "REGISTERED of something else": encode(T.REGISTERED, 0, 0, b"0"),
}


def check_broken(owner: Owner, sinks: list[RecordingSink], attack: bytes) -> None:
    owner.feed(attack)
    assert reason_of(owner)[1]
    frames = owner.sent()
    assert (frames[-1][0], [f[0] for f in frames].count(T.CLOSE)) in ((T.CLOSE, 1), (T.CLOSE, 0))
    assert all(sink.over is not None for sink in sinks)
    assert not owner.session.streams and owner.session.unconsumed == 0
    owner.feed(attack, PING, window(2, 1), encode(T.DATA, 0, 2, b"late"), b"\x22")
    owner.session.tick(1000.0)
    owner.session.close(Code.INTERNAL)
    owner.session.lost("again", 0.0)
    owner.session.go_away(Code.GOING_AWAY)
    assert owner.sent() == [] and not owner.session.has_output


@pytest.mark.parametrize("attack", [*BREAKS_THE_LINK, *FROM_AN_AGENT])
def test_an_agent_that_breaks_the_rules(attack: str) -> None:
    owner = server()
    sinks = [owner.open()[1] for _ in range(3)]
    owner.sent()
    check_broken(owner, sinks, {**BREAKS_THE_LINK, **FROM_AN_AGENT}[attack])
    assert reason_of(owner)[0] is Code.PROTOCOL_ERROR


@pytest.mark.parametrize("attack", [*BREAKS_THE_LINK, *FROM_A_SERVER])
def test_a_server_that_breaks_the_rules(attack: str) -> None:
    owner = agent()
    sinks = [serve(owner, stream)[1] for stream in (2, 4, 6)]
    check_broken(owner, sinks, {**BREAKS_THE_LINK, **FROM_A_SERVER}[attack])
    assert reason_of(owner)[0] is Code.PROTOCOL_ERROR


BREAKS_THE_STREAM: dict[str, tuple[bytes, Code]] = {
    "DATA before HEAD": (encode(T.DATA, 0, 2, b"x"), Code.PROTOCOL_ERROR),
    "TRAILERS before HEAD": (encode(T.TRAILERS, END, 2, b""), Code.PROTOCOL_ERROR),
    "HEAD twice": (encode(T.HEAD, 0, 2, ANSWER) * 2, Code.PROTOCOL_ERROR),
    "INTERIM and END": (encode(T.HEAD, INTERIM | END, 2, ANSWER), Code.PROTOCOL_ERROR),
    "INTERIM after HEAD": (
        encode(T.HEAD, 0, 2, ANSWER) + encode(T.HEAD, INTERIM, 2, ANSWER),
        Code.PROTOCOL_ERROR,
    ),
    "33 INTERIM": (encode(T.HEAD, INTERIM, 2, ANSWER) * 33, Code.PROTOCOL_ERROR),
    "HEAD too large": (
        encode(T.HEAD, 0, 2, bytes(MAX_HEAD_FRAME_BYTES + 1)),
        Code.PROTOCOL_ERROR,
    ),
    "TRAILERS without END": (
        encode(T.HEAD, 0, 2, ANSWER) + encode(T.TRAILERS, 0, 2, b""),
        Code.PROTOCOL_ERROR,
    ),
    "DATA with INTERIM": (
        encode(T.HEAD, 0, 2, ANSWER) + encode(T.DATA, INTERIM, 2, b"x"),
        Code.PROTOCOL_ERROR,
    ),
    "DATA after END": (
        encode(T.HEAD, END, 2, ANSWER) + encode(T.DATA, 0, 2, b"x"),
        Code.PROTOCOL_ERROR,
    ),
    "DATA beyond credit": (
        encode(T.HEAD, 0, 2, ANSWER)
        + encode(T.DATA, 0, 2, bytes(DEFAULT_WINDOW - 1))
        + encode(T.DATA, 0, 2, b"xy"),
        Code.FLOW_CONTROL,
    ),
    "WINDOW beyond 2^31 - 1": (window(2, 2**31 - DEFAULT_WINDOW), Code.FLOW_CONTROL),
    "WINDOW of 3 bytes": (encode(T.WINDOW, 0, 2, bytes(3)), Code.PROTOCOL_ERROR),
    "RESET of 1 byte": (encode(T.RESET, 0, 2, b"\0"), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("attack", BREAKS_THE_STREAM)
def test_a_broken_stream_is_reset_and_the_others_go_on(attack: str) -> None:
    frames, code = BREAKS_THE_STREAM[attack]
    owner = server()
    (_, bad), (other, good) = owner.open(), owner.open()
    owner.sent()
    owner.feed(frames, frames)
    assert owner.over is None
    assert bad.over is not None and bad.over[0] is code
    assert owner.said() == [(T.RESET, 2)]
    assert list(owner.session.streams) == [other.id] and owner.session.unconsumed == 0
    owner.feed(encode(T.HEAD, 0, other.id, ANSWER), encode(T.DATA, END, other.id, b"fine"))
    assert bytes(good.body) == b"fine" and good.ended and good.over is None


@pytest.mark.parametrize("attack", BREAKS_THE_STREAM)
def test_a_stream_is_reset_even_where_nobody_listens(attack: str) -> None:
    owner = agent()
    owner.accept = lambda stream, payload, end: None
    owner.feed(
        encode(T.OPEN, 0, 2, REQUEST),
        BREAKS_THE_STREAM[attack][0] * 2,
        encode(T.HEAD, 0, 2, ANSWER),
    )
    assert owner.over is None and owner.said() == [(T.RESET, 2)]


HARMLESS: dict[str, bytes] = {
    "PONG unsolicited": encode(T.PONG, 0, 0, bytes(8))
    + encode(T.PONG, 0, 0)
    + encode(T.PONG, 0, 0, bytes(100)),
    "WINDOW 0": window(2, 0),
    "WINDOW up to 2^31 - 1": window(2, 2**31 - 1 - DEFAULT_WINDOW),
    "32 INTERIM": encode(T.HEAD, INTERIM, 2, ANSWER) * 32,
    "unknown flags": encode(T.HEAD, 0xF0, 2, ANSWER) + encode(T.DATA, 0xF0, 2, b"x"),
    "frames of a control type with a stream": encode(T.PING, 0, 2, bytes(8)),
}


@pytest.mark.parametrize("frames", HARMLESS)
def test_what_is_odd_and_allowed(frames: str) -> None:
    owner = server()
    _, sink = owner.open()
    owner.feed(HARMLESS[frames])
    assert owner.over is None and sink.over is None and 2 in owner.session.streams


@pytest.mark.parametrize("kind", [T.HEAD, T.DATA, T.TRAILERS, T.WINDOW, T.RESET])
def test_a_late_frame_for_an_ended_stream_is_ignored(kind: FrameType) -> None:
    owner = server()
    stream, sink = owner.open()
    owner.session.reset(stream, Code.CANCELLED)
    sink.silenced = True
    owner.sent()
    owner.feed(encode(kind, END, 2, bytes(4)))
    assert owner.over is None and owner.said() == []


def test_end_on_a_reset_is_a_reset() -> None:
    owner = server()
    _, sink = owner.open()
    owner.feed(encode(T.RESET, END, 2, pack_reason(99, "a\x1b[31m\nb")))
    assert sink.over == (Code.INTERNAL, "a?[31m?b")
    assert not owner.session.streams


def test_reasons_of_the_peer_are_printable() -> None:
    owner = server()
    owner.feed(
        encode(T.GOAWAY, 0, 0, b"\0\x0a\x07\r\n\xff"),
        encode(T.CLOSE, 0, 0, b"\0\x0a\x00" + b"x" * 400),
    )
    assert owner.goaway == (Code.GOING_AWAY, "???\ufffd")
    assert reason_of(owner) == (Code.GOING_AWAY, "?" + "x" * 255)


def test_empty_data_is_not_an_event() -> None:
    """It costs no credit, and as a chunk of an HTTP body it would end it."""
    owner = server()
    _, sink = owner.open()
    owner.feed(encode(T.HEAD, 0, 2, ANSWER), encode(T.DATA, 0, 2) * 100, encode(T.DATA, END, 2))
    assert sink.ended


def test_streams_beyond_the_limit_are_refused() -> None:
    owner = agent(SessionOptions(max_streams=2))
    for stream in (2, 4, 6, 8):
        owner.feed(encode(T.OPEN, 0, stream, REQUEST))
    assert list(owner.sinks) == [2, 4]
    frames = owner.sent()
    assert [(f[2], f[3][:2]) for f in frames if f[0] == T.RESET] == [(6, b"\0\x04"), (8, b"\0\x04")]
    owner.feed(encode(T.RESET, 0, 2, bytes(2)), encode(T.OPEN, 0, 10, REQUEST))
    assert 10 in owner.sinks


def test_a_request_whose_head_is_too_large_is_reset() -> None:
    owner = agent()
    owner.feed(encode(T.OPEN, 0, 2, bytes(MAX_HEAD_FRAME_BYTES + 1)))
    assert owner.said() == [(T.RESET, 2)] and not owner.sinks and owner.over is None


# ---- heads in several frames

PART = bytes(MAX_HEAD_FRAME_BYTES)


@pytest.mark.parametrize("size", [0, 1, MAX_HEAD_FRAME_BYTES, MAX_HEAD_FRAME_BYTES + 1, 1 << 17])
def test_a_large_head_takes_several_frames(size: int) -> None:
    pair = joined()
    stream, sink = pair.server.open(REQUEST + bytes(min(size, 1 << 16)))
    pair.pump()
    [asked] = pair.agent.sinks.values()
    assert pair.agent.payloads[stream.id] == REQUEST + bytes(min(size, 1 << 16))
    answering = pair.agent.session.streams[stream.id]
    pair.agent.session.send_head(answering, ANSWER + bytes(size), end=True)
    pair.pump()
    assert sink.heads == [ANSWER + bytes(size)]
    assert asked.over is None and sink.over is None


def test_heads_have_a_maximum() -> None:
    pair = joined()
    with pytest.raises(LocalProtocolError):
        pair.server.open(bytes(MAX_OPEN_PAYLOAD_BYTES + 1))
    stream, _ = pair.server.open(bytes(MAX_OPEN_PAYLOAD_BYTES))
    pair.pump()
    answering = pair.agent.session.streams[stream.id]
    with pytest.raises(LocalProtocolError):
        pair.agent.session.send_head(answering, bytes(MAX_HEAD_PAYLOAD_BYTES + 1))
    pair.agent.session.send_head(answering, bytes(MAX_HEAD_PAYLOAD_BYTES))
    pair.pump()
    assert pair.server.over is None


def test_an_interim_head_takes_one_frame() -> None:
    pair = joined()
    _, sink = pair.server.open()
    pair.server.feed(encode(T.HEAD, MORE, 2, PART), encode(T.HEAD, INTERIM, 2, ANSWER))
    assert sink.over is not None and sink.over[0] is Code.PROTOCOL_ERROR
    assert pair.server.over is None


def test_a_request_that_is_too_large_in_all_is_reset() -> None:
    pair = joined()
    pair.agent.feed(encode(T.OPEN, MORE, 2, PART), encode(T.OPEN, 0, 2, PART))
    assert pair.agent.said() == [(T.RESET, 2)] and pair.agent.over is None


@pytest.mark.parametrize(
    "frames",
    [
        encode(T.HEAD, MORE, 2, PART[:-1]),
        encode(T.HEAD, MORE, 2, PART + b"x"),
        encode(T.HEAD, MORE, 2, PART) * 4,
        encode(T.TRAILERS, MORE | END, 2, PART),
        encode(T.HEAD, MORE, 2, PART) + encode(T.HEAD, 0, 4, ANSWER),
        encode(T.HEAD, MORE, 2, PART) + window(2, 1),
    ],
)
def test_parts_that_are_interrupted_or_too_many_break_the_protocol(frames: bytes) -> None:
    pair = joined()
    pair.server.open()
    pair.server.open()
    pair.pump()
    pair.server.feed(frames)
    assert reason_of(pair.server)[0] is Code.PROTOCOL_ERROR


def test_parts_of_a_head_for_a_stream_that_has_ended_are_ignored() -> None:
    pair = joined()
    stream, _ = pair.server.open()
    pair.server.session.reset(stream, Code.CANCELLED)
    pair.server.feed(encode(T.HEAD, MORE, 2, PART), encode(T.HEAD, END, 2, ANSWER))
    assert pair.server.over is None


def test_without_the_capability_the_flag_is_ignored() -> None:
    owner = server()
    _, sink = owner.open()
    owner.feed(encode(T.HEAD, MORE, 2, ANSWER))
    assert sink.heads == [ANSWER]


def test_a_peer_that_makes_us_answer_and_does_not_read_is_cut_off() -> None:
    """Data queued for a peer that does not read is bounded."""
    pinged = server()
    for _ in range(20):
        pinged.feed(PING * 1000)
    assert pinged.said() == [(T.PONG, 0)]

    flooded = agent(SessionOptions(max_streams=1))
    for stream in range(2, 2_000_000, 2):
        flooded.feed(encode(T.OPEN, 0, stream, b""))
        if flooded.over:
            break
    assert reason_of(flooded)[0] is Code.OVERLOADED

    asked = server()
    for _ in range(100_000):
        asked.session.send(Registered(id="a" * 100, accepted=["a"]))
        if asked.over:
            break
    assert reason_of(asked)[0] is Code.OVERLOADED


def test_what_is_held_is_bounded_for_the_session() -> None:
    owner = server(SessionOptions(max_unconsumed_bytes=100_000))
    sinks = [owner.open()[1] for _ in range(3)]
    owner.feed(*(encode(T.HEAD, 0, stream, ANSWER) for stream in (2, 4, 6)))
    owner.feed(*(encode(T.DATA, 0, stream, bytes(40_000)) for stream in (2, 4, 6)))
    assert [sink.over and sink.over[0] for sink in sinks] == [None, None, Code.OVERLOADED]
    assert owner.session.unconsumed == 80_000
    owner.session.consumed(owner.session.streams[2], 40_000, 0.0)
    owner.feed(encode(T.DATA, 0, 4, bytes(25_000)))
    assert sinks[1].over is None and owner.session.unconsumed == 65_000


# ---- what the owner does


def test_reset_twice_is_once() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.reset(stream, Code.CANCELLED)
    owner.session.reset(stream, Code.CANCELLED)
    owner.session.consumed(stream, 5, 0.0)
    assert owner.said() == [(T.OPEN, 2), (T.RESET, 2)]


def test_no_error_waits_for_the_answer_that_is_queued() -> None:
    """RESET NO_ERROR means that END was sent (section 2): it must not cut the answer short."""
    pair = joined()
    stream, sink = pair.server.open()
    pair.pump()
    answering = pair.agent.session.streams[stream.id]
    pair.agent.sinks[stream.id].silenced = True
    pair.agent.session.send_head(answering, ANSWER)
    pair.agent.session.send_data(answering, bytes(3 * DEFAULT_WINDOW), end=True)
    pair.agent.session.reset(answering, Code.NO_ERROR, "the answer is complete")
    pair.server.session.send_data(stream, b"still coming")
    while not sink.over:
        pair.pump()
        seen = (
            pair.server.session.streams[stream.id].window.unconsumed
            if stream.id in pair.server.session.streams
            else 0
        )
        pair.server.session.consumed(stream, seen, pair.now)
    assert len(sink.body) == 3 * DEFAULT_WINDOW and sink.ended
    assert sink.over[0] is Code.NO_ERROR
    assert not pair.agent.session.streams and pair.agent.session.unconsumed == 0


@pytest.mark.parametrize("late", [False, True])
def test_both_ends_may_leave_while_they_wait_for_credit(late: bool) -> None:
    """Data for an end that has reset its stream is dropped and its credit returned.

    Otherwise each end would wait for the other.
    """
    pair = joined()
    stream, _ = pair.server.open()
    pair.pump()
    answering = pair.agent.session.streams[stream.id]
    pair.agent.session.send_head(answering, ANSWER)
    halves = ((pair.server, stream), (pair.agent, answering))
    for owner, half in halves:
        owner.session.send_data(half, bytes(5 * DEFAULT_WINDOW), end=True)
    if late:
        pair.pump()
    for owner, half in halves:
        owner.session.reset(half, Code.NO_ERROR)
        owner.sinks[stream.id].silenced = True
    pair.pump()
    assert not pair.server.session.streams and not pair.agent.session.streams
    assert pair.server.session.unconsumed == pair.agent.session.unconsumed == 0


def test_no_error_with_trailers_queued() -> None:
    owner = agent()
    stream, sink = serve(owner)
    owner.session.send_head(stream, ANSWER)
    owner.session.send_trailers(stream, b"a: b\r\n")
    owner.session.reset(stream, Code.NO_ERROR)
    sink.silenced = True
    owner.session.reset(stream, Code.NO_ERROR)
    assert owner.said() == [(T.HEAD, 2), (T.TRAILERS, 2)]
    assert owner.said() == [(T.RESET, 2)]


def test_interim_heads_come_before_the_final_one() -> None:
    pair = joined()
    stream, ear = pair.server.open()
    pair.pump()
    answering = pair.agent.session.streams[stream.id]
    interims = [pack_head(2, 0, 0, b"HTTP/1.1 10%d X\r\n" % number) for number in (2, 3)]
    for payload in interims:
        pair.agent.session.send_head(answering, payload, interim=True)
    pair.agent.session.send_head(answering, ANSWER, end=True)
    pair.pump()
    assert (ear.interims, ear.heads, ear.ended) == (interims, [ANSWER], True)


def test_a_reset_of_a_stream_that_still_sends_after_no_error_ends_it() -> None:
    owner = agent()
    stream, sink = serve(owner)
    owner.session.send_head(stream, ANSWER)
    owner.session.send_data(stream, bytes(2 * DEFAULT_WINDOW), end=True)
    owner.session.reset(stream, Code.NO_ERROR)
    sink.silenced = True
    owner.said()
    assert owner.session.streams
    owner.feed(RESET)
    assert not owner.session.streams
    assert owner.said() == []


def test_another_sink_gets_all_later_events() -> None:
    pair = joined()
    heir = Owner(dialer=False)
    pair.server.session.set_sink(heir)
    pair.agent.session.send(Ready())
    pair.pump()
    assert heir.messages == [Ready()]
    assert pair.server.messages == []


def test_no_error_before_the_end_drops_what_is_queued() -> None:
    """The opener whose answer is complete has no use for the rest of its request."""
    owner = server()
    stream, _ = owner.open()
    owner.session.send_data(stream, bytes(QUANTUM + 1))
    owner.session.reset(stream, Code.NO_ERROR)
    assert owner.said() == [(T.OPEN, 2), (T.RESET, 2)]


def test_another_reset_does_not_wait_after_no_error() -> None:
    owner = agent()
    stream, _ = serve(owner)
    owner.session.send_head(stream, ANSWER)
    owner.session.send_data(stream, bytes(2 * QUANTUM), end=True)
    owner.session.reset(stream, Code.NO_ERROR)
    owner.session.reset(stream, Code.INTERNAL)
    assert owner.said() == [(T.HEAD, 2), (T.RESET, 2)]


def head(owner: Owner, stream: Stream) -> None:
    owner.session.send_head(stream, ANSWER)


def data(owner: Owner, stream: Stream) -> None:
    owner.session.send_data(stream, b"x")


MISUSE: dict[str, list[Callable[[Owner, Stream], object]]] = {
    "data before head": [data],
    "trailers before head": [lambda o, s: o.session.send_trailers(s, b"")],
    "a head too large": [lambda o, s: o.session.send_head(s, bytes(MAX_HEAD_FRAME_BYTES + 1))],
    "an interim head too large": [
        lambda o, s: o.session.send_head(s, bytes(MAX_HEAD_FRAME_BYTES + 1), interim=True)
    ],
    "a second head": [head, head],
    "data after end": [lambda o, s: o.session.send_head(s, ANSWER, end=True), data],
    "trailers too large": [head, lambda o, s: o.session.send_trailers(s, bytes(MAX_PAYLOAD + 1))],
    "data after reset": [lambda o, s: o.session.reset(s, Code.INTERNAL), data],
    "a request too large": [lambda o, s: o.open(bytes(MAX_HEAD_FRAME_BYTES + 1))],
}


@pytest.mark.parametrize("misuse", MISUSE)
def test_our_own_mistakes_are_told_at_once(misuse: str) -> None:
    owner = agent()
    stream, _ = serve(owner)
    *allowed, refused = MISUSE[misuse]
    for step in allowed:
        step(owner, stream)
    with pytest.raises(LocalProtocolError):
        refused(owner, stream)
    assert all(kind in (T.HEAD, T.RESET) for kind, _ in owner.said())


def test_nothing_can_be_opened_before_or_after_the_session() -> None:
    owner = Owner(dialer=True)
    assert not owner.session.can_open
    owner.session.lost("no luck", 0.0)
    assert owner.over == (Code.GOING_AWAY, "no luck") and not owner.session.can_open


def test_stream_ids_end() -> None:
    owner = server()
    owner.session.next_id = MAX_STREAM_ID - 1
    stream, _ = owner.open()
    assert stream.id == MAX_STREAM_ID - 1
    assert not owner.session.can_open


def test_the_peers_limit_on_streams_is_kept() -> None:
    pair = joined(agent_options=SessionOptions(max_streams=2))
    pair.server.open()
    stream, _ = pair.server.open()
    assert not pair.server.session.can_open
    pair.server.session.reset(stream, Code.CANCELLED)
    assert pair.server.session.can_open


def test_pings_and_silence() -> None:
    owner = server()
    owner.feed(b"", now=100.0)
    owner.session.tick(100.0)
    assert [frame[0] for frame in owner.sent()] == [T.PING]
    owner.session.tick(111.9)
    assert owner.over is None
    owner.session.tick(112.0)
    assert reason_of(owner)[0] is Code.SILENCE


def test_bytes_that_are_never_handed_on_get_no_credit() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.sent()
    owner.feed(encode(T.HEAD, 0, 2, ANSWER), encode(T.DATA, 0, 2, bytes(DEFAULT_WINDOW - 1)))
    assert owner.said() == []
    owner.session.consumed(stream, DEFAULT_WINDOW - 1, 0.0)
    assert owner.said() == [(T.WINDOW, 2)]


def test_after_the_end_there_is_no_credit_and_no_growth() -> None:
    owner = server()
    stream, _ = owner.open()
    owner.session.keepalive.round_trip = 10.0
    owner.sent()
    owner.feed(encode(T.HEAD, 0, 2, ANSWER), encode(T.DATA, END, 2, bytes(50_000)))
    owner.session.consumed(stream, 50_000, 0.1)
    assert (
        owner.said() == []
        and stream.window.size == DEFAULT_WINDOW
        and owner.session.unconsumed == 0
    )


# ---- sinks that act from within events


class Actor(RecordingSink):
    """A sink that acts in each event."""

    def __init__(self, act: Callable[[str], None]) -> None:
        super().__init__()
        self.act = act

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        super().head(payload, end=end, interim=interim)
        self.act("head")

    def data(self, payload: bytes, *, end: bool) -> None:
        super().data(payload, end=end)
        self.act("data")

    def trailers(self, payload: bytes) -> None:
        super().trailers(payload)
        self.act("trailers")

    def reset(self, code: Code, reason: str) -> None:
        super().reset(code, reason)
        self.act("reset")

    def writable(self) -> None:
        super().writable()
        self.act("writable")


EVENTS: dict[str, bytes] = {
    "head": encode(T.HEAD, 0, 2, ANSWER),
    "data": encode(T.HEAD, 0, 2, ANSWER) + encode(T.DATA, END, 2, b"x"),
    "trailers": encode(T.HEAD, 0, 2, ANSWER) + encode(T.TRAILERS, END, 2, b"a: b\r\n"),
    "reset": RESET,
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("deed", ["close", "lost", "reset", "reset others", "end", "open"])
def test_a_sink_may_do_anything_within_an_event(event: str, deed: str) -> None:
    owner = server()

    def act(heard: str) -> None:
        if heard != event:
            return
        session = owner.session
        if deed == "close":
            session.close(Code.INTERNAL, "enough")
        elif deed == "lost":
            session.lost("enough", 0.0)
        elif deed == "reset":
            session.reset(stream, Code.CANCELLED)
            actor.silenced = True
        elif deed == "reset others":
            session.reset(other, Code.CANCELLED)
            bystander.silenced = True
        elif deed == "end" and stream.sending is StreamState.BODY:
            session.send_data(stream, bytes(QUANTUM * 3), end=True)
        elif deed == "open":
            owner.open(end=True)

    actor = Actor(act)
    stream = owner.session.open_stream(REQUEST, actor, end=False, now=0.0)
    other, bystander = owner.open()
    owner.feed(EVENTS[event], encode(T.HEAD, 0, 4, ANSWER), EVENTS[event])
    closing = deed in ("close", "lost")
    assert (owner.over is not None) == closing
    if closing:
        assert actor.over and bystander.over and not owner.session.streams
    frames = owner.sent()
    assert (bool(frames) and frames[-1][0] == T.CLOSE) == (deed == "close")


def test_nothing_is_writable_after_a_neighbour_has_reset_it() -> None:
    """Both queues drain in one turn; the first callback resets the other stream."""
    owner = server()
    actors: list[Actor] = []
    streams: list[Stream] = []

    def act(heard: str) -> None:
        if heard == "writable":
            for actor, stream in zip(actors, streams, strict=True):
                if not actor.drained:
                    owner.session.reset(stream, Code.CANCELLED)
                    actor.silenced = True

    for _ in range(2):
        actors.append(Actor(act))
        streams.append(owner.session.open_stream(REQUEST, actors[-1], end=False, now=0.0))
        owner.feed(window(streams[-1].id, 10 << 20))
        assert not owner.session.send_data(streams[-1], bytes(HIGH_WATER + 1))
    owner.sent()
    assert sorted(actor.drained for actor in actors) == [0, 1]


@pytest.mark.parametrize("deed", ["close", "end", "reset"])
def test_writable_may_do_anything(deed: str) -> None:
    owner = server()

    def act(heard: str) -> None:
        if heard == "writable" and deed == "close":
            owner.session.close(Code.INTERNAL)
        elif heard == "writable" and deed == "end":
            owner.session.send_data(stream, b"last", end=True)
        elif heard == "writable":
            owner.session.reset(stream, Code.CANCELLED)
            actor.silenced = True

    actor = Actor(act)
    stream = owner.session.open_stream(REQUEST, actor, end=False, now=0.0)
    owner.feed(window(2, 10 << 20))
    owner.session.send_data(stream, bytes(HIGH_WATER + 1))
    frames = owner.sent() + owner.sent()
    assert frames[-1][0] == {"close": T.CLOSE, "end": T.DATA, "reset": T.RESET}[deed]
    assert actor.drained == 1 and not owner.session.has_output


@pytest.mark.parametrize("deed", ["close", "answer"])
def test_an_owner_may_act_while_a_stream_is_opened(deed: str) -> None:
    owner = agent()

    def accept(stream: Stream, payload: bytes, end: bool) -> RecordingSink:
        if deed == "close":
            owner.session.close(Code.INTERNAL)
        else:
            owner.session.send_head(stream, ANSWER, end=True)
        return RecordingSink()

    owner.accept = accept
    owner.feed(encode(T.OPEN, END, 2, REQUEST), PING)
    assert not owner.session.streams
    assert (owner.over is not None) == (deed == "close")


# ---- sinks that raise although they must not


class FaultError(Exception):
    """A bug of a sink."""


class Faulty(RecordingSink):
    """A sink that raises in these events."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, self._fail)

    def _fail(self, *_: object, **__: object) -> None:
        raise FaultError


FAULTY, GOOD = 2, 4
POISON = {
    "opened": b"",
    "data": encode(FrameType.DATA, 0, FAULTY, b"x"),
    "trailers": encode(FrameType.TRAILERS, END, FAULTY, b"a: b\r\n"),
    "reset": encode(FrameType.RESET, 0, FAULTY, pack_reason(Code.CANCELLED, "gone")),
}


@pytest.mark.parametrize("also", [(), ("reset",)])
@pytest.mark.parametrize("event", POISON)
def test_a_sink_that_raises_costs_its_stream_and_no_other(
    event: str, also: tuple[str, ...]
) -> None:
    def take(stream: Stream, payload: bytes, end: bool) -> RecordingSink:
        if stream.id == FAULTY and event == "opened":
            raise FaultError
        return Faulty(event, *also) if stream.id == FAULTY else RecordingSink()

    owner = Owner(dialer=True)
    welcome = WELCOME.model_copy(
        update={"capabilities": [RESUME], "secret": "0" * 64, "resume_timeout": 60.0}
    )
    owner.feed(message(FrameType.WELCOME, welcome))
    owner.accept = take
    owner.sent()
    frames = [
        encode(FrameType.OPEN, 0, FAULTY, REQUEST),
        encode(FrameType.OPEN, 0, GOOD, REQUEST),
        encode(FrameType.DATA, 0, GOOD, b"before, "),
        POISON[event],
        encode(FrameType.DATA, END, GOOD, b"after"),
    ]
    with pytest.raises(FaultError):
        owner.feed(*frames)
    assert (bytes(owner.sinks[GOOD].body), owner.sinks[GOOD].ended) == (b"before, after", True)
    assert list(owner.session.streams) == [GOOD]
    resets = [
        (stream, unpack_reason(payload))
        for kind, _, stream, payload in owner.sent()
        if kind == FrameType.RESET
    ]
    assert resets == ([] if event == "reset" else [(FAULTY, (Code.INTERNAL, "internal error"))])
    owner.session.lost("broken", 1.0)
    owner.session.redial(2.0)
    ((_, _, _, hello),) = owner.sent()
    wanted = decode(Hello, hello).resume
    assert wanted is not None
    assert wanted.received == sum(map(bool, frames)), "the frame is not asked for again"


def test_a_sink_that_raises_with_an_answer_costs_its_stream_and_no_other() -> None:
    owner = joined().server
    faulty = owner.session.open_stream(REQUEST, Faulty("head"), end=True, now=0.0)
    good, sink = owner.open(end=True)
    with pytest.raises(FaultError):
        owner.feed(*[encode(FrameType.HEAD, END, stream.id, ANSWER) for stream in (faulty, good)])
    assert sink.heads == [ANSWER]
    assert not owner.session.streams
    assert (FrameType.RESET, faulty.id) in owner.said()


def test_an_owner_that_raises_with_a_control_frame_keeps_its_session() -> None:
    owner = joined().agent
    owner.message = Faulty("data").data  # type: ignore[assignment]
    with pytest.raises(FaultError):
        owner.feed(
            message(FrameType.REGISTERED, Registered(id="web")),
            encode(FrameType.OPEN, 0, GOOD, REQUEST),
        )
    assert list(owner.session.streams) == [GOOD]
    assert owner.over is None


def test_a_session_that_ends_tells_every_sink() -> None:
    owner = joined().server
    owner.session.open_stream(REQUEST, Faulty("reset"), end=True, now=0.0)
    _, sink = owner.open(end=True)
    with pytest.raises(FaultError):
        owner.session.close(Code.GOING_AWAY, "the end")
    assert sink.over is not None
    assert owner.over == (Code.GOING_AWAY, "the end")
