"""The agent, put together: dial, serve, dial again; and read the file again when it changes.

Another server or certificate needs another connection. It is made before the old one goes: the new session has all
services when the old one says that it goes away, and the old one ends with the last of its requests, WebSockets
included, however long that takes (docs/spec/tunnel-v1.md, section 9).
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from zerotrust import __version__
from zerotrust.agent.affinity import cookie_secret
from zerotrust.agent.asking import clocks, is_about_time
from zerotrust.agent.control import Control, control_path
from zerotrust.agent.dispatch import Dispatch
from zerotrust.agent.redial import CONNECT_TIMEOUT, Redial
from zerotrust.agent.renewal import Outcome, Renewal
from zerotrust.agent.returning import come_back
from zerotrust.agent.services import Plan, Services
from zerotrust.agent.status import services_status
from zerotrust.agent.target import Target
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.errors import PkiError, SetupError, ZeroTrustError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.authentication import KeySource
from zerotrust.model.status import AgentStatus, SessionStatus
from zerotrust.net.channel import describe
from zerotrust.net.flush import Flusher
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import RENEWAL, Code
from zerotrust.tunnel.messages import Renewed
from zerotrust.tunnel.session import Options, Phase

_log = logs.logger("agent")

BACK_OFF_FIRST: Final = 0.2
BACK_OFF_MOST: Final = 15.0
SOON: Final = 30.0
SOON_MOST: Final = 1.0
"""The longest pause in the first SOON seconds after a session: a server that restarts has requests waiting."""
SUPERSEDED_PAUSE: Final = 60.0
SWEEP: Final = 1.0
GRACE: Final = 2.0
PUBLISH_TIMEOUT: Final = 30.0
"""For a server to answer for each service: one that has many policies to compile takes a while."""
FAREWELL: Final = 3.0
"""For WebSockets to come to the end of a frame, and for their clients to be told."""
DRAIN_STEP: Final = 0.02
RELEASE_TIMEOUT: Final = 10.0
"""For a server to answer that a session goes away."""


async def serve(loaded: Loaded[AgentConfig], read: Read[AgentConfig]) -> None:
    """Run the agent until it is cancelled: then it drains, unless it is cancelled again.

    Args:
        read: reads the configuration again, when it changes or on SIGHUP; what is different is then applied.

    Raises:
        SetupError: a certificate can't be used, or it is not of the agent that the file names.
    """
    tasks = Tasks()
    agent = Agent(loaded.config, tasks)
    this = asyncio.current_task()
    assert this is not None
    control = Control(this.cancel, agent.status)
    reloading = tasks.spawn(Reloader(loaded, read=read, apply=agent.apply, tasks=tasks).run(), "reload")
    try:
        if loaded.files:
            await control.listen(control_path(loaded.files[0]))
        await agent.run()
    finally:
        control.draining()
        reloading.cancel()
        try:
            await agent.drain()
        finally:
            await agent.close()
            await control.close()
            await tasks.close()


class Agent:
    """Keeps one session with the server, and those that it replaced until their requests have ended."""

    def __init__(self, config: AgentConfig, tasks: Tasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._flusher = Flusher(self._loop)
        self._options = Options(software=f"0trust/{__version__}")
        self._config = config
        self._target = Target.of(config)
        self._renewal = _renewal(config)
        self._tasks = tasks
        self._services = Services(flusher=self._flusher, tasks=tasks)
        self._services.keys.changed = self._keys_changed
        self._services.adopt(self._plan(config, Changes()), drain_timeout=0)
        self._current: Dispatch | None = None
        self._fresh: Dispatch | None = None
        self._leaving: list[Dispatch] = []
        self._handed_over: asyncio.Future[None] = self._loop.create_future()
        self._dial_now = asyncio.Event()
        tasks.spawn(self._sweep(), "sweep")

    async def run(self) -> None:
        """Dial the server, again and again."""
        delay, soon_until = BACK_OFF_FIRST, 0.0
        while True:
            self._dial_now.clear()
            ended = await self._session()
            if ended is Code.SUPERSEDED:
                _log.error(
                    "another process uses this agent's certificate: stop it, or give each agent its own",
                    retry_seconds=SUPERSEDED_PAUSE,
                )
                # Two processes that both come back at once would take the host names from each other for ever.
                await self._pause(SUPERSEDED_PAUSE)
            # Who is not let in is connected for a moment each time.
            if ended not in (None, Code.NOT_ALLOWED):
                delay, soon_until = BACK_OFF_FIRST, self._loop.time() + SOON
            # Full jitter: a thousand agents must not come back in step after a restart of their server.
            await self._pause(random.uniform(0, delay))  # noqa: S311
            delay = min(delay * 2, SOON_MOST if self._loop.time() < soon_until else BACK_OFF_MOST)

    async def apply(self, config: AgentConfig, changes: Changes) -> list[str]:
        """Go on with this configuration; what of it waits, and for what.

        Raises:
            SetupError: a certificate, the log or the server can't be used; all is as before.
        """
        target, plan = Target.of(config), self._plan(config, changes)
        before, fresh = self._current, None
        moved = "server" in changes.sections or any(
            path in _credentials(config) and not self._renewal.wrote(path) for path in changes.files
        )
        with ExitStack() as undo:
            if moved and before is not None and before.was_established:
                fresh = await self._successor(target)
                undo.callback(fresh.link.close_session, Code.GOING_AWAY, "the configuration was refused")
            if "logging" in changes.sections:
                logs.configure(config.logging)
            undo.pop_all()
        self._services.adopt(plan, drain_timeout=config.hot_reload.drains_for)
        for dispatch in (self._current, fresh):
            if dispatch is not None and dispatch.was_established:
                dispatch.update(plan)
        self._config = config
        if moved:
            self._target, self._renewal = target, _renewal(config)
            if fresh is not None and before is not None and before is self._current:
                await self._hand_over(before, fresh)
            else:
                self._dial_again(fresh)
        return []

    def status(self) -> AgentStatus:
        """What it is and does now."""
        return AgentStatus(
            agent=self._renewal.agent,
            software=__version__,
            sessions=[
                SessionStatus(
                    id=dispatch.link.session.id[:8],
                    server=dispatch.link.peer_name,
                    streams=len(dispatch.link.session.streams),
                    connected=dispatch.link.session.attached,
                )
                for dispatch in self._sessions()
            ],
            services=services_status(self._services.all),
        )

    async def drain(self) -> None:
        """Have the server send requests elsewhere, and end what runs; to be called when `run` has ended.

        Requests get `drain_timeout`. Then WebSockets are ended, by the server, which sees where their frames end.
        """
        timeout = self._config.hot_reload.drains_for
        current = self._current
        sessions = [dispatch for dispatch in self._sessions() if dispatch.link.session.attached]
        if not sessions:
            return
        _log.info("draining", drain_timeout=timeout)
        if current in sessions:
            current.link.session.go_away(Code.GOING_AWAY, "the agent is shutting down")
        await self._until(lambda: not any(dispatch.busy for dispatch in sessions), timeout)
        for dispatch in sessions:
            dispatch.link.session.go_away(Code.GOING_AWAY, "its WebSockets are to come back")
        links = [dispatch.link for dispatch in sessions]
        await self._until(lambda: not any(link.session.streams or link.congested for link in links), FAREWELL)

    async def close(self) -> None:
        """Tell the server, and end."""
        links = [dispatch.link for dispatch in self._sessions()]
        for link in links:
            link.close_session(Code.GOING_AWAY, "the agent is shutting down")
        if links:
            await asyncio.wait([link.closed for link in links], timeout=GRACE)
        self._services.close()

    # ---- one session

    async def _session(self) -> Code | None:
        """From dial to end, also of the sessions that take over; why the last ended, None where it was none."""
        if self._renewal.ended(time.time()):
            await self._come_back()
        target, dispatch = self._target, self._dispatch()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await target.connect(dispatch.link.as_protocol)
        except (OSError, TimeoutError) as error:
            reason = describe(error)
            if is_about_time(error) and (skew := await target.compare_clocks()) is not None:
                reason = f"{reason}: {clocks(skew)}"
            _log.warning("cannot connect", server=str(target), reason=reason)
            return None
        if target is not self._target:
            dispatch.link.close_session(Code.GOING_AWAY, "the agent has another server")
            return None
        self._current = dispatch
        while not dispatch.link.closed.done():
            self._handed_over = self._loop.create_future()
            await asyncio.wait([dispatch.link.closed, self._handed_over], return_when=asyncio.FIRST_COMPLETED)
            dispatch = self._current
        self._current = None
        return _end_of(dispatch, self._target)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless there is another server to dial."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._dial_now.wait()

    # ---- from one session to the next

    async def _successor(self, target: Target) -> Dispatch:
        """A session that has all services, and is not ready yet.

        Raises:
            SetupError: there is none to be had.
        """
        dispatch = self._fresh = self._dispatch(takes_over=True)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await target.connect(dispatch.link.as_protocol)
        except (OSError, TimeoutError) as error:
            raise SetupError(f"server.address: cannot connect to {target}: {describe(error)}") from error
        await asyncio.wait([dispatch.published], timeout=PUBLISH_TIMEOUT)
        if dispatch.published.done() and dispatch.published.result():
            return dispatch
        _, reason = dispatch.ended or (Code.SILENCE, f"it did not answer for all services in {PUBLISH_TIMEOUT:g} s")
        dispatch.link.close_session(Code.GOING_AWAY, "it is not needed")
        raise SetupError(f"server.address: {target} refused: {reason or 'it closed the connection'}; its log says why")

    async def _hand_over(self, before: Dispatch, fresh: Dispatch) -> None:
        before.link.session.go_away(Code.GOING_AWAY, "a newer session takes over")
        self._leaving.append(before)
        self._current = fresh
        self._handed_over.set_result(None)
        await asyncio.wait([before.released], timeout=RELEASE_TIMEOUT)
        # Not earlier: it ends all sessions that have not said yet that they go away.
        fresh.link.session.ready()

    def _dial_again(self, unused: Dispatch | None) -> None:
        for dispatch in (unused, self._current):
            if dispatch is not None:
                dispatch.link.close_session(Code.GOING_AWAY, "the agent connects anew")
        self._dial_now.set()

    # ---- inside

    def _sessions(self) -> list[Dispatch]:
        sessions = (self._current, *self._leaving)
        return [one for one in sessions if one is not None and one.link.session.phase is Phase.OPEN]

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        ends_at = self._loop.time() + seconds
        # Looked for, so that no request has to tell when it ends.
        while not reached() and self._loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)

    def _keys_changed(self, source: KeySource) -> None:
        """The issuer of tokens has other keys: the services that go by them are announced anew."""
        plan = Plan([live for live in self._services.all if source in live.key_sources], [])
        for dispatch in {self._current, self._fresh}:
            if dispatch is not None and dispatch.was_established:
                dispatch.update(plan)

    def _dispatch(self, *, takes_over: bool = False) -> Dispatch:
        return Dispatch(
            self._services,
            flusher=self._flusher,
            options=self._options,
            renewed=self._renewed,
            lost=self._lost,
            takes_over=takes_over,
        )

    def _lost(self, dispatch: Dispatch) -> None:
        """A session is without a link: it gets another one, to the server that it was with."""
        if dispatch.redial is None:
            target = self._target

            def now() -> Target:
                return self._target if self._target.same_place(target) else target

            dispatch.redial = Redial(dispatch.link, now, self._tasks)
        dispatch.redial.begin()

    async def _come_back(self) -> None:
        """Get a certificate in place of the one that has ended; dialling without one tells the server's log."""
        now = time.time()
        if not self._renewal.due(now):
            return
        try:
            answer = await come_back(self._config.server, self._renewal.ask(now))
        except ZeroTrustError as error:
            _log.warning("the certificate has ended, and there is no other", reason=str(error))
        else:
            self._renewed(answer)

    def _ask_for_renewal(self) -> None:
        current = self._current
        if current is not None and current.was_established and RENEWAL in current.link.session.capabilities:
            now = time.time()
            if self._renewal.due(now):
                try:
                    current.link.session.renew(self._renewal.ask(now))
                except PkiError as error:
                    _log.warning("certificate not renewed", reason=str(error))

    def _renewed(self, message: Renewed) -> None:
        """The server's answer. The session stays as it is; the next one begins with the new certificate."""
        try:
            outcome = self._renewal.take(message, time.time())
            if not outcome.refusal:
                self._target = Target.of(self._config)
        except SetupError as error:
            outcome = Outcome(refusal=str(error))
        if outcome.refusal:
            _log.warning("certificate not renewed", reason=outcome.refusal)
        else:
            _log.info("certificate renewed", until=outcome.until)

    def _plan(self, config: AgentConfig, changes: Changes) -> Plan:
        return self._services.plan(config, secret=cookie_secret(config), renewed=changes.files)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = self._loop.time()
            self._services.sweep(now)
            self._ask_for_renewal()
            if self._current is not None:
                self._current.sweep(now)
            for dispatch in self._leaving:
                dispatch.sweep(now)
                if dispatch.released.done() and not dispatch.link.session.streams:
                    dispatch.link.close_session(Code.GOING_AWAY, "a newer session took over")
            self._leaving = [dispatch for dispatch in self._leaving if not dispatch.link.closed.done()]


def _credentials(config: AgentConfig) -> frozenset[str]:
    """The files with which the agent proves itself, and knows the server."""
    return frozenset({config.server.cert, config.server.key, config.server.ca_cert})


def _renewal(config: AgentConfig) -> Renewal:
    return Renewal(Path(config.server.cert), Path(config.server.key))


def _end_of(dispatch: Dispatch, target: Target) -> Code | None:
    """Say how a session ended; None where it was never established."""
    code, reason = dispatch.ended or (Code.INTERNAL, "")
    if not dispatch.was_established:
        # In TLS 1.3 a client hears that its certificate is refused after its own handshake, or not at all.
        _log.warning(
            "refused: the server may not accept this agent's certificate; its log says why",
            server=str(target),
            code=code.name,
            reason=reason,
        )
        return None
    _log.warning("disconnected", server=str(target), code=code.name, reason=reason)
    return code
