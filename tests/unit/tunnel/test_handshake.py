from collections.abc import Callable

import pytest

from tests.support.tunnel import (
    HELLO,
    SESSION_ID,
    WELCOME,
    Owner,
    agent,
    joined,
    message,
    reason_of,
    server,
)
from zerotrust.tunnel.binary import pack_reason
from zerotrust.tunnel.codes import CAPABILITIES, MEMBERS, WORKERS, Code, FrameType
from zerotrust.tunnel.frames import encode
from zerotrust.tunnel.messages import Hello, Welcome, decode
from zerotrust.tunnel.session import Phase, SessionOptions

T = FrameType
PING = encode(T.PING, 0, 0, b"12345678")


def test_both_ends_learn_of_each_other() -> None:
    pair = joined(
        server_options=SessionOptions(software="s", window=99_999),
        agent_options=SessionOptions(software="a", max_streams=7),
    )
    assert pair.server.peer is not None and pair.agent.peer is not None
    assert (pair.server.peer.software, pair.server.peer.max_streams) == ("a", 7)
    assert (pair.agent.peer.software, pair.agent.peer.window) == ("s", 99_999)
    assert pair.agent.session.id == SESSION_ID
    assert (
        pair.server.session.keepalive.round_trip == pair.agent.session.keepalive.round_trip == 0.0
    )


def test_the_acceptor_learns_which_process_it_is_and_which_of_its_sessions() -> None:
    pair = joined(agent_options=SessionOptions(instance="ab" * 16, connection=3))
    assert isinstance(pair.server.peer, Hello)
    assert (pair.server.peer.instance, pair.server.peer.connection) == ("ab" * 16, 3)
    plain = joined().server.peer
    assert isinstance(plain, Hello)
    assert (plain.instance, plain.connection) == (None, 0)


@pytest.mark.parametrize("dialer", [True, False])
@pytest.mark.parametrize(
    ("said", "held"), [([], set()), (["policy", "later"], {"policy"}), (["Policy"], set())]
)
def test_a_capability_is_in_force_where_both_have_it(
    dialer: bool, said: list[str], held: set[str]
) -> None:
    owner = Owner(dialer=dialer)
    assert not owner.session.capabilities
    peer = (WELCOME if dialer else HELLO).model_copy(update={"capabilities": said})
    owner.feed(message(T.WELCOME if dialer else T.HELLO, peer))
    assert owner.session.capabilities == held
    kind, _, _, payload = owner.sent()[0]
    assert kind == (T.HELLO if dialer else T.WELCOME)
    told = decode(Hello, bytes(payload)) if dialer else decode(Welcome, bytes(payload))
    assert set(told.capabilities) == (set(CAPABILITIES) if dialer else held)


FIRST_FRAMES = [kind for kind in T if kind not in (T.HELLO, T.WELCOME, T.CLOSE)]


@pytest.mark.parametrize("kind", [*FIRST_FRAMES, 0x00, 0x07, 0x17, 0x26, 0xFF])
@pytest.mark.parametrize("dialer", [True, False])
def test_nothing_may_come_before_the_handshake(kind: int, dialer: bool) -> None:
    owner = Owner(dialer=dialer)
    owner.sent()
    owner.feed(encode(kind, 0, 2, bytes(8)))
    assert reason_of(owner)[0] is Code.PROTOCOL_ERROR
    assert owner.said() == [(T.CLOSE, 0)]


@pytest.mark.parametrize("dialer", [True, False])
def test_the_wrong_side_of_the_handshake(dialer: bool) -> None:
    owner = Owner(dialer=dialer)
    owner.feed(message(T.HELLO, HELLO) if dialer else message(T.WELCOME, WELCOME))
    assert reason_of(owner)[0] is Code.PROTOCOL_ERROR


def test_no_version_in_common() -> None:
    owner = Owner(dialer=False)
    owner.feed(message(T.HELLO, HELLO.model_copy(update={"versions": [2, 3]})))
    assert reason_of(owner)[0] is Code.VERSION
    dialer = Owner(dialer=True)
    dialer.feed(message(T.WELCOME, WELCOME.model_copy(update={"version": 2})))
    assert reason_of(dialer)[0] is Code.VERSION


