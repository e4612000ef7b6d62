"""One of the agent's connections to the server: it dials, serves requests, and dials again.

A connection has one current session, and keeps the sessions that it replaced until their requests
end. The first connection (number 0) dials whenever it has no session. The others wait until another
connection has a session with a server that accepts several: so after a restart of the server every
agent is back before any agent dials a second time, and an older server, which knows one connection
only, never sees two of them replace each other.
"""

import asyncio
import math
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from zerotrust.agent.back_off import BackOff
from zerotrust.agent.direct_return import DirectReturn
from zerotrust.agent.enrollment_client import clocks, is_about_time
from zerotrust.agent.reconnect import Reconnect
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.services import ServicePlan
from zerotrust.agent.session import ServerSession
from zerotrust.errors import SetupError
from zerotrust.net.channel import describe
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.messages import Ready
from zerotrust.tunnel.session import Phase

_log = logs.logger("agent")

STEADY: Final = 1.0
"""Seconds that a session must last before its end resets the backoff. The backoff grows with a
server that ends each session at once."""
SUPERSEDED_PAUSE: Final = 60.0
STAND_BY_LOOK: Final = 0.5
STAND_BY_MOST: Final = 2.0
"""A further connection dials at a random time within these seconds, once it may."""
PUBLISH_TIMEOUT: Final = 30.0
"""Seconds that the server has to answer for all services. Many policies take a while to compile."""
RELEASE_TIMEOUT: Final = 10.0
"""Seconds that the server has to answer that a session goes away."""
FAREWELL: Final = 3.0
"""Seconds that WebSockets get to reach the end of a frame and to tell their clients."""


class SessionFactory(Protocol):
    """Makes sessions that are ready to be connected."""

    def __call__(
        self,
        endpoint: ServerEndpoint,
        number: int,
        *,
        worker: int,
        lost: Callable[[ServerSession], None],
        takes_over: bool,
    ) -> ServerSession:
        """Return a session with the server at `endpoint` for the connection of this number.

        Args:
            worker: the worker of the server that it is with.
            lost: called when the session has lost its link.
            takes_over: the session replaces another one, and the caller makes it ready.
        """


