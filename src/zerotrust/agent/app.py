"""The agent: builds its connections and services, and applies its file again when that changes.

A new server address or certificate needs new sessions. The agent makes them before it gives up the
old ones: each new session has all services registered when the old one sends GOAWAY, and the old
one closes with the last of its requests, WebSockets included (docs/spec/tunnel-v1.md, section 9). A
session with a server that is no longer configured closes after `drain_timeout` at the latest,
whatever that server does.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from zerotrust import __version__
from zerotrust.agent.affinity_secret import cookie_secret
from zerotrust.agent.connection import FAREWELL, TunnelConnection
from zerotrust.agent.control_socket import ControlSocket, control_path
from zerotrust.agent.expired_renewal import renew_expired
from zerotrust.agent.member_connections import MemberConnections
from zerotrust.agent.member_selection import MemberSelection
from zerotrust.agent.metrics import AgentMetrics
from zerotrust.agent.renewal import Renewal, RenewalOutcome
from zerotrust.agent.server_connections import ServerConnections, succeed
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
from zerotrust.telemetry.tracing import make_tracer
from zerotrust.tunnel.codes import RENEWAL, Code
from zerotrust.tunnel.messages import Renewed
from zerotrust.tunnel.session import SessionOptions

_log = logs.logger("agent")

SWEEP: Final = 1.0
GRACE: Final = 2.0
DRAIN_STEP: Final = 0.02
REPLACE_PAUSE: Final = 10.0
"""Seconds between two attempts to replace sessions that were made with an earlier certificate."""


async def serve(loaded: Loaded[AgentConfig], read: Read[AgentConfig]) -> None:
    """Run the agent until it is cancelled; then drain it, unless it is cancelled again.

    Args:
        read: reads the configuration, when a file changes or on SIGHUP; the agent applies the
            difference.

    Raises:
        SetupError: a certificate cannot be used, or names another agent than the file.
    """
    tasks = Tasks()
    agent = Agent(loaded.config, tasks)
    this = asyncio.current_task()
    assert this is not None
    control = ControlSocket(this.cancel, agent.status)
    reloading = tasks.supervise(
        Reloader(loaded, read=read, apply=agent.apply, tasks=tasks).run, "reload"
    )
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
    """Keeps connections to the server and serves the requests that come over them.

    Attributes:
        connections: its connections to the server, with retired ones that still have requests.
        metrics: the metrics and the endpoint that serves them.
        renewal: the agent's certificate and its renewal.
    """

    def __init__(self, config: AgentConfig, tasks: Tasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = config
        self.renewal = _renewal(config)
        self._tasks = tasks
        self._coalescer = WriteCoalescer(self._loop)
        self._options = SessionOptions(
            software=f"0trust/{__version__}", instance=secrets.token_hex(16)
        )
        self._endpoint = ServerEndpoint.of(config)
        self._services = Services(
            coalescer=self._coalescer, tasks=tasks, keys_changed=self._keys_changed
        )
        _log_proxy(self._endpoint)
        self._services.adopt(self._plan(config, Changes()), drain_timeout=0)
        self._services.tracer = make_tracer(config.tracing, "agent")
        self._replacing = asyncio.Lock()
        self._replaces_at = 0.0
        self._running: set[asyncio.Task[None]] = set()
        self._follows_members = False
        self._home = self._connect(self._endpoint)
        self._members = MemberConnections(
            self._connect, MemberSelection(self._options.instance), lambda: self._endpoint
        )
        self.metrics = AgentMetrics(
            lambda: [one.link.session for one in self.sessions()],
            self._services,
            coalescer=self._coalescer,
            tasks=tasks,
        )
        tasks.supervise(self._sweep, "sweep")

    async def run(self) -> None:
        """Keep connections to the server until this is cancelled."""
        self._home.keep(self._config.server.connections)
        self._follows_members = True
        try:
            # Forever, until the task is cancelled.
            await self._loop.create_future()
        finally:
            self._follows_members = False
            for task in self._running:
                task.cancel()

    async def apply(self, config: AgentConfig, changes: Changes) -> list[str]:
        """Apply a configuration.

        Returns:
            The sections that take effect later, each with the reason; none on an agent.

        Raises:
            SetupError: a certificate, the log or the server cannot be used; nothing has changed.
        """
        async with self._replacing:
            await self._apply(config, changes)
        return []

    async def _apply(self, config: AgentConfig, changes: Changes) -> None:
        """Raises SetupError."""
        endpoint, plan = ServerEndpoint.of(config), self._plan(config, changes)
        moved = "server" in changes.sections or any(
            path in _credentials(config) and not self.renewal.wrote(path) for path in changes.files
        )
        tracer = former_tracer = self._services.tracer
        with ExitStack() as undo:
            if "tracing" in changes.sections:
                tracer = make_tracer(config.tracing, "agent")
                if tracer is not None:
                    undo.callback(tracer.end)
            if moved:
                successors = self._successors(config, endpoint)
                for connection in successors:
                    undo.callback(connection.give_up)
                await succeed([one for one in successors if one.is_established], endpoint)
            if "logging" in changes.sections:
                logs.configure(config.logging)
                undo.callback(logs.configure, self._config.logging)
            await self.metrics.listen(config.metrics.listen_addr)
            undo.pop_all()
        self._services.adopt(plan, drain_timeout=config.hot_reload.drains_for)
        self._services.tracer = tracer
        for connection in self.connections:
            connection.update(plan)
        self._config = config
        self.dial(endpoint if moved else self._endpoint)
        if moved:
            await self._move(endpoint, successors)
        if former_tracer is not None and former_tracer is not tracer:
            await former_tracer.close()

    async def _move(self, endpoint: ServerEndpoint, successors: Sequence[TunnelConnection]) -> None:
        """Make the sessions with another server, or with another certificate, current."""
        _log_proxy(endpoint)
        self.renewal = _renewal(self._config)
        for connection in self._home.all:
            if connection not in successors and not connection.retired:
                connection.retire()
        fresh = [one.fresh.workers for one in successors if one.fresh is not None]
        if fresh:
            self._home.set_workers(fresh[0])
        self._home.keep(self._config.server.connections)
        await asyncio.gather(*(connection.hand_over() for connection in successors))
        await self._members.replace_sessions(self._config.server, or_retire=True)

    def status(self) -> AgentStatus:
        """Return the agent's state, its sessions and its services."""
        proxy, sessions = self._endpoint.proxy(0), self.sessions()
        problem = "" if sessions or not self.connections else self.connections[0].problem
        refused = next((one.refused for one in sessions if one.was_established), {})
        return AgentStatus(
            agent=self.renewal.agent,
            software=__version__,
            proxy=str(proxy or ""),
            problem=problem,
            sessions=[
                SessionStatus(
                    id=session.link.session.id[:8],
                    server=session.link.peer_name,
                    streams=len(session.link.session.streams),
                    connected=session.link.session.attached,
                    transport="websocket" if session.link.by_websocket else "direct",
                )
                for session in sessions
            ],
            services=services_status(self._services.all, refused),
            members=self._members.status(),
        )

    async def drain(self) -> None:
        """Ask the server to send no more requests, and let running ones end.

        Call it when `run` has ended.

        Requests get `drain_timeout`. Then the server closes the WebSockets, because it sees where a
        frame ends.
        """
        timeout = self._config.hot_reload.drains_for
        current = [connection.current for connection in self.connections]
        sessions = [session for session in self.sessions() if session.link.session.attached]
        if not sessions:
            return
        _log.info("draining", drain_timeout=timeout)
        for session in sessions:
            if session in current:
                session.go_away("the agent is shutting down")
        await self._until(lambda: not any(session.busy for session in sessions), timeout)
        for session in sessions:
            session.go_away("its WebSockets are to come back")
        links = [session.link for session in sessions]
        await self._until(
            lambda: not any(link.session.streams or link.congested for link in links), FAREWELL
        )

    async def close(self) -> None:
        """Close all sessions."""
        links = [session.link for session in self.sessions()]
        for link in links:
            link.close_session(Code.GOING_AWAY, "the agent is shutting down")
        if links:
            await asyncio.wait([link.closed for link in links], timeout=GRACE)
        await self.metrics.close()
        if self._services.tracer is not None:
            await self._services.tracer.close()
        self._services.close()

    # ---- connections

    @property
    def connections(self) -> list[TunnelConnection]:
        """The connections to the server in the file, and to members."""
        return [*self._home.all, *self._members.connections]

    def _connect(
        self, endpoint: ServerEndpoint, *, member_id: str | None = None, first_number: int = 0
    ) -> ServerConnections:
        """Return an object for the connections to a server; it has none yet."""
        return ServerConnections(
            endpoint,
            member_id=member_id,
            first_number=first_number,
            new_session=self._new_session,
            tasks=self._tasks,
            drain_timeout=self._config.hot_reload.drains_for,
            before_dialling=self._before_dialling,
            running=self._running,
        )

    def _new_session(
        self,
        server: ServerConnections,
        endpoint: ServerEndpoint,
        number: int,
        *,
        worker: int,
        lost: Callable[[ServerSession], None],
        takes_over: bool,
    ) -> ServerSession:
        return ServerSession(
            self._services,
            coalescer=self._coalescer,
            options=replace(self._options, connection=number, worker=worker),
            endpoint=endpoint,
            renewed=self._renewed,
            lost=lost,
            workers_known=server.workers_known,
            expected_server=server.member_id,
            takes_over=takes_over,
        )

    def _successors(self, config: AgentConfig, endpoint: ServerEndpoint) -> list[TunnelConnection]:
        """Return the connections whose sessions get a successor at this endpoint.

        The workers of another server are not known yet, except for the first one.
        """
        workers = self._home.workers if self._endpoint.same_server(endpoint) else 1
        return [
            one
            for one in self._home.all
            if not one.retired and one.number < config.server.connections and one.worker < workers
        ]

    def _replace_outdated(self, now: float) -> None:
        """Replace sessions that were made with an earlier certificate: each server, and each
        worker, knows only renewals of its own."""
        is_alone = self._home.workers == 1 and not self._members.connections
        if is_alone or now < self._replaces_at:
            return
        if self._home.outdated or self._members.outdated:
            self._replaces_at = now + REPLACE_PAUSE
            self._tasks.spawn(self._use_new_certificate(), "use the new certificate")

    async def _use_new_certificate(self) -> None:
        async with self._replacing:
            await asyncio.gather(self._home.replace_outdated(), self._members.replace_outdated())

    def dial(self, endpoint: ServerEndpoint) -> None:
        """Dial this server from the next session on, and members as this endpoint says."""
        self._endpoint, timeout = endpoint, self._config.hot_reload.drains_for
        self._home.reconfigure(endpoint, drain_timeout=timeout)
        self._members.reconfigure(drain_timeout=timeout)

    def sessions(self) -> list[ServerSession]:
        """Return the sessions of all connections."""
        return [session for connection in self.connections for session in connection.sessions]

    async def _before_dialling(self) -> None:
        """Replace an expired certificate.

        If that fails, the agent dials all the same: so the server logs it.
        """
        now = time.time()
        if not (self.renewal.expired(now) and self.renewal.due(now)):
            return
        try:
            answer = await renew_expired(
                self._config.server, self.renewal.request(now), self._endpoint.proxies
            )
        except ZeroTrustError as error:
            _log.warning("certificate expired and could not be renewed", reason=str(error))
        else:
            self._renewed(answer)

    # ---- inside

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        ends_at = self._loop.time() + seconds
        # Polled, so that the end of a request costs nothing.
        while not reached() and self._loop.time() < ends_at:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)

    def _keys_changed(self, source: KeySource) -> None:
        """Register again the services whose policy has keys of this token issuer."""
        plan = ServicePlan([live for live in self._services.all if source in live.key_sources], [])
        for connection in self.connections:
            connection.update(plan)

    def _ask_for_renewal(self) -> None:
        for session in (connection.current for connection in self.connections):
            if session is None or not session.was_established:
                continue
            tunnel, now = session.link.session, time.time()
            if tunnel.attached and RENEWAL in tunnel.capabilities:
                if self.renewal.due(now):
                    try:
                        tunnel.send(self.renewal.request(now))
                    except PkiError as error:
                        _log.warning("certificate not renewed", reason=str(error))
                return

    def _renewed(self, message: Renewed) -> None:
        """Take the server's answer to a request for a certificate.

        The next session uses the new one; others stay, unless there are several servers or workers.
        """
        try:
            outcome = self.renewal.store(message)
            if not outcome.refusal:
                self.dial(ServerEndpoint.of(self._config, self._endpoint.transport))
                self._replaces_at = 0.0
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
            self._replace_outdated(now)
            self._home.sweep(now)
            self._members.sweep(now)
            if self._follows_members and not self._replacing.locked():
                self._members.follow(self._home, self._config.server, now)


def _log_proxy(endpoint: ServerEndpoint) -> None:
    if (proxy := endpoint.proxy(0)) is not None:
        _log.info("using a proxy", server=str(endpoint.location(0)), proxy=str(proxy))


def _credentials(config: AgentConfig) -> frozenset[str]:
    """Return the files of the agent's certificate and key, and of the authority."""
    return frozenset({config.server.cert, config.server.key, config.server.ca_cert})


def _renewal(config: AgentConfig) -> Renewal:
    server = config.server
    return Renewal(Path(server.cert), Path(server.key), Path(server.ca_cert))
