"""What a session needs to outlive its link (docs/spec/tunnel-v1.md, section 7).

Both ends number the counted frames of each direction by their order. What was sent is kept until the other end has said
that it arrived; after a broken link it is sent again from the first frame that did not. What is kept is what was
written, one object for each write: nothing is copied while nothing breaks.
"""

from collections import deque
from typing import Final

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import COUNTED, FrameType
from zerotrust.tunnel.frames import HEADER, HEADER_BYTES, encode

REPLAY_BYTES: Final = 8 * 1024 * 1024
"""Kept without an acknowledgement, then no more DATA is sent: the largest window, so it does not slow one stream."""
MOST_REPLAYS: Final = 4
"""Times REPLAY_BYTES: heads and credit go on until then. An end that acknowledges none of that is not one of ours."""
_WRITE_OVERHEAD: Final = 128
"""Memory that a write takes besides its bytes."""
ACK_FRAMES: Final = 64
ACK_BYTES: Final = 256 * 1024


class Resumption:
    """How far both directions of a session have come.

    Attributes:
        received: counted frames that have arrived.
        sent: counted frames that were sent; `acknowledged`: of these, how many the other end has.
        held: memory of what is kept for sending again.
    """

    __slots__ = ("_budget", "_kept", "_told", "_untold_bytes", "acknowledged", "held", "received", "sent")

    def __init__(self, budget: int = REPLAY_BYTES) -> None:
        self.received = 0
        self.sent = 0
        self.acknowledged = 0
        self.held = 0
        self._budget = budget
        self._kept: deque[tuple[int, bytes]] = deque()
        self._told = 0
        self._untold_bytes = 0

    # ---- what was sent

    @property
    def left(self) -> int:
        """How much more may be kept; no more DATA is sent where that is nothing."""
        return self._budget - self.held

    @property
    def hopeless(self) -> bool:
        """The other end acknowledges nothing."""
        return self.held >= MOST_REPLAYS * self._budget

    def keep(self, written: bytes, count: int) -> None:
        """Note what is being written: whole frames, `count` of them counted."""
        self.sent += count
        self.held += len(written) + _WRITE_OVERHEAD
        self._kept.append((self.sent, written))

    def acknowledge(self, count: int) -> None:
        """The other end has the first `count` frames.

        Raises:
            RemoteProtocolError: so many were never sent.
        """
        if count > self.sent:
            raise RemoteProtocolError(f"{count} frames acknowledged, {self.sent} were sent")
        kept = self._kept
        while kept and kept[0][0] <= count:
            self.held -= len(kept.popleft()[1]) + _WRITE_OVERHEAD
        self.acknowledged = max(self.acknowledged, count)

    def again(self) -> bytes:
        """All counted frames that were not acknowledged, as they were sent."""
        number = self.acknowledged
        pieces: list[bytes] = []
        for last, written in self._kept:
            frames = _counted(written)
            first = last - len(frames) + 1
            pieces += frames[max(0, number + 1 - first) :]
        return b"".join(pieces)

    # ---- what has arrived

    @property
    def untold(self) -> int:
        """Frames that arrived since the last acknowledgement."""
        return self.received - self._told

    def arrived(self, count: int, size: int) -> bool:
        """Note counted frames, and the bytes that brought them; whether it is time to acknowledge them."""
        self.received += count
        self._untold_bytes += size
        return self.received - self._told >= ACK_FRAMES or self._untold_bytes >= ACK_BYTES

    def acknowledgement(self) -> bytes:
        """The frame that says how much has arrived."""
        self.tell()
        return encode(FrameType.ACK, 0, 0, self.received.to_bytes(8, "big"))

    def tell(self) -> None:
        """The other end is being told how much has arrived."""
        self._told = self.received
        self._untold_bytes = 0


def read_count(payload: bytes) -> int:
    """The number in an ACK.

    Raises:
        RemoteProtocolError: it has none.
    """
    if len(payload) != 8:
        raise RemoteProtocolError("ACK needs 8 bytes")
    return int.from_bytes(payload, "big")


def _counted(written: bytes) -> list[bytes]:
    """The counted frames of what was written."""
    frames: list[bytes] = []
    at = 0
    while at < len(written):
        kind, _, length, _ = HEADER.unpack_from(written, at)
        after = at + HEADER_BYTES + length
        if kind >= COUNTED:
            frames.append(written[at:after])
        at = after
    return frames
