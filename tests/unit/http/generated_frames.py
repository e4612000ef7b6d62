"""Frames of WebSockets, also generated ones and cut anywhere, for tests of what follows them."""

import random
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

from zerotrust.http.websocket_meter import FrameMeter, WebSocketMeter, unmasked

MASK = b"mask"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def meter(clock: Callable[[], float] | None = None) -> WebSocketMeter:
    return WebSocketMeter(clock or Clock())


def backend() -> FrameMeter:
    return meter().backend


class Frame(NamedTuple):
    first: int
    payload: bytes
    masked: bool = False
    widest: bool = False

    @property
    def data(self) -> bytes:
        """The frame; `widest` uses the longest form of the length, which is not canonical."""
        mask, size = 0x80 if self.masked else 0, len(self.payload)
        if self.widest or size > 0xFFFF:
            head = bytes((self.first, mask | 127)) + size.to_bytes(8, "big")
        elif size > 125:
            head = bytes((self.first, mask | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((self.first, mask | size))
        if not self.masked:
            return head + self.payload
        return head + MASK + unmasked(self.payload, MASK)


frames = st.lists(
    st.builds(
        Frame,
        st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x89, 0x8A, 0xC1]),
        st.integers(0, 70_000).map(bytes) | st.binary(max_size=130),
        masked=st.booleans(),
        widest=st.booleans(),
    ),
    max_size=6,
)
cuts = st.integers(0, 1 << 30)


def pieces(data: bytes, seed: int) -> list[bytes]:
    """Cut the bytes anywhere, the same way for the same seed."""
    choose, found, at = random.Random(seed), [], 0
    while at < len(data):
        step = choose.choice([1, 2, 3, 9, 14, 100, 5000, 70_000])
        found.append(data[at : at + step])
        at += step
    return found
