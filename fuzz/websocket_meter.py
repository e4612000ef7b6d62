"""Fuzz target: whatever is fed to what follows a WebSocket, cuts change nothing.

Run: python fuzz/websocket_meter.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["zerotrust.http", "zerotrust.limits"]):
    from zerotrust.http.client_pace import ClientLimits, ClientPace
    from zerotrust.http.message_inflater import RATE, MessageInflater
    from zerotrust.http.message_reader import KEPT_BYTES, MessageReader
    from zerotrust.http.websocket_meter import FramePlace, WebSocketMeter
    from zerotrust.http.websocket_pings import ClientPings, Quiet
    from zerotrust.limits.gcra import Pace

LIMITS = ClientLimits(max_message=1000, messages=10, burst=10, byte_rate=4096)


def clock() -> float:
    return 1.0


def fed(pieces: list[bytes]) -> WebSocketMeter:
    meter = WebSocketMeter(clock)
    for piece in pieces:
        meter.client.feed(piece)
        meter.backend.feed(piece)
    return meter


def one_meter(data: bytes, step: int) -> None:
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    split, whole = fed(pieces), fed([data])
    assert split.client.stats() == whole.client.stats()
    assert split.backend.stats() == whole.backend.stats()
    assert split.client.between == whole.client.between
    assert split.client.sound == whole.client.sound
    assert split.client.until_end(b"more") == whole.client.until_end(b"more")
    assert (split.end is None) == (whole.end is None)
    assert split.client.bytes == len(data)


def one_pace(data: bytes, step: int) -> None:
    """Check that a limit which is found exceeded in pieces is so as a whole."""
    meter, pace = WebSocketMeter(clock), ClientPace(LIMITS)
    found = None
    for at in range(0, len(data), step):
        meter.client.feed(data[at : at + step])
        found = found or pace.check(meter.client, 0.0)
    whole = fed([data])
    assert (found is None) == (ClientPace(LIMITS).check(whole.client, 0.0) is None)


def one_pong(data: bytes, step: int) -> None:
    """Check that nothing but the Pong is missing from what passes."""
    meter, pings = WebSocketMeter(clock), ClientPings(b"abcdefgh")
    pings.look(meter)
    assert pings.look(meter) is Quiet.PING
    pong = b"\x8a" + pings.ping(meter)[1:]
    passed = b"".join(
        pings.without_pong(data[at : at + step]) if pings.waiting else data[at : at + step]
        for at in range(0, len(data), step)
    )
    passed += pings.rest()
    assert passed == data or any(
        passed == data[:at] + data[at + len(pong) :] for at in range(len(data))
    )


def one_capture(data: bytes, step: int) -> None:
    """Check that messages are the same however they are cut, and bounded when inflated."""
    reader = MessageReader(FramePlace())
    messages = [
        message for at in range(0, len(data), step) for message in reader.feed(data[at : at + step])
    ]
    assert messages == MessageReader(FramePlace()).feed(data)
    inflater = MessageInflater(
        "permessage-deflate", Pace(RATE, RATE), from_client=True, is_first=True
    )
    for message in messages:
        if message.compressed:
            message = inflater.inflate(message, 1.0)
        assert len(message.payload) <= KEPT_BYTES


def test_one_input(data: bytes) -> None:
    step = data[0] % 32 + 1 if data else 1
    one_meter(data[1:], step)
    one_pace(data[1:], step)
    one_pong(data[1:], step)
    one_capture(data[1:], step)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
