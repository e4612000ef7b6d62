import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.tunnel.frames import HEADER_BYTES, MAX_PAYLOAD, Frame, FrameReader, encode

bytes_field = st.integers(0, 255)
any_frame = st.tuples(bytes_field, bytes_field, st.integers(0, 2**32 - 1), st.binary(max_size=300))


def read(*pieces: bytes) -> list[Frame]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def test_the_header_is_that_of_the_specification() -> None:
    assert encode(0x22, 1, 0x01020304, b"abc") == b"\x22\x01\x00\x03\x01\x02\x03\x04abc"


@given(any_frame)
def test_decode_undoes_encode(frame: Frame) -> None:
    kind, flags, stream, payload = frame
    assert read(encode(kind, flags, stream, payload)) == [frame]


@given(st.lists(any_frame, max_size=12), st.lists(st.integers(0, 700), max_size=40))
def test_any_cutting_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode(kind, flags, stream, payload) for kind, flags, stream, payload in frames)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert read(*pieces) == frames
    assert read(*(data[n : n + 1] for n in range(len(data)))) == frames


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_any_bytes_are_frames_in_the_same_way_however_cut(data: bytes, cut: int) -> None:
    assert read(data[:cut], data[cut:]) == read(data)


def test_the_largest_frame() -> None:
    payload = bytes(MAX_PAYLOAD)
    data = encode(0x22, 0, 2, payload)
    assert read(data[:9], data[9:]) == [(0x22, 0, 2, payload)]


def test_the_rest_of_a_frame_costs_nothing_for_what_comes_with_it() -> None:
    """A read that begins within a frame is not copied as a whole."""
    reader = FrameReader()
    data = encode(0x22, 0, 2, bytes(1000)) + bytes(8) * 30_000
    reader.feed(data[:500])
    rest = data[500:]
    tracemalloc.start()
    found = reader._complete(rest, [])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == 508
    assert most < 10_000


@pytest.mark.large
def test_one_byte_at_a_time_is_linear() -> None:
    def cost(count: int) -> float:
        data = encode(0x22, 0, 2, bytes(60_000)) * count
        began = time.process_time()
        read(*(data[n : n + 1] for n in range(len(data))))
        return time.process_time() - began

    assert min(cost(4), cost(4)) < 16 * min(cost(1), cost(1), cost(1)) + 0.05


def test_an_unfinished_frame_is_all_that_is_kept() -> None:
    reader = FrameReader()
    frame = encode(0x22, 0, 2, bytes(MAX_PAYLOAD))
    tracemalloc.start()
    try:
        for _ in range(100):
            for at in range(0, len(frame), 5000):
                list(reader.feed(frame[at : at + 5000]))
        list(reader.feed(frame[:-1]))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * (MAX_PAYLOAD + HEADER_BYTES)
