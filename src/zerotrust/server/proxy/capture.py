"""Capture of the messages of one WebSocket: a bounded part of each, in memory only.

The relay hands over the bytes of both directions as it sends them on; the capture reads them later,
in slices. Where it falls behind it loses bytes, and goes on at a frame that it knows the place of.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Final, NamedTuple

from zerotrust.http.message_inflater import RATE, MessageInflater
from zerotrust.http.message_reader import MessageReader, WebSocketMessage
from zerotrust.http.websocket_meter import FrameMeter, FramePlace
from zerotrust.limits.gcra import Pace
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.server.proxy.websocket_relay import WebSocketRelay

PAYLOAD: Final = "payload"
"""Value of `access.inspection` with which a service allows captures."""
KEPT_BYTES: Final = 256 * 1024
"""Memory of the kept messages; the oldest make room for new ones."""
MESSAGE_BYTES: Final = 256
"""Memory that each message takes besides its payload."""
UNREAD_BYTES: Final = 512 * 1024
"""Memory of the bytes that wait to be read; beyond that, bytes are lost. A link may bring a whole
window of a stream in one turn of the loop."""
CHUNK_BYTES: Final = 128
"""Memory that each chunk of bytes takes besides."""
PIECE_BYTES: Final = 512
"""Bytes that are read between two looks at the clock: at most 256 frames."""
SLICE: Final = 0.001
"""Seconds for which messages are read before the loop does other work."""


class CaptureOrder(NamedTuple):
    """Order of an administrator.

    Attributes:
        host: host name or wildcard whose next WebSocket is captured, or that of the connection.
        agent, service: the service that allows it.
        connection: id of the connection; empty for the next one of `host`.
        seconds: time after which it ends, and all that it has captured is forgotten.
    """

    host: str
    agent: str
    service: str
    connection: str
    reason: str
    actor: str
    seconds: float


class CapturedMessage(NamedTuple):
    """Captured message: its number, from 1, and the time in seconds since 1970."""

    number: int
    time: float
    from_client: bool
    message: WebSocketMessage


class Capture:
    """A capture, from its order until its messages are forgotten (`FrameObserver`).

    Attributes:
        started_at, ends_at: seconds since 1970.
        context: the request of the captured WebSocket; None while the capture waits for it.
        messages: the newest messages.
        count: number of messages so far.
        lost_bytes: bytes that were not read, because the capture has fallen behind.
        over: reason for which nothing more is captured; empty while it goes on.
        stopped_by: the administrator who has stopped it.
        is_closed: the captured WebSocket has ended.
        is_recorded: its end is in the audit log.
        is_forgotten: its messages are gone.
    """

    def __init__(
        self,
        capture_id: str,
        order: CaptureOrder,
        *,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
    ) -> None:
        self.id = capture_id
        self.order = order
        self.started_at = unix_clock()
        self.ends_at = self.started_at + order.seconds
        self.context: RequestContext | None = None
        self.messages: deque[CapturedMessage] = deque()
        self.count = 0
        self.lost_bytes = 0
        self.over = ""
        self.stopped_by = ""
        self.is_closed = False
        self.is_recorded = False
        self.is_forgotten = False
        self._clock = clock
        self._unix_clock = unix_clock
        self._deadline = clock() + order.seconds
        self._relay: WebSocketRelay | None = None
        self._readers: dict[bool, MessageReader] = {}
        self._inflaters: dict[bool, MessageInflater] = {}
        self._chunks: deque[tuple[bool, bytes | FramePlace]] = deque()
        self._places: dict[bool, FramePlace] = {}
        """Places behind the lost bytes of both directions."""
        self._unread = 0
        self._kept = 0
        self._wake = asyncio.Event()

    @property
    def connection(self) -> str:
        """Id of the connection; empty while the capture waits for one."""
        return self.order.connection if self.context is None else self.context.id

    @property
    def is_due(self) -> bool:
        """Its time is over."""
        return self._clock() >= self._deadline

    # ---- while the WebSocket is open

    def begin(self, relay: WebSocketRelay) -> None:
        """Capture what passes from now on; nothing, if the capture or the WebSocket has ended."""
        if self.over:
            return
        self.context = relay.context
        meter = relay.observe(self)
        if meter is None:
            self.close()
            return
        self._relay = relay
        pace = Pace(RATE, RATE)
        for one in (meter.client, meter.backend):
            self._readers[one.from_client] = MessageReader(one.place)
            self._inflaters[one.from_client] = MessageInflater(
                meter.extensions, pace, from_client=one.from_client, is_first=one.place.plain
            )

    def passed(self, meter: FrameMeter, data: bytes) -> None:
        from_client = meter.from_client
        size = len(data) + CHUNK_BYTES
        if self._unread + size > UNREAD_BYTES:
            self.lost_bytes += len(data)
            self._places[from_client] = meter.place
            return
        place = self._places.pop(from_client, None)
        if place is not None:
            self._chunks.append((from_client, place))
        self._chunks.append((from_client, data))
        self._unread += size
        self._wake.set()

    def close(self) -> None:
        """Note that the WebSocket has ended. What has passed is read still."""
        self._relay = None
        self.is_closed = True
        self._wake.set()

    def finish(self, why: str) -> None:
        """Capture nothing more; the first reason counts."""
        self.over = self.over or why
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.observe(None)
        self._chunks.clear()
        self._places.clear()
        self._unread = 0
        self._wake.set()

    def forget(self) -> None:
        """Drop all messages."""
        self.messages.clear()
        self.is_forgotten = True

    # ---- in the capture's own task

    async def wait(self, seconds: float) -> None:
        """Wait until something has passed or changed, and at most for these seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    @property
    def may_go_on(self) -> bool:
        """Neither is its time over, nor did an administrator or the service's owner end it."""
        allowed = self.context is None or self.context.inspection == PAYLOAD
        return allowed and not (self.over or self.stopped_by or self.is_due)

    async def read(self) -> None:
        """Read the bytes that have passed, while the capture may go on."""
        began = perf_counter()
        while self._chunks:
            from_client, data = self._chunks.popleft()
            if isinstance(data, FramePlace):
                self._readers[from_client] = MessageReader(data)
                self._inflaters[from_client].lose()
                continue
            self._unread -= len(data) + CHUNK_BYTES
            for at in range(0, len(data), PIECE_BYTES):
                found = self._readers[from_client].feed(data[at : at + PIECE_BYTES])
                if any(one.compressed for one in found):
                    found = await self._inflated(self._inflaters[from_client], found)
                if not self.may_go_on:
                    return
                for message in found:
                    self._keep(from_client, message)
                if perf_counter() >= began + SLICE:
                    await asyncio.sleep(0)
                    began = perf_counter()

    async def _inflated(
        self, inflater: MessageInflater, found: list[WebSocketMessage]
    ) -> list[WebSocketMessage]:
        now = self._clock()

        def inflate() -> list[WebSocketMessage]:
            return [inflater.inflate(one, now) if one.compressed else one for one in found]

        return await asyncio.to_thread(inflate) if inflater.usable else inflate()

    def _keep(self, from_client: bool, message: WebSocketMessage) -> None:
        self.count += 1
        self.messages.append(CapturedMessage(self.count, self._unix_clock(), from_client, message))
        self._kept += len(message.payload) + MESSAGE_BYTES
        while self._kept > KEPT_BYTES:
            self._kept -= len(self.messages.popleft().message.payload) + MESSAGE_BYTES
