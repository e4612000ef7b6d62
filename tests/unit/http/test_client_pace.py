"""Tests of zerotrust.http.client_pace."""

import pytest

from tests.unit.http.generated_frames import Frame, meter
from zerotrust.http.client_pace import Breach, ClientLimits, ClientPace
from zerotrust.http.websocket_meter import FrameMeter

TEXT = Frame(0x81, b"hello", masked=True).data


class Sender:
    """A client that sends, and its limits."""

    def __init__(self, limits: ClientLimits) -> None:
        self.client: FrameMeter = meter().client
        self.pace = ClientPace(limits)

    def send(self, data: bytes, now: float) -> Breach | None:
        self.client.feed(data)
        return self.pace.check(self.client, now)


def test_without_limits_nothing_is_too_much() -> None:
    sender = Sender(ClientLimits())
    assert sender.send(TEXT * 10_000, 0.0) is None


@pytest.mark.parametrize("size", [999, 1000])
def test_a_message_that_just_fits(size: int) -> None:
    sender = Sender(ClientLimits(max_message=1000))
    assert sender.send(Frame(0x82, bytes(size), masked=True).data * 3, 0.0) is None


@pytest.mark.parametrize(
    "sent",
    [
        [Frame(0x82, bytes(1001), masked=True).data],
        [Frame(0x82, bytes(1001), masked=True).data[:8]],
        [Frame(0x02, bytes(600)).data, Frame(0x00, bytes(400)).data, Frame(0x80, bytes(1)).data],
        [b"\x89\xff" + (1 << 30).to_bytes(8, "big") + b"mask"],
        [b"\x8b\xfe" + (1001).to_bytes(2, "big") + b"mask"],
    ],
    ids=["whole", "header alone", "fragments", "ping", "reserved opcode"],
)
def test_a_message_that_is_too_large(sent: list[bytes]) -> None:
    sender = Sender(ClientLimits(max_message=1000))
    found = [sender.send(data, 0.0) for data in sent]
    assert found[:-1] == [None] * (len(sent) - 1)
    assert found[-1] == Breach(1009, "message too large")


def test_messages_have_a_burst_and_then_a_rate() -> None:
    sender = Sender(ClientLimits(messages=50, burst=100))
    assert sender.send(TEXT * 100, 0.0) is None
    assert sender.send(TEXT, 0.02) is None
    assert sender.send(TEXT, 0.02) == Breach(1008, "too many messages")


def test_pings_count_as_messages_and_fragments_do_not() -> None:
    sender = Sender(ClientLimits(messages=1, burst=2))
    fragments = Frame(0x01, b"a").data + Frame(0x00, b"b").data * 50 + Frame(0x80, b"c").data
    assert sender.send(fragments, 0.0) is None
    assert sender.send(Frame(0x89, b"").data, 0.0) is None
    assert sender.send(Frame(0x89, b"").data, 0.0) == Breach(1008, "too many messages")


def test_frames_that_continue_nothing_are_messages() -> None:
    sender = Sender(ClientLimits(messages=1, burst=2))
    assert sender.send(Frame(0x80, b"c").data * 3, 0.0) == Breach(1008, "too many messages")


def test_bytes_have_a_burst_of_one_second() -> None:
    sender = Sender(ClientLimits(byte_rate=1_000_000))
    frame = Frame(0x82, bytes(500_000 - 14), masked=True).data
    assert len(frame) == 500_000
    assert [sender.send(frame, now) for now in (0.0, 0.0, 0.5)] == [None] * 3
    assert sender.send(frame[:10], 0.5) == Breach(1008, "too many bytes")


def test_a_message_of_the_largest_size_is_legal_at_any_rate() -> None:
    sender = Sender(ClientLimits(max_message=1 << 20, byte_rate=2048))
    assert sender.send(Frame(0x82, bytes(1 << 20), masked=True).data, 0.0) is None
    assert sender.send(TEXT * 10, 1.0) is None


@pytest.mark.parametrize(
    ("limits", "frame", "per_second", "code"),
    [
        (ClientLimits(messages=50, burst=50), TEXT, 500, 1008),
        (ClientLimits(messages=50, burst=100), TEXT, 500, 1008),
        (ClientLimits(byte_rate=100_000), Frame(0x82, bytes(9986), masked=True).data, 100, 1008),
        (ClientLimits(max_message=1000), Frame(0x82, bytes(10_000), masked=True).data, 1, 1009),
    ],
    ids=["messages", "twice the burst", "bytes", "size"],
)
def test_ten_times_a_limit_ends_within_a_second(
    limits: ClientLimits, frame: bytes, per_second: int, code: int
) -> None:
    sender = Sender(limits)
    for number in range(per_second):
        breach = sender.send(frame, number / per_second)
        if breach is not None:
            assert breach.code == code
            return
    pytest.fail("no limit was found exceeded within a second")


def test_a_client_at_the_rate_goes_on_for_ever() -> None:
    sender = Sender(ClientLimits(max_message=5, messages=50, burst=1, byte_rate=50 * len(TEXT)))
    assert all(sender.send(TEXT, number / 50) is None for number in range(10_000))
