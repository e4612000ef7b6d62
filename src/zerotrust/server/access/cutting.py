"""Cutting: ends requests that run, as soon as their clients may not go on.

It covers WebSockets, downloads, uploads and event streams. All of them are judged again when a
credential has ended, a subject or the rules have changed, and every `FULL_INTERVAL`. Between these,
expired credentials are looked for every `INTERVAL`, if one may have expired.
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
"""Seconds between two looks for credentials that have expired."""
FULL_INTERVAL: Final = 15.0
"""Seconds between two judgements of all requests: conditions with `until`, and proofs of identity,
expire without a change."""
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
        judged_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            due = self._changed.is_set() or loop.time() - judged_at >= FULL_INTERVAL
            if due or self._gatekeeper.first_end <= time():
                self._changed.clear()
                judged_at = loop.time()
                await self._judge_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._changed.wait()

    async def _judge_all(self) -> None:
        """Judge all requests, in slices."""
        gatekeeper = self._gatekeeper
        gatekeeper.first_end = first_end = FOREVER
        ended: dict[str, int] = {}
        slice_ends = perf_counter() + SLICE
        for number, request in enumerate(self._requests()):
            if number % CLOCK_EVERY == 0 and perf_counter() >= slice_ends:
                await asyncio.sleep(0)
                slice_ends = perf_counter() + SLICE
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

    def _requests(self) -> Iterator[RunningRequest]:
        for session in list(self._sessions()):
            for request in session.open_requests():
                yield cast("RunningRequest", request)