class TunnelConnection:
    """One supervised connection to the server.

    Args:
        number: 0 for the first connection.
        worker: the worker of the server to connect to.
        endpoint: the server to dial.
        back_off: pauses of all connections to this server.
        drain_timeout: seconds that a session with another server than `endpoint` has to end its
            requests.
        before_dialling: awaited before each new session.
        allows_more: returns True while a session is open whose server accepts further connections.

    Attributes:
        current: the session that takes requests.
        fresh: a session that is to replace `current`.
        leaving: sessions that were replaced and end their requests.
        retired: the agent keeps fewer connections now; this one dials no more.
        server_id: id of the server that the last session was with, if it has one.
        problem: the reason why the last attempt to have a session has failed; empty after a
            success.
        handed_over: done when another session has become current, or none will any more.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments
        self,
        number: int,
        endpoint: ServerEndpoint,
        *,
        back_off: BackOff,
        worker: int = 0,
        new_session: SessionFactory,
        tasks: Tasks,
        drain_timeout: float,
        before_dialling: Callable[[], Awaitable[None]],
        allows_more: Callable[[], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.number = number
        self.worker = worker
        self._endpoint = endpoint
        self._back_off = back_off
        self._new_session = new_session
        self._tasks = tasks
        self._drain_timeout = drain_timeout
        self._before_dialling = before_dialling
        self._allows_more = allows_more
        self.current: ServerSession | None = None
        self.fresh: ServerSession | None = None
        self.leaving: list[ServerSession] = []
        self.retired = False
        self._ends = False
        self.server_id: str | None = None
        self.problem = ""
        self._turn = number
        self._direct_return = DirectReturn(
            lambda endpoint: endpoint.connect_directly(self._turn, worker=worker), tasks
        )
        self._connected_at = 0.0
        self.handed_over: asyncio.Future[None] = self._loop.create_future()
        self._dial_now = asyncio.Event()

    def reconfigure(
        self, endpoint: ServerEndpoint, *, back_off: BackOff, drain_timeout: float
    ) -> None:
        """Dial this server from the next session on."""
        self._endpoint = endpoint
        self._back_off = back_off
        self._drain_timeout = drain_timeout

    async def run(self) -> None:
        """Dial the server again and again until the connection is retired.

        May run again after an exception.
        """
        try:
            await self._keep_dialling()
        except Exception:
            current, self.current = self.current, None
            if current is not None:
                current.link.close_session(Code.INTERNAL, "the agent failed; see its log")
            raise

    async def _keep_dialling(self) -> None:
        while not self.retired:
            if self.number:
                await self._stand_by()
            self._dial_now.clear()
            ended = await self._session()
            if ended is Code.SUPERSEDED:
                if not self.number:
                    _log.error(
                        "another process uses this agent's certificate: stop it, or give each agent"
                        " its own",
                        retry_seconds=SUPERSEDED_PAUSE,
                    )
                # Two processes that both dial again at once would take the host names from each
                # other for ever.
                await self._pause(SUPERSEDED_PAUSE)
            # A rejected agent still completes a handshake, so do not reset the backoff.
            steady = self._loop.time() - self._connected_at >= STEADY
            if ended not in (None, Code.NOT_ALLOWED) and steady:
                self._back_off.steady(self._loop.time())
            await self._pause(self._back_off.pause(self._loop.time()))

    @property
    def sessions(self) -> list[ServerSession]:
        """Return the open sessions, the newest first, without `fresh`."""
        sessions = (self.current, *self.leaving)
        return [one for one in sessions if one is not None and one.link.session.phase is Phase.OPEN]

    @property
    def is_established(self) -> bool:
        """The current session is established."""
        return self.current is not None and self.current.was_established

    def update(self, plan: ServicePlan) -> None:
        """Announce changed services to the server, and take back removed ones."""
        for session in (self.current, self.fresh):
            if session is not None and session.was_established:
                session.update(plan)

    def sweep(self, now: float) -> None:
        """Time out backends that do not answer, and close replaced sessions without requests.

        Runs every second.
        """
        if self.current is not None:
            if self.current.was_established:
                self.server_id = self.current.server_id
            self.current.sweep(now)
            self._direct_return.sweep(self.current, now)
        for session in self.leaving:
            session.sweep(now)
            if self._ends or not session.endpoint.same_server(self._endpoint):
                self._end_in_time(session, now)
            if session.released.done() and not session.link.session.streams:
                session.link.close_session(Code.GOING_AWAY, "a newer session took over")
        self.leaving = [session for session in self.leaving if not session.link.closed.done()]

    def retire(self, *, ends: bool = False) -> None:
        """Accept no further requests; running requests continue.

        Args:
            ends: they end after `drain_timeout` at the latest, because the agent keeps no session
                with this server any more.
        """
        self.retired, self._ends = True, ends
        self._dial_now.set()
        if self.current is not None:
            self.current.go_away("the agent keeps fewer connections")
            self.leaving.append(self.current)
            if not self.handed_over.done():
                self.handed_over.set_result(None)

    # ---- from one session to the next

    async def succeed(self, endpoint: ServerEndpoint) -> ServerSession:
        """Return a successor of the current session: connected, all services registered, not ready
        yet.

        `hand_over` makes it current, `give_up` closes it.

        Raises:
            SetupError: the server cannot be reached or refuses.
        """
        location = endpoint.location(self._turn)
        session = self.fresh = self._new_session(
            endpoint, self.number, worker=self.worker, lost=self._lost, takes_over=True
        )
        try:
            await endpoint.connect(session.link.as_protocol, self._turn, worker=self.worker)
        except (OSError, TimeoutError) as error:
            self.fresh = None
            raise SetupError(
                f"server.address: cannot connect to {location}: {describe(error)}"
            ) from error
        await asyncio.wait([session.published], timeout=PUBLISH_TIMEOUT)
        if session.published.done() and session.published.result():
            return session
        self.fresh = None
        _, reason = session.ended or (
            Code.SILENCE,
            f"it did not answer for all services in {PUBLISH_TIMEOUT:g} s",
        )
        session.link.close_session(Code.GOING_AWAY, "it is not needed")
        raise SetupError(
            f"server.address: {location} refused: {reason or 'it closed the connection'}; its log"
            " says why"
        )

    def give_up(self) -> None:
        """Close the successor."""
        fresh, self.fresh = self.fresh, None
        if fresh is not None:
            fresh.link.close_session(Code.GOING_AWAY, "the configuration was refused")

    async def hand_over(self) -> None:
        """Make the successor current; dial again if there is no successor or no current session."""
        before, fresh = self.current, self.fresh
        self.fresh = None
        if before is None or fresh is None:
            for session in (fresh, before):
                if session is not None:
                    session.link.close_session(Code.GOING_AWAY, "the agent connects anew")
            self._dial_now.set()
            return
        before.go_away("a newer session takes over")
        self.leaving.append(before)
        self.current = fresh
        self.handed_over.set_result(None)
        await asyncio.wait([before.released], timeout=RELEASE_TIMEOUT)
        if not before.released.done():
            before.refuse_streams()
        # READY closes the older sessions on the server, except those that have sent GOAWAY before
        # it.
        fresh.link.session.send(Ready())

    # ---- inside

    async def _session(self) -> Code | None:
        """Serve one session, and those that replace it, to the end.

        Returns:
            The code that the last session was closed with; None if no session was established.
        """
        await self._before_dialling()
        endpoint, turn = self._endpoint, self._turn
        location = endpoint.location(turn)
        session = self._new_session(
            endpoint, self.number, worker=self.worker, lost=self._lost, takes_over=False
        )
        try:
            await endpoint.connect(session.link.as_protocol, turn, worker=self.worker)
        except (OSError, TimeoutError) as error:
            self._turn += 1
            reason = describe(error)
            if is_about_time(error) and (skew := await endpoint.compare_clocks(turn)) is not None:
                reason = f"{reason}: {clocks(skew)}"
            elif (proxy := endpoint.proxy(turn)) and isinstance(error, ssl.SSLError):
                reason = f"{reason}; {proxy} may intercept TLS: exempt {location} there"
            _log.warning("cannot connect", server=str(location), reason=reason)
            self.problem = f"cannot connect to {location}: {reason}"
            return None
        if endpoint is not self._endpoint or self.retired:
            session.link.close_session(Code.GOING_AWAY, "the agent has another server")
            return None
        self.current, self.problem = session, ""
        self._connected_at = self._loop.time()
        while not (session.link.closed.done() or self.retired):
            self.handed_over = self._loop.create_future()
            gone = [session.link.closed, self.handed_over]
            await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
            session = self.current
        self.current = None
        if self.retired:
            return None
        if not session.was_established:
            self._turn += 1
        self.problem = _problem_of(session, str(location))
        return _end_of(session, str(location))

    def _end_in_time(self, session: ServerSession, now: float) -> None:
        """End a session with a server that is no longer configured after `drain_timeout`,
        whatever that server does."""
        if session.ends_at == math.inf:
            session.ends_at = now + self._drain_timeout
        if now >= session.ends_at:
            session.link.close_session(Code.GOING_AWAY, "the agent has another server")
        elif now >= session.ends_at - FAREWELL and not session.said_farewell:
            # A second GOAWAY makes the server close the WebSockets at the end of a frame.
            session.said_farewell = True
            session.go_away("its WebSockets are to come back")

    async def _stand_by(self) -> None:
        while not (self._allows_more() or self.retired):  # noqa: ASYNC110  it changes with each session's state
            await asyncio.sleep(STAND_BY_LOOK)
        await self._pause(random.uniform(0, STAND_BY_MOST))  # noqa: S311

    async def _pause(self, seconds: float) -> None:
        """Sleep, or return early when there is a new server to dial."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._dial_now.wait()

    def _lost(self, session: ServerSession) -> None:
        """Reconnect a session that has lost its link, to the server that it was with."""
        if session.reconnect is None:
            known = session.endpoint

            def endpoint() -> ServerEndpoint:
                return self._endpoint if self._endpoint.same_server(known) else known

            session.reconnect = Reconnect(
                session.link, endpoint, self._tasks, turn=self._turn, worker=self.worker
            )
        session.reconnect.begin()


def _problem_of(session: ServerSession, location: str) -> str:
    """Return in a few words how a session ended."""
    code, reason = session.ended or (Code.INTERNAL, "")
    if code is Code.SUPERSEDED:
        return "another process uses this agent's certificate"
    if not session.was_established:
        return f"{location} refused: {reason or code.name.lower()}; its log says why"
    return f"disconnected from {location}: {reason or code.name.lower()}"


def _end_of(session: ServerSession, location: str) -> Code | None:
    """Log how a session ended and return its code; None if it was never established."""
    code, reason = session.ended or (Code.INTERNAL, "")
    if not session.was_established:
        # In TLS 1.3 a client hears that its certificate is refused after its own handshake, or not
        # at all.
        _log.warning(
            "refused: the server may not accept this agent's certificate; its log says why",
            server=location,
            code=code.name,
            reason=reason,
        )
        return None
    _log.warning("disconnected", server=location, code=code.name, reason=reason)
    return code
