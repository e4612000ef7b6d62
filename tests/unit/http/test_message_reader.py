"""Tests of zerotrust.http.message_reader, with generated messages that are cut anywhere."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.generated_frames import Frame, backend, cuts, pieces
from zerotrust.http.message_reader import (
    KEPT_BYTES,
    MAX_COMPRESSED_BYTES,
    MessageReader,
    WebSocketMessage,
)
from zerotrust.http.websocket_meter import FramePlace

BINARY, PING = 2, 9


class Fragments(NamedTuple):
    """A message in fragments, with a control frame behind some of them."""

    opcode: int
    payloads: list[bytes]
    controls: list[bytes | None]
    compressed: bool


class Part(NamedTuple):
    """A message of a stream, and the place of its first byte."""

    begin: int
    message: WebSocketMessage


payloads = st.binary(max_size=40) | st.integers(0, 3000).map(
    lambda size: bytes(range(256)) * (size // 256)
)
messages = st.lists(
    st.builds(
        Fragments,
        st.sampled_from([1, 2]),
        st.lists(payloads, min_size=1, max_size=4),
        st.lists(st.none() | st.binary(max_size=125), min_size=4, max_size=4),
        st.booleans(),
    ),
    max_size=5,
)


def stream_of(sent: list[Fragments], *, masked: bool) -> tuple[bytes, list[Part]]:
    """Return the bytes, and the messages in the order of their ends."""
    stream, parts = b"", list[Part]()
    for one in sent:
        begin, last = len(stream), len(one.payloads) - 1
        for number, payload in enumerate(one.payloads):
            first = (one.opcode | 0x40 * one.compressed) if number == 0 else 0
            stream += Frame(first | 0x80 * (number == last), payload, masked=masked).data
            if number == last:
                parts.append(Part(begin, kept(one.opcode, one.payloads, one.compressed)))
            if (control := one.controls[number]) is not None:
                parts.append(Part(len(stream), kept(PING, [control])))
                stream += Frame(0x80 | PING, control, masked=masked).data
    return stream, parts


def kept(opcode: int, payloads: list[bytes], compressed: bool = False) -> WebSocketMessage:
    """Return what is to be kept of a message."""
    whole = b"".join(payloads)
    begin = whole[: MAX_COMPRESSED_BYTES if compressed else KEPT_BYTES]
    return WebSocketMessage(opcode, len(whole), begin, compressed, len(whole) > len(begin))


def read(data: bytes, seed: int, place: FramePlace | None = None) -> list[WebSocketMessage]:
    reader = MessageReader(place or FramePlace())
    return [one for piece in pieces(data, seed) for one in reader.feed(piece)]


@given(messages, cuts, st.booleans())
def test_messages_are_those_that_were_sent_however_they_are_cut(
    sent: list[Fragments], seed: int, masked: bool
) -> None:
    stream, parts = stream_of(sent, masked=masked)
    assert read(stream, seed) == [part.message for part in parts]


@given(messages.filter(bool), cuts, st.booleans(), st.data())
def test_it_begins_anywhere_with_the_first_message_that_it_can_see_whole(
    sent: list[Fragments], seed: int, masked: bool, data: st.DataObject
) -> None:
    stream, parts = stream_of(sent, masked=masked)
    at = data.draw(st.integers(0, len(stream)))
    meter = backend()
    meter.feed(stream[:at])
    begin = at - len(meter.place.partial)
    assert read(stream[at:], seed, meter.place) == [
        part.message for part in parts if part.begin >= begin
    ]


@given(st.binary(max_size=300), cuts)
def test_any_input_is_accepted_however_it_is_cut(data: bytes, seed: int) -> None:
    assert read(data, seed) == MessageReader(FramePlace()).feed(data)


def test_a_message_is_cut_and_counted() -> None:
    sent = Frame(0x82, bytes(70_000), masked=True).data
    assert read(sent, 1) == [WebSocketMessage(BINARY, 70_000, bytes(KEPT_BYTES), False, True)]


def test_a_compressed_message_is_kept_up_to_a_limit() -> None:
    size = MAX_COMPRESSED_BYTES + 1
    (found,) = read(Frame(0xC2, bytes(size)).data, 1)
    assert (found.size, len(found.payload)) == (size, MAX_COMPRESSED_BYTES)
    assert found.compressed and found.cut


@pytest.mark.parametrize(
    ("frames", "opcodes"),
    [
        ([Frame(0x80, b"a"), Frame(0x81, b"b")], [1]),
        ([Frame(0x01, b"a"), Frame(0x82, b"b"), Frame(0x80, b"c")], [2]),
        ([Frame(0x83, b"a"), Frame(0x8B, b"b")], [3, 11]),
        ([Frame(0x09, b"a"), Frame(0x81, b"b")], [9, 1]),
    ],
    ids=["a continuation of nothing", "a message in a message", "reserved", "a fragment of a ping"],
)
def test_invalid_frames_are_followed_by_their_lengths(
    frames: list[Frame], opcodes: list[int]
) -> None:
    found = read(b"".join(one.data for one in frames), 3)
    assert [one.opcode for one in found] == opcodes
