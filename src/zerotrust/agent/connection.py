"""One of the agent's connections: dial, serve, dial again.

A line keeps one session with the server, and those that this one replaced until their requests have ended. The first
line dials whenever it has no session. The others stand by: they dial when a session is there that allows for more, so
that after a restart of the server each of its agents is back before any has a second connection, and so that a server
that knows only of one does not have them take the place of each other.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from zerotrust.agent.enrollment_client import clocks, is_about_time
from zerotrust.agent.reconnect import Redial
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.services import ServicePlan, Services
from zerotrust.agent.session import ServerSession
from zerotrust.errors import SetupError
from zerotrust.net.channel import describe
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.messages import Renewed
from zerotrust.tunnel.session import Phase, SessionOptions

_log = logs.logger("agent")

BACK_OFF_FIRST: Final = 0.2
BACK_OFF_MOST: Final = 15.0
SOON: Final = 30.0
SOON_MOST: Final = 1.0
"""The longest pause in the first SOON seconds after a session: a server that restarts has requests waiting."""
STEADY: Final = 1.0
"""Seconds that a session must last before its end resets the pauses: they grow where a server ends each at once."""
SUPERSEDED_PAUSE: Final = 60.0
STAND_BY_LOOK: Final = 0.5
STAND_BY_MOST: Final = 2.0
"""A line that stands by dials so many seconds, at most, after it may."""
PUBLISH_TIMEOUT: Final = 30.0
"""For a server to answer for each service: one that has many policies to compile takes a while."""
RELEASE_TIMEOUT: Final = 10.0
"""For a server to answer that a session goes away."""
FAREWELL: Final = 3.0
"""For WebSockets to come to the end of a frame, and for their clients to be told."""


@dataclass(kw_only=True)
class Common:
    """What all lines of an agent share.

    Attributes:
        target: where to dial, now.
        drain_timeout: seconds that a session with another server than `target` has left, whatever is open.
        before_dialling: awaited before a new session is asked for.
        renewed: called with the server's answer to a request for a certificate.
        allows_more: some line has a session beside which the server takes others.
    """

    services: Services
    flusher: WriteCoalescer
    tasks: Tasks
    options: SessionOptions
    target: ServerEndpoint
    drain_timeout: float
    before_dialling: Callable[[], Awaitable[None]]
    renewed: Callable[[Renewed], None]
    allows_more: Callable[[], bool]


class TunnelConnection:
    """Number 0 is the first. What it begins is in `current`, what has been replaced in `leaving`."""

    def __init__(self, common: Common, number: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._common = common
        self._options = replace(common.options, connection=number)
        self.number = number
        self.current: ServerSession | None = None
        self.fresh: ServerSession | None = None
        self.leaving: list[ServerSession] = []
        self.retired = False
        self._turn = number
        self._connected_at = 0.0
        self._handed_over: asyncio.Future[None] = self._loop.create_future()
        self._dial_now = asyncio.Event()

    async def run(self) -> None:
        """Dial the server, again and again, until the line is retired. After an exception it can be run again."""
        try:
            await self._keep_dialling()
        except Exception:
            current, self.current = self.current, None
            if current is not None:
                current.link.close_session(Code.INTERNAL, "the agent has a fault; its log says which")
            raise

    async def _keep_dialling(self) -> None:
        delay, soon_until = BACK_OFF_FIRST, 0.0
        while not self.retired:
            if self.number:
                await self._stand_by()
            self._dial_now.clear()
            ended = await self._session()
            if ended is Code.SUPERSEDED:
                if not self.number:
                    _log.error(
                        "another process uses this agent's certificate: stop it, or give each agent its own",
                        retry_seconds=SUPERSEDED_PAUSE,
                    )
                # Two processes that both come back at once would take the host names from each other for ever.
                await self._pause(SUPERSEDED_PAUSE)
            # Who is not let in is connected for a moment each time.
            steady = self._loop.time() - self._connected_at >= STEADY
            if ended not in (None, Code.NOT_ALLOWED) and steady:
                delay, soon_until = BACK_OFF_FIRST, self._loop.time() + SOON
            # Full jitter: a thousand agents must not come back in step after a restart of their server.
            await self._pause(random.uniform(0, delay))  # noqa: S311
            delay = min(delay * 2, SOON_MOST if self._loop.time() < soon_until else BACK_OFF_MOST)

    @property
    def sessions(self) -> list[ServerSession]:
        """Those that are there, the newest first; without the one that is yet to take over."""
        sessions = (self.current, *self.leaving)
        return [one for one in sessions if one is not None and one.link.session.phase is Phase.OPEN]

    @property
    def is_established(self) -> bool:
        """It has a session."""
        return self.current is not None and self.current.was_established

    def update(self, plan: ServicePlan) -> None:
        """Tell the server of what is offered otherwise from now on."""
        for dispatch in (self.current, self.fresh):
            if dispatch is not None and dispatch.was_established:
                dispatch.update(plan)

    def sweep(self, now: float) -> None:
        """Give up on backends that do not answer in time, and end sessions that have nothing more to do."""
        if self.current is not None:
            self.current.sweep(now)
        for dispatch in self.leaving:
            dispatch.sweep(now)
            if not dispatch.target.same_server(self._common.target):
                self._end_in_time(dispatch, now)
            if dispatch.released.done() and not dispatch.link.session.streams:
                dispatch.link.close_session(Code.GOING_AWAY, "a newer session took over")
        self.leaving = [dispatch for dispatch in self.leaving if not dispatch.link.closed.done()]

    def retire(self) -> None:
        """Take nothing more; what runs goes on."""
        self.retired = True
        self._dial_now.set()
        if self.current is not None:
            self.current.go_away("the agent keeps fewer connections")
            self.leaving.append(self.current)
            if not self._handed_over.done():
                self._handed_over.set_result(None)

    # ---- from one session to the next

    async def succeed(self, target: ServerEndpoint) -> ServerSession:
        """A session that has all services, and is not ready yet: for `hand_over`, or `give_up`.

        Raises:
            SetupError: there is none to be had.
        """
        place = target.place(self._turn)
        dispatch = self.fresh = self._dispatch(target, takes_over=True)
        try:
            await target.connect(dispatch.link.as_protocol, self._turn)
        except (OSError, TimeoutError) as error:
            self.fresh = None
            raise SetupError(f"server.address: cannot connect to {place}: {describe(error)}") from error
        await asyncio.wait([dispatch.published], timeout=PUBLISH_TIMEOUT)
        if dispatch.published.done() and dispatch.published.result():
            return dispatch
        self.fresh = None
        _, reason = dispatch.ended or (Code.SILENCE, f"it did not answer for all services in {PUBLISH_TIMEOUT:g} s")
        dispatch.link.close_session(Code.GOING_AWAY, "it is not needed")
        raise SetupError(f"server.address: {place} refused: {reason or 'it closed the connection'}; its log says why")

    def give_up(self) -> None:
        """The successor is not wanted."""
        fresh, self.fresh = self.fresh, None
        if fresh is not None:
            fresh.link.close_session(Code.GOING_AWAY, "the configuration was refused")

    async def hand_over(self) -> None:
        """Go on with the successor; without one, or where there is nothing left to go on from, dial anew."""
        before, fresh = self.current, self.fresh
        self.fresh = None
        if before is None or fresh is None:
            for dispatch in (fresh, before):
                if dispatch is not None:
                    dispatch.link.close_session(Code.GOING_AWAY, "the agent connects anew")
            self._dial_now.set()
            return
        before.go_away("a newer session takes over")
        self.leaving.append(before)
        self.current = fresh
        self._handed_over.set_result(None)
        await asyncio.wait([before.released], timeout=RELEASE_TIMEOUT)
        if not before.released.done():
            before.refuse_streams()
        # Not earlier: it ends what it replaces, but for sessions that have said that they go away.
        fresh.link.session.ready()

    # ---- inside

    async def _session(self) -> Code | None:
        """From dial to end, also of the sessions that take over; why the last ended, None where it was none."""
        await self._common.before_dialling()
        target, turn = self._common.target, self._turn
        place, dispatch = target.place(turn), self._dispatch(target)
        try:
            await target.connect(dispatch.link.as_protocol, turn)
        except (OSError, TimeoutError) as error:
            self._turn += 1
            reason = describe(error)
            if is_about_time(error) and (skew := await target.compare_clocks(turn)) is not None:
                reason = f"{reason}: {clocks(skew)}"
            _log.warning("cannot connect", server=str(place), reason=reason)
            return None
        if target is not self._common.target or self.retired:
            dispatch.link.close_session(Code.GOING_AWAY, "the agent has another server")
            return None
        self.current = dispatch
        self._connected_at = self._loop.time()
        while not (dispatch.link.closed.done() or self.retired):
            self._handed_over = self._loop.create_future()
            gone = [dispatch.link.closed, self._handed_over]
            await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
            dispatch = self.current
        self.current = None
        if self.retired:
            return None
        return _end_of(dispatch, str(place))

    def _end_in_time(self, dispatch: ServerSession, now: float) -> None:
        """End a session with a server that is no longer configured, which may not say for itself how long it has."""
        if dispatch.ends_at == math.inf:
            dispatch.ends_at = now + self._common.drain_timeout
        if now >= dispatch.ends_at:
            dispatch.link.close_session(Code.GOING_AWAY, "the agent has another server")
        elif now >= dispatch.ends_at - FAREWELL and not dispatch.said_farewell:
            # Said twice, it has the server close WebSockets where a frame of theirs ends.
            dispatch.said_farewell = True
            dispatch.go_away("its WebSockets are to come back")

    async def _stand_by(self) -> None:
        while not (self._common.allows_more() or self.retired):  # noqa: ASYNC110  it changes with each session's state
            await asyncio.sleep(STAND_BY_LOOK)
        await self._pause(random.uniform(0, STAND_BY_MOST))  # noqa: S311

    async def _pause(self, seconds: float) -> None:
        """Wait, unless there is another server to dial."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._dial_now.wait()

    def _dispatch(self, target: ServerEndpoint, *, takes_over: bool = False) -> ServerSession:
        common = self._common
        return ServerSession(
            common.services,
            flusher=common.flusher,
            options=self._options,
            target=target,
            renewed=common.renewed,
            lost=self._lost,
            takes_over=takes_over,
        )

    def _lost(self, dispatch: ServerSession) -> None:
        """A session is without a link: it gets another one, to the server that it was with."""
        if dispatch.redial is None:
            common, target = self._common, dispatch.target

            def now() -> ServerEndpoint:
                return common.target if common.target.same_server(target) else target

            dispatch.redial = Redial(dispatch.link, now, common.tasks, turn=self._turn)
        dispatch.redial.begin()


def _end_of(dispatch: ServerSession, place: str) -> Code | None:
    """Say how a session ended; None where it was never established."""
    code, reason = dispatch.ended or (Code.INTERNAL, "")
    if not dispatch.was_established:
        # In TLS 1.3 a client hears that its certificate is refused after its own handshake, or not at all.
        _log.warning(
            "refused: the server may not accept this agent's certificate; its log says why",
            server=place,
            code=code.name,
            reason=reason,
        )
        return None
    _log.warning("disconnected", server=place, code=code.name, reason=reason)
    return code
