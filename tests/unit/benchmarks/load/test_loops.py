"""Tests of benchmarks.load.loops."""

import pytest

from benchmarks.load.latency import percentiles
from benchmarks.load.loops import ClosedLoop, CompletionSink, OpenLoop
from zerotrust.errors import BenchError

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Client:
    """An operation ends when the test says so."""

    def __init__(self, loop: CompletionSink) -> None:
        self.loop = loop
        self.started: list[float] = []

    def start(self, due: float) -> None:
        self.started.append(due)

    def finish(self) -> None:
        self.loop.finished(self, self.started[-1])


async def test_a_closed_loop_begins_again_at_once() -> None:
    clock = Clock()
    loop = ClosedLoop(clock)
    client = Client(loop)
    loop.begin(client)
    for taken in (1.0, 2.0, 4.0):
        clock.now += taken
        client.finish()
    assert loop.taken == [1.0, 2.0, 4.0]
    assert client.started == [0.0, 1.0, 3.0, 7.0]
    loop.stop()
    client.finish()
    assert (len(loop.taken), len(client.started)) == (4, 4)


async def test_an_open_loop_uses_its_lanes_in_turn() -> None:
    loop = OpenLoop(Clock())
    clients = [Client(loop), Client(loop)]
    for client in clients:
        loop.add(client)
    loop.due(1.0)
    loop.due(2.0)
    loop.due(3.0)
    assert [client.started for client in clients] == [[1.0], [2.0]]
    clients[1].finish()
    assert [client.started for client in clients] == [[1.0], [2.0, 3.0]]


async def test_a_stall_shows_in_the_percentiles() -> None:
    """One lane answers in 1 ms, but once in 1,000 operations takes a second; one is due every 2 ms.

    A closed loop would see one slow operation. In truth 500 others were due meanwhile and waited.
    """
    clock = Clock()
    loop = OpenLoop(clock)
    client = Client(loop)
    loop.add(client)
    loop.measure()
    ends_at = float("inf")
    dues = [number * 0.002 for number in range(2000)]
    while dues or loop.is_busy:
        if dues and dues[0] <= ends_at:
            clock.now = max(clock.now, dues[0])
            before = len(client.started)
            loop.due(dues.pop(0))
        else:
            clock.now = ends_at
            before = len(client.started)
            client.finish()
            ends_at = float("inf")
        if len(client.started) > before:
            ends_at = clock.now + (1.0 if len(client.started) == 1000 else 0.001)
    assert len(loop.taken) == 2000
    found = percentiles(loop.taken)
    assert found.p50 < 500
    assert found.p99 > 900
    assert sum(taken > 0.1 for taken in loop.taken) > 400


async def test_what_is_due_before_the_measurement_does_not_count() -> None:
    clock = Clock()
    loop = OpenLoop(clock)
    client = Client(loop)
    loop.add(client)
    loop.due(0.0)
    clock.now = 1.0
    loop.measure()
    client.finish()
    loop.due(1.5)
    clock.now = 2.0
    client.finish()
    assert loop.taken == [0.5]


async def test_what_never_ends_counts_too() -> None:
    clock = Clock()
    loop = OpenLoop(clock)
    loop.add(Client(loop))
    loop.measure()
    loop.due(1.0)
    loop.due(2.0)
    assert loop.is_busy
    clock.now = 5.0
    loop.give_up()
    assert sorted(loop.taken) == [3.0, 4.0]


async def test_drained_when_nothing_is_under_way() -> None:
    loop = OpenLoop(Clock())
    client = Client(loop)
    loop.add(client)
    loop.due(0.0)
    loop.due(0.0)
    client.finish()
    assert not loop.drained.is_set()
    client.finish()
    assert loop.drained.is_set()


@pytest.mark.parametrize("make", [ClosedLoop, OpenLoop])
async def test_the_first_failure_is_told(make: type[ClosedLoop] | type[OpenLoop]) -> None:
    loop = make()
    loop.failed("first")
    loop.failed("second")
    with pytest.raises(BenchError, match="first"):
        loop.failure.result()
