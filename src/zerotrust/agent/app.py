"""The agent, put together: its connections, its services, and its file, which is read again when it changes.

Another server or certificate needs other connections. They are made before the old ones go: each new session has all
services when the old one says that it goes away, and the old one ends with the last of its requests, WebSockets
included, however long that takes (docs/spec/tunnel-v1.md, section 9). Where the server is another one, the old session
ends after `drain_timeout` at the latest, whatever its server does.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from zerotrust import __version__
from zerotrust.agent.affinity_secret import cookie_secret
from zerotrust.agent.connection import FAREWELL, Common, TunnelConnection
from zerotrust.agent.control_socket import Control, control_path
from zerotrust.agent.expired_renewal import come_back
from zerotrust.agent.metrics import AgentMetrics
from zerotrust.agent.renewal import Renewal, RenewalOutcome
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.services import ServicePlan, Services
from zerotrust.agent.session import ServerSession
from zerotrust.agent.status import services_status
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.errors import PkiError, SetupError, ZeroTrustError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.authentication import KeySource
from zerotrust.model.status import AgentStatus, SessionStatus
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import RENEWAL, Code
from zerotrust.tunnel.messages import Renewed
from zerotrust.tunnel.session import SessionOptions

_log = logs.logger("agent")

SWEEP: Final = 1.0
GRACE: Final = 2.0
DRAIN_STEP: Final = 0.02


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
    reloading = tasks.supervise(Reloader(loaded, read=read, apply=agent.apply, tasks=tasks).run, "reload")
    try:
        if loaded.files:
            await control.listen(control_path(loaded.files[0]))
        await agent.metrics.listen(loaded.config.metrics.listen_addr)
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
    """Keeps its lines to the server, and serves what comes over them.

    Attributes:
        metrics: what it says of itself, and where.
    """

    def __init__(self, config: AgentConfig, tasks: Tasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._renewal = _renewal(config)
        self._tasks = tasks
        flusher = WriteCoalescer(self._loop)
        self._services = Services(flusher=flusher, tasks=tasks)
        self._services.keys.changed = self._keys_changed
        self._common = Common(
            services=self._services,
            flusher=flusher,
            tasks=tasks,
            options=SessionOptions(software=f"0trust/{__version__}", instance=secrets.token_hex(16)),
            target=ServerEndpoint.of(config),
            drain_timeout=config.hot_reload.drains_for,
            before_dialling=self._before_dialling,
            renewed=self._renewed,
            allows_more=lambda: any(one.allows_more for one in self._sessions()),
        )
        self._services.adopt(self._plan(config, Changes()), drain_timeout=0)
        self._lines: list[TunnelConnection] = []
        self._running: set[asyncio.Task[None]] = set()
        self.metrics = AgentMetrics(
            lambda: [one.link.session for one in self._sessions()], self._services, flusher=flusher, tasks=tasks
        )
        tasks.supervise(self._sweep, "sweep")

    async def run(self) -> None:
        """Dial the server, again and again, until it is cancelled."""
        self._keep(self._config.server.connections)
        try:
            # Until somebody cancels this.
            await self._loop.create_future()
        finally:
            for task in self._running:
                task.cancel()

    async def apply(self, config: AgentConfig, changes: Changes) -> list[str]:
        """Go on with this configuration; what of it waits, and for what.

        Raises:
            SetupError: a certificate, the log or the server can't be used; all is as before.
        """
        target, plan = ServerEndpoint.of(config), self._plan(config, changes)
        moved = "server" in changes.sections or any(
            path in _credentials(config) and not self._renewal.wrote(path) for path in changes.files
        )
        with ExitStack() as undo:
            if moved:
                successors = self._lines[: config.server.connections]
                for line in successors:
                    undo.callback(line.give_up)
                await _succeed([line for line in successors if line.is_established], target)
            if "logging" in changes.sections:
                logs.configure(config.logging)
                undo.callback(logs.configure, self._config.logging)
            await self.metrics.listen(config.metrics.listen_addr)
            undo.pop_all()
        self._services.adopt(plan, drain_timeout=config.hot_reload.drains_for)
        for line in self._lines:
            line.update(plan)
        self._config = config
        self._common.drain_timeout = config.hot_reload.drains_for
        if moved:
            self._common.target, self._renewal = target, _renewal(config)
            self._keep(config.server.connections)
            await asyncio.gather(*(line.hand_over() for line in successors))
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
        current = [line.current for line in self._lines]
        sessions = [dispatch for dispatch in self._sessions() if dispatch.link.session.attached]
        if not sessions:
            return
        _log.info("draining", drain_timeout=timeout)
        for dispatch in sessions:
            if dispatch in current:
                dispatch.go_away("the agent is shutting down")
        await self._until(lambda: not any(dispatch.busy for dispatch in sessions), timeout)
        for dispatch in sessions:
            dispatch.go_away("its WebSockets are to come back")
        links = [dispatch.link for dispatch in sessions]
        await self._until(lambda: not any(link.session.streams or link.congested for link in links), FAREWELL)

    async def close(self) -> None:
        """Tell the server, and end."""
        links = [dispatch.link for dispatch in self._sessions()]
        for link in links:
            link.close_session(Code.GOING_AWAY, "the agent is shutting down")
        if links:
            await asyncio.wait([link.closed for link in links], timeout=GRACE)
        await self.metrics.close()
        self._services.close()

    # ---- lines

    def _keep(self, connections: int) -> None:
        """Have so many lines."""
        kept = [line for line in self._lines if not line.retired]
        for line in kept[connections:]:
            line.retire()
        for number in range(len(kept), connections):
            line = TunnelConnection(self._common, number)
            self._lines.append(line)
            task = self._tasks.supervise(line.run, f"connection {number + 1}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _sessions(self) -> list[ServerSession]:
        return [dispatch for line in self._lines for dispatch in line.sessions]

    async def _before_dialling(self) -> None:
        """Get a certificate in place of the one that has ended; dialling without one tells the server's log."""
        now = time.time()
        if not (self._renewal.ended(now) and self._renewal.due(now)):
            return
        try:
            answer = await come_back(self._config.server, self._renewal.ask(now))
        except ZeroTrustError as error:
            _log.warning("the certificate has ended, and there is no other", reason=str(error))
        else:
            self._renewed(answer)

    # ---- inside

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        ends_at = self._loop.time() + seconds
        # Looked for, so that no request has to tell when it ends.
        while not reached() and self._loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)

    def _keys_changed(self, source: KeySource) -> None:
        """The issuer of tokens has other keys: the services that go by them are announced anew."""
        plan = ServicePlan([live for live in self._services.all if source in live.key_sources], [])
        for line in self._lines:
            line.update(plan)

    def _ask_for_renewal(self) -> None:
        for dispatch in (line.current for line in self._lines):
            if dispatch is None or not dispatch.was_established:
                continue
            session, now = dispatch.link.session, time.time()
            if session.attached and RENEWAL in session.capabilities:
                if self._renewal.due(now):
                    try:
                        session.renew(self._renewal.ask(now))
                    except PkiError as error:
                        _log.warning("certificate not renewed", reason=str(error))
                return

    def _renewed(self, message: Renewed) -> None:
        """The server's answer. Sessions stay as they are; the next ones begin with the new certificate."""
        try:
            outcome = self._renewal.take(message)
            if not outcome.refusal:
                self._common.target = ServerEndpoint.of(self._config)
        except SetupError as error:
            outcome = RenewalOutcome(refusal=str(error))
        if outcome.refusal:
            _log.warning("certificate not renewed", reason=outcome.refusal)
        else:
            _log.info("certificate renewed", until=outcome.until)

    def _plan(self, config: AgentConfig, changes: Changes) -> ServicePlan:
        return self._services.plan(config, secret=cookie_secret(config), renewed=changes.files)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = self._loop.time()
            self._services.sweep(now)
            self._ask_for_renewal()
            for line in self._lines:
                line.sweep(now)
            self._lines = [line for line in self._lines if not line.retired or line.sessions]


async def _succeed(lines: Sequence[TunnelConnection], target: ServerEndpoint) -> None:
    """Get a successor for each line.

    Raises:
        SetupError: one can't be had; those of the others are there for `Line.give_up`.
    """
    results = await asyncio.gather(*(line.succeed(target) for line in lines), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _credentials(config: AgentConfig) -> frozenset[str]:
    """The files with which the agent proves itself, and knows the server."""
    return frozenset({config.server.cert, config.server.key, config.server.ca_cert})


def _renewal(config: AgentConfig) -> Renewal:
    server = config.server
    return Renewal(Path(server.cert), Path(server.key), Path(server.ca_cert))
