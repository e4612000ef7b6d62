"""Cutting: ends requests that run, as soon as their clients may not go on.

It covers WebSockets, downloads, uploads and event streams. All of them are judged again when a
credential has ended, a subject or the rules have changed. What ends by the clock alone is looked
for every `INTERVAL`; a server with so many requests that this would take more than `CLOCK_SHARE` of
its time looks less often, but at least every `LONGEST_INTERVAL` and when a credential expires.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import perf_counter, time
from typing import Final, Protocol, cast

from zerotrust.access.conditions import FOREVER
from zerotrust.server.access.gatekeeper import GatedRequest, Gatekeeper
from zerotrust.telemetry import logs

_log = logs.logger("access")

INTERVAL: Final = 0.5
"""Seconds between two looks for requests that have ended by the clock alone: their credential has
expired or was idle, its proof of identity is too old, or a condition had an `until`."""
CLOCK_SHARE: Final = 0.01
"""Share of the loop's time for these looks."""
LONGEST_INTERVAL: Final = 15.0
"""Most seconds between two of these looks."""
SLICE: Final = 0.005
"""Seconds for which requests are judged before the loop does other work."""
CLOCK_EVERY: Final = 64
"""Requests between two looks at the clock."""


class RunningRequest(Protocol):
    """A request that runs (`server.proxy.relay`)."""

    @property
    def context(self) -> GatedRequest:
        """The request."""

    @property
    def over(self) -> bool:
        """The client has its answer."""

    def withdraw(self, reason: str) -> None:
        """End the request at once: its client may not go on with it."""


class _Session(Protocol):
    """An agent's session (`server.agents.session`)."""

    def open_requests(self) -> Iterator[object]:
        """Yield the owners of all streams."""


class Cutting:
    """Judges the requests that run, and ends those that may not go on.

    Args:
        sessions: returns the sessions of all agents.

    Attributes:
        cut: how many requests were ended, by reason.
    """

    def __init__(self, gatekeeper: Gatekeeper, sessions: Callable[[], Iterable[_Session]]) -> None:
        self.cut: dict[str, int] = {}
        self._gatekeeper = gatekeeper
        self._sessions = sessions
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Judge all requests soon: a credential, a subject or the rules have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Judge requests, until cancelled."""
        next_look = 0.0
        loop = asyncio.get_running_loop()
        while True:
            due = self._changed.is_set() or loop.time() >= next_look
            if due or self._gatekeeper.first_end <= time():
                self._changed.clear()
                spent = await self._judge_all()
                next_look = loop.time() + pause_after(spent)
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._changed.wait()

    async def _judge_all(self) -> float:
        """Judge all requests, in slices; return the seconds of the loop's time that it took."""
        gatekeeper = self._gatekeeper
        gatekeeper.first_end = first_end = FOREVER
        ended: dict[str, int] = {}
        spent, began = 0.0, perf_counter()
        for number, request in enumerate(self._requests()):
            if number % CLOCK_EVERY == 0 and perf_counter() >= began + SLICE:
                spent += perf_counter() - began
                await asyncio.sleep(0)
                began = perf_counter()
            if request.over:
                continue
            context = request.context
            reason = gatekeeper.reason_to_cut(context, time())
            if reason:
                ended[reason] = ended.get(reason, 0) + 1
                request.withdraw(reason)
            elif context.who is not None and context.who.ends_at < first_end:
                first_end = context.who.ends_at
        gatekeeper.first_end = min(gatekeeper.first_end, first_end)
        for reason, count in ended.items():
            self.cut[reason] = self.cut.get(reason, 0) + count
            _log.info("requests ended", reason=reason, count=count)
        return spent + perf_counter() - began

    def _requests(self) -> Iterator[RunningRequest]:
        for session in list(self._sessions()):
            for request in session.open_requests():
                yield cast("RunningRequest", request)


def pause_after(spent: float) -> float:
    """Return the seconds until the next look for what ends by the clock alone.

    Args:
        spent: seconds that the last one has taken.
    """
    return min(spent / CLOCK_SHARE, LONGEST_INTERVAL)
