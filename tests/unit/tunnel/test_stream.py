from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tunnel.test_codes import rows
from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import END, INTERIM, FrameType
from zerotrust.tunnel.stream import MAX_INTERIM_HEADS, QUANTUM, TRANSITIONS, Stream, StreamState
from zerotrust.tunnel.window import GrowthBudget, ReceiveWindow

COLUMNS = [
    (FrameType.HEAD, INTERIM),
    (FrameType.HEAD, 0),
    (FrameType.HEAD, END),
    (FrameType.DATA, 0),
    (FrameType.DATA, END),
    (FrameType.TRAILERS, END),
]


def make(*, opener: bool = False, ended: bool = False, credit: int = 1 << 20) -> Stream:
    return Stream(2, opener=opener, ended=ended, credit=credit, window=ReceiveWindow(65536, GrowthBudget(0), 0.0))


def test_transitions_are_the_table_of_the_specification() -> None:
    table = {}
    for name, *cells in rows("state"):
        for (kind, flags), cell in zip(COLUMNS, cells, strict=True):
            if cell != "error":
                table[StreamState[name], int(kind), flags] = StreamState[cell]
    assert table == TRANSITIONS


@pytest.mark.parametrize(("state", "kind", "flags"), list(product(StreamState, FrameType, range(4))))
def test_a_frame_moves_by_the_table_or_is_an_error(state: StreamState, kind: FrameType, flags: int) -> None:
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
def test_the_openers_direction_begins_in_body_and_the_other_in_head(opener: bool, ended: bool) -> None:
    stream = make(opener=opener, ended=ended)
    request, answer = (stream.sending, stream.receiving) if opener else (stream.receiving, stream.sending)
    assert request is (StreamState.DONE if ended else StreamState.BODY)
    assert answer is StreamState.HEAD


def test_interim_heads_are_counted() -> None:
    stream = make()
    for _ in range(MAX_INTERIM_HEADS):
        stream.count_interim()
    with pytest.raises(RemoteProtocolError):
        stream.count_interim()


@given(st.lists(st.binary(min_size=1, max_size=3 * QUANTUM)), st.lists(st.integers(1, QUANTUM * 2)))
def test_pieces_are_the_queue_within_quantum_and_credit(written: list[bytes], credits: list[int]) -> None:
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
    assert len(memoryview(rest).obj) == len(rest) == 1
