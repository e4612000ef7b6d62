"""Deficit round robin over the streams, with a preferred list for streams that send little.

The scheme is that of FQ-CoDel (RFC 8290 s4.1) without the CoDel part. A stream that gets something
to send, and has not used up its quantum in this round, waits in `fresh`, which is always served
first: a WebSocket's message, the first bytes of an answer. A stream that has used up its quantum
waits in `bulk`, where each stream gets one quantum a turn. When all have had their turn, a new
round begins. So small messages overtake a download, downloads share evenly, and many small senders
cannot starve them.
"""

from collections import deque
from typing import Final

from zerotrust.tunnel.codes import END, FrameType
from zerotrust.tunnel.frames import HEADER_BYTES, encode_header
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
        """Add a stream that is ready; a stream that waits already keeps its place."""
        if stream.scheduled:
            return
        if stream.round != self._round:
            stream.round = self._round
            stream.deficit = QUANTUM
        self._put(stream)

    def fill(self, out: list[Chunk], budget: int) -> tuple[list[Stream], int]:
        """Append frames of about `budget` bytes to `out`.

        Returns:
            The streams that the frames are from, and the number of bytes taken from their queues.
        """
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
    """Append one frame of a stream that is ready; return its size in bytes."""
    if not stream.queued:
        assert stream.tail is not None
        kind, payload = stream.tail
        stream.tail = None
        out.append(encode_header(kind, END, len(payload), stream.id))
        out.append(payload)
        return len(payload) + HEADER_BYTES
    piece = stream.take()
    flags = 0
    if not stream.queued and stream.tail is not None and stream.tail[0] == _DATA:
        stream.tail = None
        flags = END
    out.append(encode_header(_DATA, flags, len(piece), stream.id))
    out.append(piece)
    stream.deficit -= len(piece)
    return len(piece) + HEADER_BYTES
