"""Which stream sends next when not all can: deficit round robin with a preferred list for those that send little.

The scheme is that of FQ-CoDel (RFC 8290 s4.1) without the CoDel part. A stream that gets something to send, and has not
used up its quantum in this round, waits in `fresh`, which is always served first: a WebSocket's message, an answer's
first bytes. Who uses up the quantum goes to `bulk`, where each gets one quantum a turn; when all have had theirs, a new
round begins. So small messages overtake a download, downloads share evenly, and no crowd of small senders starves them.
"""

from collections import deque
from typing import Final

from zerotrust.tunnel.codes import END, FrameType
from zerotrust.tunnel.frames import HEADER
from zerotrust.tunnel.stream import QUANTUM, Chunk, Stream

_DATA: Final = int(FrameType.DATA)


class Scheduler:
    """The streams that have something to send and credit to send it."""

    __slots__ = ("_bulk", "_fresh", "_round", "_turns")

    def __init__(self) -> None:
        self._fresh: deque[Stream] = deque()
        self._bulk: deque[Stream] = deque()
        self._round = 0
        self._turns = 0

    def __bool__(self) -> bool:
        return bool(self._fresh or self._bulk)

    def add(self, stream: Stream) -> None:
        """Put a stream that is ready into its list; one that is in a list already stays where it is."""
        if stream.scheduled:
            return
        if stream.round != self._round:
            stream.round = self._round
            stream.deficit = QUANTUM
        self._put(stream)

    def fill(self, out: list[Chunk], budget: int) -> tuple[list[Stream], int]:
        """Append frames for about `budget` bytes to `out`; the streams that were taken from, and how much that was."""
        served: list[Stream] = []
        taken = 0
        while budget > 0 and (self._fresh or self._bulk):
            stream = self._fresh.popleft() if self._fresh else self._turn()
            stream.scheduled = False
            if not stream.ready:
                continue
            queued = stream.queued
            budget -= _send_one(stream, out)
            taken += queued - stream.queued
            served.append(stream)
            if stream.ready:
                self._put(stream)
        return served, taken

    def _put(self, stream: Stream) -> None:
        stream.scheduled = True
        (self._fresh if stream.deficit > 0 else self._bulk).append(stream)

    def _turn(self) -> Stream:
        if not self._turns:
            self._round += 1
            self._turns = len(self._bulk)
        self._turns -= 1
        stream = self._bulk.popleft()
        stream.round = self._round
        stream.deficit += QUANTUM
        return stream


def _send_one(stream: Stream, out: list[Chunk]) -> int:
    """One frame of a stream that is ready; the bytes it took."""
    if not stream.queued:
        assert stream.tail is not None
        kind, payload = stream.tail
        stream.tail = None
        out.append(HEADER.pack(kind, END, len(payload), stream.id))
        out.append(payload)
        return len(payload) + HEADER.size
    piece = stream.take()
    flags = 0
    if not stream.queued and stream.tail is not None and stream.tail[0] == _DATA:
        stream.tail = None
        flags = END
    out.append(HEADER.pack(_DATA, flags, len(piece), stream.id))
    out.append(piece)
    stream.deficit -= len(piece)
    return len(piece) + HEADER.size
