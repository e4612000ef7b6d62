"""Event streams: they tell each open page which of its fragments have changed.

One stream a page, at most one event a second. An event has the versions of the fragments that have
changed; the script fetches those whose version it does not show yet.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

MAX_STREAMS: Final = 32
"""Streams at the same time. The pages of others work, without changing by themselves."""
INTERVAL: Final = 1.0
KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a comment shows proxies that the stream lives."""
SEND_TIMEOUT: Final = 30.0
"""Seconds for which a client may leave an event unread."""
RECONNECT: Final = 2000
"""Milliseconds after which a browser connects again."""


Versions = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the version of each fragment of a page."""


class EventStreamResponse(StreamingResponse):
    """Response with the events of a page. A client that does not read them loses it.

    Args:
        send_timeout: seconds for which a client may leave an event unread.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], *, send_timeout: float) -> None:
        super().__init__(events)
        self._events = events
        self._send_timeout = send_timeout

    async def stream_response(self, send: Send) -> None:
        """Send the events (starlette)."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout):
                await send(message)

        # The server breaks the connection off, because the response has no end.
        async with aclosing(self._events):
            with suppress(TimeoutError):
                await super().stream_response(send_in_time)


class EventStreams:
    """All streams that are open.

    Args:
        most: streams at the same time.
        interval: seconds between two looks for changes.
        send_timeout: seconds for which a client may leave an event unread.

    Attributes:
        open: number of streams.
    """

    def __init__(
        self,
        *,
        most: int = MAX_STREAMS,
        interval: float = INTERVAL,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        self.open = 0
        self._most = most
        self._interval = interval
        self._send_timeout = send_timeout
        self._ending = asyncio.Event()

    def response(self, versions: Versions, *, may_go_on: Callable[[], bool]) -> Response:
        """Return the response with the stream of a page.

        Args:
            versions: returns the version of each fragment now.
            may_go_on: returns False once the user may no longer look.
        """
        if self.open >= self._most or self._ending.is_set():
            return Response("too many pages are open\n", 503, headers={"Retry-After": "10"})
        return EventStreamResponse(
            self.events(versions, may_go_on=may_go_on), send_timeout=self._send_timeout
        )

    async def events(
        self, versions: Versions, *, may_go_on: Callable[[], bool]
    ) -> AsyncGenerator[str, None]:
        """Yield events until the user may no longer look, or the server ends all streams."""
        self.open += 1
        try:
            yield f"retry: {RECONNECT}\n\n"
            sent: dict[str, str] = {}
            silent = 0.0
            while not self._ending.is_set():
                if not may_go_on():
                    yield "event: ended\ndata: -\n\n"
                    return
                changed = {
                    name: version
                    for name, version in (await versions()).items()
                    if sent.get(name) != version
                }
                if changed:
                    sent.update(changed)
                    silent = 0.0
                    yield f"event: changed\ndata: {json.dumps(changed)}\n\n"
                elif silent >= KEEP_ALIVE:
                    silent = 0.0
                    yield ": \n\n"
                silent += self._interval
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._ending.wait()
        finally:
            self.open -= 1

    def end(self) -> None:
        """End all streams, and begin no more: the server stops."""
        self._ending.set()
