from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tunnel import REQUEST, Owner, RecordingSink, joined
from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.binary import pack_head
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.outbox import HIGH_WATER, LOW_WATER
from zerotrust.tunnel.stream import QUANTUM, Stream
from zerotrust.tunnel.window import (
    DEFAULT_WINDOW,
    MAX_WINDOW,
    MIN_WINDOW,
    GrowthBudget,
    ReceiveWindow,
)


def test_more_than_the_credit_is_refused() -> None:
    window = ReceiveWindow(MIN_WINDOW, GrowthBudget(0), 0.0)
    window.received(MIN_WINDOW)
    with pytest.raises(RemoteProtocolError) as caught:
        window.received(1)
    assert caught.value.wire == Code.FLOW_CONTROL
    assert window.unconsumed == MIN_WINDOW


def test_credit_comes_back_in_halves() -> None:
    window = ReceiveWindow(100_000, GrowthBudget(0), 0.0)
    window.received(100_000)
    assert window.consumed(49_999, 1.0, None) == 0
    assert window.consumed(1, 1.0, None) == 50_000
    assert window.consumed(50_000, 1.0, None) == 50_000
    assert window.unconsumed == 0


def turn(window: ReceiveWindow, now: float, round_trip: float | None, pieces: int = 4) -> None:
    """The sender uses all its credit, the reader hands all of it on."""
    window.received(window.size)
    size = window.size
    for _ in range(pieces):
        window.consumed(size // pieces, now, round_trip)


def test_a_window_that_was_waited_for_grows_up_to_its_limit() -> None:
    budget = GrowthBudget(1 << 30)
    window = ReceiveWindow(DEFAULT_WINDOW, budget, 0.0)
    now = 0.0
    for _ in range(20):
        credit = window.credit
        window.received(credit)
        now += 0.1
        window.consumed(credit, now, 0.1)
    assert window.size == MAX_WINDOW
    assert budget.left == (1 << 30) - (MAX_WINDOW - DEFAULT_WINDOW)


def test_growth_stops_with_the_budget_and_comes_back_at_the_end() -> None:
    budget = GrowthBudget(100_000)
    windows = [ReceiveWindow(DEFAULT_WINDOW, budget, 0.0) for _ in range(3)]
    for step in range(1, 20):
        for window in windows:
            turn(window, step * 0.1, 0.1, pieces=1)
    assert budget.left == 0
    assert sum(window.size for window in windows) == 3 * DEFAULT_WINDOW + 100_000
    for window in windows:
        window.close()
        window.close()
    assert budget.left == 100_000


def test_no_growth_without_a_round_trip_time() -> None:
    window = ReceiveWindow(DEFAULT_WINDOW, GrowthBudget(1 << 30), 0.0)
    for _ in range(20):
        turn(window, 0.0, None)
    assert window.size == DEFAULT_WINDOW


def test_a_slow_reader_who_takes_a_whole_window_at_once_does_not_grow_it() -> None:
    """A consumer that drains its buffer every ten seconds must not get a growing window."""
    window = ReceiveWindow(DEFAULT_WINDOW, GrowthBudget(1 << 30), 0.0)
    for step in range(1, 20):
        turn(window, step * 10.0, 0.1)
    assert window.size == DEFAULT_WINDOW


def test_a_window_that_begins_above_the_limit_of_growth_stays_as_it_is() -> None:
    budget = GrowthBudget(1 << 30)
    window = ReceiveWindow(2 * MAX_WINDOW, budget, 0.0)
    for step in range(1, 10):
        turn(window, step * 0.01, 0.1)
    assert window.size == 2 * MAX_WINDOW
    assert budget.left == 1 << 30


steps = st.lists(
    st.tuples(st.integers(0, 1 << 24), st.integers(0, 1 << 24), st.floats(0, 2)), max_size=60
)


@given(st.integers(MIN_WINDOW, 16 << 20), st.integers(0, 64 << 20), steps)
def test_credit_arithmetic(initial: int, total: int, steps: list[tuple[int, int, float]]) -> None:
    """Credit + unconsumed + consumed but not granted = size; sizes and budget are bounded."""
    budget = GrowthBudget(total)
    window = ReceiveWindow(initial, budget, 0.0)
    credit = initial
    now = 0.0
    for arriving, leaving, pause in steps:
        now += pause
        size = min(arriving, credit)
        window.received(size)
        credit -= size
        grant = window.consumed(min(leaving, window.unconsumed), now, 0.5)
        assert grant >= 0
        credit += grant
        assert credit + window.unconsumed <= window.size <= max(MAX_WINDOW, initial)
        assert budget.left >= 0
        assert budget.left + window.size - initial == total
        assert window.unconsumed or credit * 2 > window.size, (
            "all was handed on and yet the sender may not go on"
        )
    window.close()
    assert budget.left == total and window.unconsumed == 0


RATE = 20_000_000
ONE_WAY = 0.05
STEP = 0.001
PIECE = bytes(64 * 1024)


class Download(RecordingSink):
    """A sink that consumes at once, now and then, or never; it records the sizes."""

    def __init__(self, every: float | None) -> None:
        super().__init__()
        self.every = every
        self.read_at = 0.0
        self.waiting = 0
        self.total = 0

    def data(self, payload: bytes, *, end: bool) -> None:
        self.waiting += len(payload)
        self.total += len(payload)


def download(every: float | None, seconds: float) -> tuple[Download, Stream, dict[int, int]]:
    """Receive an endless answer over 20 MB/s and 100 ms; count bytes per tenth of a second."""
    pair = joined()
    session = pair.server.session
    sink = Download(every)
    stream = session.open_stream(REQUEST, sink, end=True, now=0.0)
    pair.pump()
    pair.now = 0.0
    for owner in (pair.server, pair.agent):
        owner.session.keepalive.round_trip = 2 * ONE_WAY
    sending = pair.agent.session.streams[stream.id]
    source = pair.agent.session
    source.send_head(sending, pack_head(2, 0, 0, b"HTTP/1.1 200 OK\r\n"))
    pipes: dict[Owner, deque[tuple[float, bytes]]] = {pair.server: deque(), pair.agent: deque()}
    arrived: dict[int, int] = {}
    allowance = 0.0
    for step in range(round(seconds / STEP)):
        now = step * STEP
        for owner, pipe in pipes.items():
            while pipe and pipe[0][0] <= now:
                owner.session.receive_data(pipe.popleft()[1], now)
            owner.session.tick(now)
        while sending.queued < LOW_WATER:
            source.send_data(sending, PIECE)
        allowance = min(allowance + RATE * STEP, 4 * QUANTUM)
        if allowance > 0 and (out := source.data_to_send(int(allowance))):
            allowance -= len(out)
            pipes[pair.server].append((now + ONE_WAY, out))
        if sink.waiting and sink.every is not None and now >= sink.read_at:
            count, sink.waiting = sink.waiting, 0
            for _ in range(4):
                session.consumed(stream, count // 4, now)
            session.consumed(stream, count % 4, now)
            sink.read_at = now + sink.every
        if out := session.data_to_send(1 << 20):
            pipes[pair.agent].append((now + ONE_WAY, out))
        arrived[round(now * 10)] = sink.total
        assert session.unconsumed == stream.window.unconsumed <= stream.window.size <= MAX_WINDOW
        assert sending.queued <= HIGH_WATER + len(PIECE)
    assert pair.server.over is None and pair.agent.over is None
    return sink, stream, arrived


def test_a_long_fat_pipe_is_full_after_a_second() -> None:
    _, stream, arrived = download(0.0, 2.5)
    rate = (arrived[24] - arrived[10]) / 1.4
    assert rate > 0.97 * RATE
    assert stream.window.size <= 8 * RATE * 2 * ONE_WAY, (
        "and it takes no more memory than that needs"
    )


def test_a_reader_that_stalls_keeps_the_window_small() -> None:
    sink, stream, _ = download(None, 1.0)
    assert stream.window.size == DEFAULT_WINDOW and sink.total == DEFAULT_WINDOW


def test_a_reader_that_reads_now_and_then_keeps_the_window_small() -> None:
    """The first burst of all looks like a fast reader; what follows does not."""
    _, stream, _ = download(0.5, 10.0)
    assert stream.window.size <= 2 * DEFAULT_WINDOW
