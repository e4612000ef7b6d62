"""Tests of zerotrust.http.websocket_frames, with generated frames that are split anywhere."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http.websocket_frames import POLICY_VIOLATION, FrameTracker, close_frame


def frame(opcode: int, payload: bytes, *, masked: bool = False, widest: bool = False) -> bytes:
    """Return a frame; `widest` uses the longest form of the length, which is not canonical."""
    mask = 0x80 if masked else 0
    size = len(payload)
    if widest or size > 0xFFFF:
        head = bytes((opcode, mask | 127)) + size.to_bytes(8, "big")
    elif size > 125:
        head = bytes((opcode, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((opcode, mask | size))
    return head + (b"mask" if masked else b"") + payload


frames = st.lists(
    st.builds(
        frame,
        st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x89, 0x8A, 0xC1]),
        st.integers(0, 70_000).map(bytes) | st.binary(max_size=130),
        masked=st.booleans(),
        widest=st.booleans(),
    ),
    max_size=6,
)


@given(frames, st.integers())
def test_boundaries_are_independent_of_splitting(sent: list[bytes], seed: int) -> None:
    choose = random.Random(seed)
    ends = {0}
    for one in sent:
        ends.add(max(ends) + len(one))
    data = b"".join(sent)
    boundary, at = FrameTracker(), 0
    assert boundary.between
    while at < len(data):
        step = choose.choice([1, 2, 3, 9, 14, 100, 5000, 70_000])
        boundary.feed(data[at : at + step])
        at = min(at + step, len(data))
        assert boundary.between == (at in ends)
    assert not boundary.closed


@given(st.binary(max_size=200), st.integers(1, 9))
def test_a_close_frame_is_noticed(before: bytes, step: int) -> None:
    data = frame(0x82, before) + close_frame(POLICY_VIOLATION, "revoked")
    boundary = FrameTracker()
    for at in range(0, len(data), step):
        boundary.feed(data[at : at + step])
    assert boundary.closed
    assert boundary.between


@given(st.lists(st.binary(max_size=40)))
def test_any_input_is_accepted_however_it_is_split(chunks: list[bytes]) -> None:
    boundary, whole = FrameTracker(), FrameTracker()
    for chunk in chunks:
        boundary.feed(chunk)
    whole.feed(b"".join(chunks))
    assert (boundary.between, boundary.closed) == (whole.between, whole.closed)


@pytest.mark.parametrize("size", [0, 5, 200, 70_000])
@pytest.mark.parametrize("masked", [False, True])
def test_the_end_of_a_frame_is_known_with_its_whole_header(size: int, masked: bool) -> None:
    data = frame(0x82, bytes(size), masked=masked)
    for split in range(1, len(data) - size):
        boundary = FrameTracker()
        boundary.feed(data[:split])
        for rest in (data[split:], data[split:] + b"next frame"):
            assert boundary.until_end(rest) == len(data) - split
        short = data[split : len(data) - size - 1]
        assert boundary.until_end(short) >= len(short)


def test_an_empty_chunk_changes_nothing() -> None:
    boundary = FrameTracker()
    boundary.feed(b"\x81\x05he")
    boundary.feed(b"")
    assert not boundary.between
    boundary.feed(b"llo")
    assert boundary.between


@pytest.mark.parametrize("reason", ["", "service restart", "x" * 500, "naïve"])
def test_a_close_frame_is_a_small_control_frame(reason: str) -> None:
    made = close_frame(1012, reason)
    assert made[0] == 0x88
    assert made[1] == len(made) - 2 <= 125
    assert int.from_bytes(made[2:4], "big") == 1012
    made[4:].decode("ascii")


@given(frames.filter(bool), st.data())
def test_remaining_bytes_of_the_current_frame(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent)
    ends = [sum(map(len, sent[:count])) for count in range(len(sent) + 1)]
    at = data.draw(st.integers(0, len(stream)))
    boundary = FrameTracker()
    boundary.feed(stream[:at])
    for size in (1, 3, 10, len(stream)):
        piece = stream[at : at + size]
        passes = piece[: boundary.until_end(piece)]
        boundary.feed(passes)
        at += len(passes)
        if boundary.between:
            break
    assert at in ends
    assert boundary.until_end(b"more") == 0
