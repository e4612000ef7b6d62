"""Tests of zerotrust.http.websocket_stream, against the frames of the websockets library."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from zerotrust.errors import RemoteProtocolError
from zerotrust.http.websocket_stream import (
    MAX_FRAME,
    PROTOCOL_ERROR,
    TOO_BIG,
    UNSUPPORTED_DATA,
    WebSocketStream,
)


def written(frame: Frame, *, by_client: bool) -> bytes:
    return frame.serialize(mask=by_client)


def frames_of(data: bytes, *, by_client: bool) -> list[Frame]:
    """Return the frames in these bytes, as the other library reads them."""
    reader = StreamReader()
    reader.feed_data(data)
    left = len(data)
    found = []
    while left:
        parser = Frame.parse(reader.read_exact, mask=by_client)
        try:
            while True:
                next(parser)
        except StopIteration as done:
            found.append(done.value)
            left -= len(written(done.value, by_client=by_client))
    return found


def fragments(payloads: list[bytes]) -> list[Frame]:
    """Return one message in as many frames."""
    return [
        Frame(
            Opcode.BINARY if not number else Opcode.CONT, payload, fin=number == len(payloads) - 1
        )
        for number, payload in enumerate(payloads)
    ]


payloads = st.binary(max_size=300) | st.integers(0, 70_000).map(
    lambda size: (b"0123456789abcdef!" * 5000)[:size]
)
messages = st.lists(payloads, min_size=1, max_size=4).map(fragments)
pings = st.binary(max_size=125).map(lambda payload: [Frame(Opcode.PING, payload)])
pongs = st.binary(max_size=125).map(lambda payload: [Frame(Opcode.PONG, payload)])


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("size", [0, 125, 126, 0xFFFF, 0x10000])
def test_a_header_on_both_sides_of_each_length(size: int, client: bool) -> None:
    data = WebSocketStream(client=client).header(size) + bytes(size)
    [frame] = frames_of(data, by_client=client)
    assert (frame.opcode, frame.data) == (Opcode.BINARY, bytes(size))


@given(st.lists(messages | pings | pongs, max_size=5), st.booleans(), st.integers())
def test_bytes_come_out_as_they_went_in(
    sent: list[list[Frame]], by_client: bool, seed: int
) -> None:
    choose = random.Random(seed)
    frames = [frame for message in sent for frame in message]
    data = b"".join(written(frame, by_client=by_client) for frame in frames)
    stream, received, replies = WebSocketStream(client=not by_client), b"", b""
    while data:
        size = choose.choice([1, 2, 5, 13, 127, 5000, 70_000])
        received += b"".join(stream.receive_data(data[:size]))
        replies += stream.take_reply()
        data = data[size:]
    expected = [
        bytes(frame.data) for frame in frames if frame.opcode in (Opcode.BINARY, Opcode.CONT)
    ]
    assert received == b"".join(expected)
    asked = [bytes(frame.data) for frame in frames if frame.opcode is Opcode.PING]
    answered = frames_of(replies, by_client=not by_client)
    assert all(frame.opcode is Opcode.PONG for frame in answered)
    assert [bytes(frame.data) for frame in answered][-1:] == asked[-1:]
    assert not stream.ended


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_ping_in_two_pieces_is_answered_once(cut: int) -> None:
    stream = WebSocketStream(client=False)
    data = written(Frame(Opcode.PING, b"ping"), by_client=True)
    assert len(data) == 10
    assert stream.receive_data(data[:cut]) == [] and not stream.take_reply()
    assert stream.receive_data(data[cut:]) == []
    [pong] = frames_of(stream.take_reply(), by_client=False)
    assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"ping")


@given(payloads, st.booleans())
def test_the_other_library_reads_what_is_written(payload: bytes, client: bool) -> None:
    stream = WebSocketStream(client=client)
    data = stream.header(len(payload)) + payload + stream.close()
    message, close = frames_of(data, by_client=client)
    assert (message.opcode, bytes(message.data), message.fin) == (Opcode.BINARY, payload, True)
    assert (close.opcode, bytes(close.data)) == (Opcode.CLOSE, (1000).to_bytes(2, "big"))


@given(st.integers(0, 125).map(bytes), st.booleans())
def test_a_close_is_answered_and_ends_the_stream(payload: bytes, client: bool) -> None:
    stream = WebSocketStream(client=client)
    data = written(Frame(Opcode.CLOSE, payload), by_client=not client)
    data += written(Frame(Opcode.BINARY, b"late"), by_client=not client)
    assert stream.receive_data(data) == []
    assert stream.ended
    (answer,) = frames_of(stream.take_reply(), by_client=client)
    code = payload[:2] if len(payload) > 1 else b""
    assert (answer.opcode, bytes(answer.data)) == (Opcode.CLOSE, code)
    assert stream.receive_data(data) == [] and not stream.take_reply()


def violation(data: bytes, *, by_client: bool = True) -> int:
    """Return the code with which these bytes are refused, whole and byte by byte."""
    codes = set()
    for step in (1, len(data)):
        stream = WebSocketStream(client=not by_client)
        with pytest.raises(RemoteProtocolError, match="the WebSocket's peer sent"):
            for at in range(0, len(data), step):
                stream.receive_data(data[at : at + step])
        assert stream.ended
        (close,) = frames_of(stream.take_reply(), by_client=not by_client)
        assert close.opcode is Opcode.CLOSE
        codes.add(int.from_bytes(close.data, "big"))
    (code,) = codes
    return code


def header(first: int, length: int) -> bytes:
    """Return a client's frame header, with a wide length."""
    return bytes((first, 0x80 | 127)) + length.to_bytes(8, "big") + b"mask"


def small(first: int) -> bytes:
    """Return a client's frame with four bytes."""
    return bytes((first, 0x80 | 4)) + b"maskdata"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(small(0x81), UNSUPPORTED_DATA, id="text"),
        pytest.param(small(0x80), PROTOCOL_ERROR, id="continuation of nothing"),
        pytest.param(small(0x02) * 2, PROTOCOL_ERROR, id="message within a message"),
        pytest.param(small(0xC2), PROTOCOL_ERROR, id="reserved bit"),
        pytest.param(small(0x83), PROTOCOL_ERROR, id="reserved data frame"),
        pytest.param(small(0x8B), PROTOCOL_ERROR, id="reserved control frame"),
        pytest.param(small(0x09), PROTOCOL_ERROR, id="fragmented ping"),
        pytest.param(b"\x82\x04data", PROTOCOL_ERROR, id="no mask"),
        pytest.param(header(0x89, 126), PROTOCOL_ERROR, id="long ping"),
        pytest.param(header(0x82, MAX_FRAME + 1), TOO_BIG, id="large"),
        pytest.param(header(0x82, 2**64 - 1), TOO_BIG, id="largest"),
    ],
)
def test_violations_are_refused(data: bytes, code: int) -> None:
    assert violation(data) == code


def test_masked_frames_of_a_server_are_refused() -> None:
    data = written(Frame(Opcode.BINARY, b"masked"), by_client=True)
    assert violation(data, by_client=False) == PROTOCOL_ERROR


@given(st.binary(max_size=400), st.integers(1, 50), st.booleans())
def test_any_input_is_read_or_refused(data: bytes, step: int, client: bool) -> None:
    stream = WebSocketStream(client=client)
    try:
        for at in range(0, len(data), step):
            stream.receive_data(data[at : at + step])
            stream.take_reply()
    except RemoteProtocolError:
        assert stream.ended