def test_a_hello_that_is_too_large() -> None:
    owner = Owner(dialer=False)
    owner.feed(encode(T.HELLO, 0, 0, HELLO.encode() + b" " * 4096))
    assert reason_of(owner)[0] is Code.PROTOCOL_ERROR


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff", b"{" * 4000])
def test_a_hello_that_says_nothing(payload: bytes) -> None:
    owner = Owner(dialer=False)
    owner.feed(encode(T.HELLO, 0, 0, payload))
    assert reason_of(owner)[0] is Code.PROTOCOL_ERROR


def test_a_welcome_that_offers_to_resume_has_a_secret() -> None:
    dialer = Owner(dialer=True)
    dialer.feed(message(T.WELCOME, WELCOME.model_copy(update={"capabilities": ["resume"]})))
    assert reason_of(dialer) == (
        Code.PROTOCOL_ERROR,
        "WELCOME offers to resume, and has no secret for it",
    )


def test_the_peer_may_refuse_the_handshake() -> None:
    owner = Owner(dialer=True)
    owner.feed(encode(T.CLOSE, 0, 0, pack_reason(Code.VERSION, "too old")))
    assert owner.over == (Code.VERSION, "too old")


def test_a_handshake_that_does_not_come() -> None:
    owner = Owner(dialer=False, now=5.0)
    owner.session.tick(14.9)
    assert owner.over is None
    owner.session.tick(15.0)
    assert reason_of(owner)[0] is Code.SILENCE


@pytest.mark.parametrize("owner", [server, agent])
def test_closing_while_the_session_is_being_opened(owner: Callable[[], Owner]) -> None:
    made = Owner(dialer=owner is agent)
    made.established = lambda peer: made.session.close(Code.NOT_ALLOWED, "no")  # type: ignore[method-assign]
    made.feed(message(T.WELCOME, WELCOME) if owner is agent else message(T.HELLO, HELLO), PING)
    assert reason_of(made) == (Code.NOT_ALLOWED, "no")
    assert made.sent()[-1][0] == T.CLOSE


def test_phase() -> None:
    owner = Owner(dialer=False)
    phases = [owner.session.phase]
    owner.feed(message(T.HELLO, Hello(versions=[1, 2], window=16384, max_streams=1)))
    phases.append(owner.session.phase)
    owner.session.close(Code.NO_ERROR)
    phases.append(owner.session.phase)
    assert phases == [Phase.HANDSHAKE, Phase.OPEN, Phase.CLOSED]


def test_an_acceptor_among_others_says_who_it_is() -> None:
    options = SessionOptions(server="ab" * 16)
    found = joined(server_options=options).agent.peer
    assert isinstance(found, Welcome) and found.server == "ab" * 16
    older = SessionOptions(capabilities=tuple(one for one in CAPABILITIES if one != MEMBERS))
    for told in (
        joined(server_options=options, agent_options=older).agent.peer,
        joined().agent.peer,
    ):
        assert isinstance(told, Welcome) and told.server is None


def test_a_session_is_for_one_worker_of_the_acceptor() -> None:
    options = SessionOptions(worker=2, workers=4)
    pair = joined(server_options=options, agent_options=SessionOptions(worker=2))
    assert isinstance(pair.agent.peer, Welcome) and pair.agent.peer.workers == 4
    plain = joined().agent.peer
    assert isinstance(plain, Welcome) and plain.workers is None
    for wanted in (None, 1):
        owner = Owner(dialer=False, options=options)
        known = {"capabilities": [WORKERS], "worker": wanted}
        owner.feed(message(T.HELLO, HELLO.model_copy(update=known)))
        assert reason_of(owner)[0] is Code.WRONG_WORKER


def test_an_agent_that_does_not_know_workers_is_refused() -> None:
    owner = Owner(dialer=False, options=SessionOptions(workers=2))
    owner.feed(message(T.HELLO, HELLO))
    assert reason_of(owner) == (
        Code.VERSION,
        "this server has several workers, which the agent does not know: update the agent",
    )
