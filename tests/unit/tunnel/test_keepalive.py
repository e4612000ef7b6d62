import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotrust.tunnel.keepalive import DEAD_AFTER, PING_INTERVAL, Keepalive

moments = st.floats(0, 1e9)


@given(moments)
@example(13.4)  # 13.4 + 12 - 13.4 < 12
def test_a_silent_peer_is_noticed_within_15_seconds_by_a_look_each_second(start: float) -> None:
    clock = Keepalive(start)
    assert not any(clock.dead(start + second) for second in range(int(DEAD_AFTER)))
    assert any(clock.dead(start + second) for second in range(15))


@given(moments, st.lists(st.floats(0, 11.9), min_size=1, max_size=20))
def test_a_peer_that_speaks_is_never_dead(start: float, pauses: list[float]) -> None:
    clock = Keepalive(start)
    now = start
    for pause in pauses:
        now += pause
        assert not clock.dead(now)
        clock.heard(now)


def test_pings_leave_every_interval() -> None:
    clock = Keepalive(100.0)
    sent = [
        clock.ping(100.0 + t) for t in (0, 1, PING_INTERVAL - 0.1, PING_INTERVAL, PING_INTERVAL)
    ]
    assert [payload is not None for payload in sent] == [True, False, False, True, False]
    assert sent[0] != sent[3]
    assert all(payload is None or len(payload) == 8 for payload in sent)


def test_the_round_trip_is_smoothed() -> None:
    clock = Keepalive(0.0)
    assert clock.round_trip is None
    ping = clock.ping(0.0)
    assert ping
    clock.pong(ping, 0.1)
    assert clock.round_trip == 0.1
    ping = clock.ping(5.0)
    assert ping
    clock.pong(ping, 5.9)
    assert clock.round_trip == pytest.approx(0.1 + 0.8 / 8)


def test_a_ping_is_unanswered_until_its_answer_comes() -> None:
    clock = Keepalive(0.0)
    assert clock.unanswered(1.0) == 0.0
    clock.ping(1.0)
    ping = clock.ping(1.0 + PING_INTERVAL)
    assert ping
    assert clock.unanswered(8.0) == 7.0
    clock.pong(ping, 8.0)
    assert clock.unanswered(9.0) == 0.0


def test_only_the_answer_to_the_last_ping_counts_and_only_once() -> None:
    clock = Keepalive(0.0)
    clock.pong(b"\0" * 8, 0.0)
    assert clock.round_trip is None
    first = clock.ping(0.0)
    second = clock.ping(PING_INTERVAL)
    assert first and second
    clock.pong(first, 6.0)
    clock.pong(b"", 6.0)
    assert clock.round_trip is None
    clock.pong(second, 6.0)
    clock.pong(second, 60.0)
    assert clock.round_trip == 1.0
