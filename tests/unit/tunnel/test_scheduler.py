import random
from collections import Counter

import pytest

from tests.support.tunnel import frames_of
from zerotrust.tunnel.codes import END, FrameType
from zerotrust.tunnel.scheduler import Scheduler
from zerotrust.tunnel.stream import QUANTUM, Chunk, Stream
from zerotrust.tunnel.window import GrowthBudget, ReceiveWindow


def make(stream_id: int, credit: int = 1 << 40) -> Stream:
    return Stream(
        stream_id,
        opener=True,
        ended=False,
        credit=credit,
        window=ReceiveWindow(65536, GrowthBudget(0), 0.0),
    )


def put(schedule: Scheduler, stream: Stream, size: int) -> None:
    stream.enqueue(bytes(size))
    schedule.add(stream)


def fill(schedule: Scheduler, budget: int) -> list[tuple[int, int]]:
    """The streams of the frames that are sent, and how much each takes."""
    out: list[Chunk] = []
    schedule.fill(out, budget)
    return [(stream, len(payload)) for _, _, stream, payload in frames_of(b"".join(out))]


def test_a_message_overtakes_bulk() -> None:
    schedule = Scheduler()
    for stream_id in range(2, 12, 2):
        put(schedule, make(stream_id), 4 << 20)
    fill(schedule, 20 * QUANTUM)
    put(schedule, make(100), 50)
    put(schedule, make(102), 50)
    assert [stream for stream, _ in fill(schedule, 3 * QUANTUM)][:2] == [100, 102]


def test_a_stream_that_talks_now_and_then_overtakes_every_time() -> None:
    schedule = Scheduler()
    talker = make(100)
    for stream_id in (2, 4):
        put(schedule, make(stream_id), 32 << 20)
    fill(schedule, 4 * QUANTUM)
    for _ in range(200):
        put(schedule, talker, 2000)
        assert fill(schedule, 3 * QUANTUM)[0] == (100, 2000)


@pytest.mark.parametrize("piece", [700, 5_000, QUANTUM, 100_000])
def test_bulk_shares_evenly(piece: int) -> None:
    """Streams that always have data differ by one turn at most, whatever their pieces are."""
    schedule = Scheduler()
    streams = [make(stream_id) for stream_id in range(2, 22, 2)]
    sent: Counter[int] = Counter()
    for _ in range(300):
        for stream in streams:
            while stream.queued < 4 * QUANTUM:
                put(schedule, stream, piece if stream.id > 4 else 3 * QUANTUM)
        for stream_id, size in fill(schedule, QUANTUM):
            sent[stream_id] += size
        totals = [sent[stream.id] for stream in streams]
        assert max(totals) - min(totals) <= 2 * QUANTUM


def test_many_who_send_little_leave_something_to_bulk() -> None:
    """Streams that could fill the link each get their first turn; then the others get theirs."""
    schedule = Scheduler()
    bulk = make(2)
    small = [make(stream_id) for stream_id in range(4, 24, 2)]
    put(schedule, bulk, 64 << 20)
    fill(schedule, 2 * QUANTUM)
    sent: Counter[int] = Counter()
    for _ in range(400):
        for stream in small:
            put(schedule, stream, 16_000)
        for stream_id, size in fill(schedule, 16_000 * len(small)):
            sent[stream_id] += size
    total = sum(sent.values())
    assert sent[bulk.id] > total / len(small) / 4


@pytest.mark.large
def test_nobody_starves() -> None:
    """A ready stream is served before the others have sent a few turns each."""
    for seed in range(20):
        rng = random.Random(seed)
        schedule = Scheduler()
        streams = [make(stream_id) for stream_id in range(2, 22, 2)]
        waited: Counter[int] = Counter()
        for _ in range(500):
            for stream in rng.sample(streams, rng.randrange(len(streams))):
                if stream.queued < 4 * QUANTUM:
                    put(
                        schedule, stream, rng.choice((1, 100, 5_000, QUANTUM - 1, QUANTUM, 100_000))
                    )
            for stream_id, size in fill(schedule, rng.choice((1, QUANTUM, 5 * QUANTUM))):
                for stream in streams:
                    waited[stream.id] = (
                        0
                        if stream.id == stream_id or not stream.ready
                        else waited[stream.id] + size
                    )
            assert max(waited.values(), default=0) <= 4 * QUANTUM * len(streams)


def test_without_credit_nothing_is_sent_and_nobody_is_held_up() -> None:
    schedule = Scheduler()
    poor, rich = make(2, credit=10), make(4)
    put(schedule, poor, 100)
    put(schedule, rich, 100)
    assert fill(schedule, QUANTUM) == [(2, 10), (4, 100)]
    assert not schedule
    poor.credit = 90
    schedule.add(poor)
    assert fill(schedule, QUANTUM) == [(2, 90)]


def test_end_travels_with_the_last_piece() -> None:
    schedule = Scheduler()
    stream = make(2)
    stream.tail = (FrameType.DATA, b"")
    put(schedule, stream, QUANTUM + 1)
    out: list[Chunk] = []
    schedule.fill(out, 1 << 30)
    assert [
        (kind, flags, len(payload)) for kind, flags, _, payload in frames_of(b"".join(out))
    ] == [
        (FrameType.DATA, 0, QUANTUM),
        (FrameType.DATA, END, 1),
    ]


def test_end_alone_and_trailers_need_no_credit() -> None:
    schedule = Scheduler()
    bare, trailing = make(2, credit=0), make(4, credit=1)
    bare.tail = (FrameType.DATA, b"")
    schedule.add(bare)
    trailing.tail = (FrameType.TRAILERS, b"a: b\r\n")
    put(schedule, trailing, 1)
    out: list[Chunk] = []
    schedule.fill(out, 1 << 30)
    assert frames_of(b"".join(out)) == [
        (FrameType.DATA, END, 2, b""),
        (FrameType.DATA, 0, 4, b"\0"),
        (FrameType.TRAILERS, END, 4, b"a: b\r\n"),
    ]


def test_the_budget_is_kept_within_one_frame() -> None:
    schedule = Scheduler()
    put(schedule, make(2), 1 << 20)
    assert sum(size for _, size in fill(schedule, 1)) == QUANTUM
    assert sum(size for _, size in fill(schedule, 100_000)) <= 100_000 + QUANTUM
    assert fill(schedule, 0) == []
