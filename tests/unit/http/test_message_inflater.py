"""Tests of zerotrust.http.message_inflater."""

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http.message_inflater import RATE, MessageInflater
from zerotrust.http.message_reader import KEPT_BYTES, WebSocketMessage
from zerotrust.limits.gcra import Pace

TAKEOVER = "permessage-deflate; server_max_window_bits=12"
NO_TAKEOVER = "permessage-deflate; client_no_context_takeover; Server_No_Context_Takeover"


class Deflater:
    """A sender with permessage-deflate."""

    def __init__(self, *, takeover: bool = True) -> None:
        self._takeover = takeover
        self._made = zlib.compressobj(wbits=-12)

    def send(self, text: bytes, *, cut: bool = False) -> WebSocketMessage:
        if not self._takeover:
            self._made = zlib.compressobj(wbits=-12)
        data = self._made.compress(text) + self._made.flush(zlib.Z_SYNC_FLUSH)
        return message(data.removesuffix(b"\x00\x00\xff\xff"), cut=cut)


def message(data: bytes, *, cut: bool = False) -> WebSocketMessage:
    return WebSocketMessage(1, len(data), data, True, cut)


def inflater(
    extensions: str = TAKEOVER, *, from_client: bool = True, is_first: bool = True
) -> MessageInflater:
    return MessageInflater(extensions, Pace(RATE, RATE), from_client=from_client, is_first=is_first)


texts = st.lists(
    st.binary(max_size=50) | st.sampled_from([b"", b"hello " * 500, bytes(100_000)]), max_size=6
)


@given(texts, st.booleans(), st.booleans())
def test_texts_are_those_that_were_sent(
    sent: list[bytes], takeover: bool, from_client: bool
) -> None:
    deflater = Deflater(takeover=takeover)
    tested = inflater(TAKEOVER if takeover else NO_TAKEOVER, from_client=from_client)
    for text in sent:
        compressed = deflater.send(text)
        found = tested.inflate(compressed, 100.0)
        assert found == (1, compressed.size, text[:KEPT_BYTES], False, len(text) > KEPT_BYTES)
    assert tested.usable


@given(st.binary(max_size=100), st.booleans())
def test_any_input_is_accepted(data: bytes, takeover: bool) -> None:
    tested = inflater(TAKEOVER if takeover else NO_TAKEOVER)
    found = tested.inflate(message(data), 0.0)
    assert len(found.payload) <= KEPT_BYTES
    assert not (found.compressed and found.payload)


@pytest.mark.parametrize(
    ("extensions", "is_first", "usable"),
    [
        (TAKEOVER, True, True),
        (TAKEOVER, False, False),
        (NO_TAKEOVER, False, True),
        ("", True, False),
        ("x-webkit-deflate-frame", True, False),
        ("permessage-deflate, x-other", True, False),
    ],
)
def test_a_capture_that_begins_late_needs_messages_without_context(
    extensions: str, is_first: bool, usable: bool
) -> None:
    tested = inflater(extensions, is_first=is_first)
    assert tested.usable is usable
    compressed = Deflater(takeover=False).send(b"hello")
    assert tested.inflate(compressed, 0.0).compressed is not usable


@pytest.mark.parametrize("takeover", [True, False])
def test_a_message_that_is_missing_ends_a_context(takeover: bool) -> None:
    deflater = Deflater(takeover=takeover)
    tested = inflater(TAKEOVER if takeover else NO_TAKEOVER)
    lost = tested.inflate(deflater.send(b"too large", cut=True), 0.0)
    assert lost.compressed and lost.payload == b"" and lost.cut
    following = tested.inflate(deflater.send(b"too large"), 0.0)
    assert following.compressed is takeover is not tested.usable


def test_an_invalid_message_is_shown_as_compressed() -> None:
    tested = inflater()
    assert tested.inflate(message(b"\xff" * 9), 0.0) == (1, 9, b"", True, True)
    assert not tested.usable


@pytest.mark.parametrize("takeover", [True, False])
def test_the_inflated_bytes_of_a_second_are_bounded(takeover: bool) -> None:
    deflater = Deflater(takeover=takeover)
    tested = inflater(TAKEOVER if takeover else NO_TAKEOVER)
    bomb = deflater.send(bytes(8 * RATE))
    assert bomb.size < 40_000
    assert tested.inflate(bomb, 5.0).compressed is takeover
    if takeover:
        return
    # Without a context only the beginning is inflated. Bytes that do not compress use up the rate.
    noise = random.Random(1).randbytes(4096)
    for _ in range(400):
        found = tested.inflate(deflater.send(noise), 5.0)
    assert found.compressed
    assert not tested.inflate(deflater.send(noise), 10.0).compressed


def test_the_last_block_of_a_stream_ends_a_context() -> None:
    made = zlib.compressobj(wbits=-12)
    tested = inflater()
    found = tested.inflate(message(made.compress(b"hello") + made.flush(zlib.Z_FINISH)), 0.0)
    assert found.payload == b"hello" and not found.compressed
    assert not tested.usable
