"""Tests of zerotrust.http.websocket_meter, with generated frames that are split anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.generated_frames import Clock, Frame, backend, cuts, frames, meter, pieces
from zerotrust.http.websocket_frames import POLICY_VIOLATION, close_frame, ping_frame
from zerotrust.http.websocket_meter import (
    ABNORMAL,
    BACKEND,
    CLIENT,
    CONNECTION,
    NO_STATUS,
    OPCODES,
    SERVER,
    SIZES,
    ControlFrames,
    FrameMeter,
    FramePlace,
    WebSocketEnd,
    WebSocketMeter,
    code_label,
)

# Boundaries


@given(frames, cuts)
def test_boundaries_are_independent_of_splitting(sent: list[Frame], seed: int) -> None:
    ends = {0}
    for one in sent:
        ends.add(max(ends) + len(one.data))
    tracked, at = backend(), 0
    assert tracked.between
    for piece in pieces(b"".join(one.data for one in sent), seed):
        tracked.feed(piece)
        at += len(piece)
        assert tracked.between == (at in ends)
    assert not tracked.closed


@given(st.binary(max_size=200), st.integers(1, 9))
def test_a_close_frame_is_noticed(before: bytes, step: int) -> None:
    data = Frame(0x82, before).data + close_frame(POLICY_VIOLATION, "revoked")
    tracked = meter()
    for at in range(0, len(data), step):
        tracked.backend.feed(data[at : at + step])
    assert tracked.backend.closed
    assert tracked.backend.between
    assert tracked.end == WebSocketEnd(BACKEND, POLICY_VIOLATION, "revoked")


@given(st.lists(st.binary(max_size=40)))
def test_any_input_is_accepted_however_it_is_split(chunks: list[bytes]) -> None:
    split, whole = meter(), meter()
    for chunk in chunks:
        split.client.feed(chunk)
    whole.client.feed(b"".join(chunks))
    assert split.stats() == whole.stats()
    for name in ("between", "closed", "has_data", "sound", "largest_message", "messages", "bytes"):
        assert getattr(split.client, name) == getattr(whole.client, name), name


@pytest.mark.parametrize("size", [0, 5, 200, 70_000])
@pytest.mark.parametrize("masked", [False, True])
def test_the_end_of_a_frame_is_known_with_its_whole_header(size: int, masked: bool) -> None:
    data = Frame(0x82, bytes(size), masked=masked).data
    for split in range(1, len(data) - size):
        tracked = backend()
        tracked.feed(data[:split])
        for rest in (data[split:], data[split:] + b"next frame"):
            assert tracked.until_end(rest) == len(data) - split
        short = data[split : len(data) - size - 1]
        assert tracked.until_end(short) >= len(short)


def test_the_end_of_a_control_frame_is_known_within_its_payload() -> None:
    data = Frame(0x89, b"are you there", masked=True).data
    tracked = backend()
    tracked.feed(data[:9])
    assert not tracked.between
    assert tracked.until_end(data[9:] + b"next frame") == len(data) - 9


def test_an_empty_chunk_changes_nothing() -> None:
    tracked = backend()
    tracked.feed(b"\x81\x05he")
    tracked.feed(b"")
    assert not tracked.between
    tracked.feed(b"llo")
    assert tracked.between


@given(frames.filter(bool), st.data())
def test_remaining_bytes_of_the_current_frame(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(one.data for one in sent)
    ends = [sum(len(one.data) for one in sent[:count]) for count in range(len(sent) + 1)]
    at = data.draw(st.integers(0, len(stream)))
    tracked = backend()
    tracked.feed(stream[:at])
    for size in (1, 3, 10, len(stream)):
        piece = stream[at : at + size]
        passes = piece[: tracked.until_end(piece)]
        tracked.feed(passes)
        at += len(passes)
        if tracked.between:
            break
    assert at in ends
    assert tracked.until_end(b"more") == 0


# Counts


@given(frames, cuts)
def test_counts_are_those_of_the_frames_however_they_are_cut(sent: list[Frame], seed: int) -> None:
    tracked = backend()
    for piece in pieces(b"".join(one.data for one in sent), seed):
        tracked.feed(piece)
    stats = tracked.stats()
    names = dict(enumerate(["continuation", "text", "binary"])) | {
        8: "close",
        9: "ping",
        10: "pong",
    }
    for opcode, name in names.items():
        assert stats.frames[name] == sum(one.first & 0x0F == opcode for one in sent)
    assert stats.frames["reserved"] == 0
    assert stats.bytes == sum(len(one.data) for one in sent)
    assert stats.compressed == sum(bool(one.first & 0x40) for one in sent)
    assert stats.largest_frame == max((len(one.payload) for one in sent), default=0)
    assert sum(stats.sizes) == len(sent)
    for place, count in enumerate(stats.sizes[:-1]):
        least = 4 ** (place - 1) if place else 0
        assert count == sum(least <= len(one.payload) < 4**place for one in sent)


def test_a_message_is_as_large_as_all_its_frames() -> None:
    tracked = backend()
    tracked.feed(Frame(0x01, bytes(100)).data + Frame(0x89, b"ping").data)
    tracked.feed(Frame(0x00, bytes(50)).data + Frame(0x80, bytes(7)).data)
    assert (tracked.largest_message, tracked.stats().messages) == (157, 1)
    assert tracked.messages == 2
    tracked.feed(Frame(0x82, bytes(20)).data)
    assert (tracked.largest_message, tracked.stats().messages) == (157, 2)
    assert tracked.sound


def test_the_announced_size_counts_before_the_payload_comes() -> None:
    tracked = backend()
    tracked.feed(Frame(0x82, bytes(100_000)).data[:10])
    assert tracked.largest_message == 100_000


def test_the_largest_frames_share_a_class() -> None:
    tracked = backend()
    tracked.feed(b"\x82\x7f" + (1 << 62).to_bytes(8, "big"))
    assert tracked.stats().sizes == (*[0] * (SIZES - 1), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"\x83\x00",
        b"\x8b\x00",
        b"\x8f\x00",
        b"\x80\x00",
        b"\x01\x00\x81\x00",
        b"\xa1\x00",
        b"\xc9\x00",
        b"\x09\x00",
        b"\x89\x7e\x00\x7e" + bytes(126),
    ],
    ids=[
        "reserved",
        "reserved control",
        "last reserved control",
        "continues nothing",
        "interrupts a message",
        "unknown bit",
        "compressed control",
        "fragmented control",
        "long control",
    ],
)
def test_what_is_no_valid_frame_is_noticed_and_followed(data: bytes) -> None:
    tracked = backend()
    tracked.feed(data + b"\x81\x02hi")
    assert not tracked.sound
    assert tracked.between
    assert tracked.stats().frames["text"] >= 1


# Round trips


@pytest.mark.parametrize("masked", [False, True])
def test_a_pong_of_the_last_ping_gives_the_round_trip(masked: bool) -> None:
    clock = Clock()
    tracked = meter(clock)
    tracked.backend.feed(ping_frame(b"one") + ping_frame(b"two"))
    tracked.client.feed(Frame(0x89, b"mine", masked=masked).data)
    clock.now += 0.25
    tracked.client.feed(Frame(0x8A, b"one", masked=masked).data)
    tracked.backend.feed(Frame(0x8A, b"not mine").data)
    assert tracked.stats()[4:6] == (0.0, 0.0)
    tracked.client.feed(Frame(0x8A, b"two", masked=masked).data)
    clock.now += 0.5
    tracked.backend.feed(Frame(0x8A, b"mine").data)
    assert tracked.stats()[4:6] == (0.25, 0.75)
    clock.now += 1
    tracked.client.feed(Frame(0x8A, b"two", masked=masked).data)
    assert tracked.stats().client_round_trip == 0.25


# The end


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", NO_STATUS, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x0f\xa1" + "grüße".encode(), 4001, "grüße"),
        (b"\x03\xe8\xff", 1000, "\ufffd"),
        (b"\x03", 3, ""),
    ],
)
def test_the_first_close_frame_says_who_has_ended_it(
    payload: bytes, code: int, reason: str
) -> None:
    tracked = meter()
    tracked.client.feed(Frame(0x88, payload, masked=True).data)
    tracked.backend.feed(close_frame(1011, "echo"))
    tracked.note_end(CONNECTION)
    assert tracked.end == WebSocketEnd(CLIENT, code, reason)


def test_an_end_without_a_close_frame() -> None:
    tracked = meter()
    tracked.backend.feed(b"\x81\x02h")
    assert tracked.stats().end is None
    tracked.note_end(SERVER, reason="revoked")
    tracked.note_end(CONNECTION)
    assert tracked.stats().end == WebSocketEnd(SERVER, ABNORMAL, "revoked")


def test_an_oversized_close_frame_closes_without_a_reason() -> None:
    tracked = meter()
    tracked.client.feed(Frame(0x88, bytes(200)).data)
    assert tracked.client.closed
    assert tracked.end is None


def test_what_a_page_shows() -> None:
    clock = Clock()
    tracked = WebSocketMeter(clock, subprotocol="chat", extensions="permessage-deflate")
    clock.now += 3
    stats = tracked.stats()
    assert (stats.since, stats.seconds) == (100.0, 3.0)
    assert (stats.subprotocol, stats.extensions) == ("chat", "permessage-deflate")
    assert tuple(stats.client.frames) == OPCODES


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (1000, "1000"),
        (1015, "1015"),
        (3000, "3xxx"),
        (4999, "4xxx"),
        (0, "other"),
        (65535, "other"),
    ],
)
def test_peers_cannot_make_labels_up(code: int, label: str) -> None:
    assert code_label(code) == label


def test_a_control_frame_that_is_none_of_the_three_is_ignored() -> None:
    record = ControlFrames(Clock())
    record.receive(OPCODES.index("reserved"), b"", from_client=True)
    assert record.end is None


# Observers


class Recorder:
    """An observer that keeps all bytes, and the places behind them."""

    def __init__(self) -> None:
        self.seen: dict[bool, bytes] = {True: b"", False: b""}
        self.place = FramePlace()

    def passed(self, meter: FrameMeter, data: bytes) -> None:
        self.seen[meter.from_client] += data
        self.place = meter.place


@given(frames, cuts, st.lists(st.booleans(), max_size=8))
def test_an_observer_gets_all_bytes_and_changes_nothing(
    sent: list[Frame], seed: int, turns: list[bool]
) -> None:
    stream = b"".join(one.data for one in sent)
    plain, observed, recorder = meter(), meter(), Recorder()
    expected = b""
    for number, piece in enumerate(pieces(stream, seed)):
        watched = turns[number % len(turns)] if turns else False
        observed.observe(recorder if watched else None)
        for tracked in (plain, observed):
            tracked.client.feed(piece)
            tracked.backend.feed(piece)
        expected += piece if watched else b""
        assert plain.client.place == observed.client.place
        assert not watched or recorder.place == observed.backend.place
    assert recorder.seen == {True: expected, False: expected}
    assert plain.stats() == observed.stats()
    for name in ("between", "closed", "has_data", "sound", "largest_message", "messages", "bytes"):
        assert getattr(plain.client, name) == getattr(observed.client, name), name


def test_a_meter_without_an_observer_is_the_plain_one() -> None:
    tracked = meter()
    tracked.observe(Recorder())
    assert type(tracked.client) is not FrameMeter
    tracked.observe(None)
    assert type(tracked.client) is type(tracked.backend) is FrameMeter
    assert (tracked.client.from_client, tracked.backend.from_client) == (True, False)
