"""The agent's connections to one server: the same number to each of its workers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from zerotrust.agent.back_off import BackOff
from zerotrust.agent.connection import TunnelConnection
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.session import ServerSession
from zerotrust.errors import SetupError
from zerotrust.net.tasks import Tasks
from zerotrust.telemetry import logs

_log = logs.logger("agent")


class MakeSession(Protocol):
    """Makes sessions for the connections of a server."""

    def __call__(
        self,
        server: "ServerConnections",
        endpoint: ServerEndpoint,
        number: int,
        *,
        worker: int,
        lost: Callable[[ServerSession], None],
        takes_over: bool,
    ) -> ServerSession:
        """Return a session; the arguments are those of `connection.SessionFactory`."""


class ServerConnections:
    """Connections to a server.

    Args:
        endpoint: the server to dial.
        member_id: id of the server that must answer there; None for the one in the agent's file.
        first_number: number of the first connection in HELLO.
        drain_timeout: seconds that a session with another server than `endpoint` has to end its
            requests.
        before_dialling: awaited before each new session.
        running: gets the tasks of the connections.

    Attributes:
        all: the connections, with retired ones that still have requests.
        workers: the number of workers that the agent has connections to.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments
        self,
        endpoint: ServerEndpoint,
        *,
        member_id: str | None = None,
        first_number: int = 0,
        new_session: MakeSession,
        tasks: Tasks,
        drain_timeout: float,
        before_dialling: Callable[[], Awaitable[None]],
        running: set[asyncio.Task[None]],
    ) -> None:
        self.endpoint = endpoint
        self.member_id = member_id
        self.first_number = first_number
        self._new_session = new_session
        self._tasks = tasks
        self._drain_timeout = drain_timeout
        self._before_dialling = before_dialling
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._back_off = BackOff()
        self._count = 0
        self.all: list[TunnelConnection] = []
        self.workers = self._told_workers = 1

    def keep(self, count: int) -> None:
        """Keep this number of connections to each worker: retire some, or add some."""
        self._count = count
        wanted = [(worker, number) for worker in range(self.workers) for number in range(count)]
        kept = set()
        for connection in self.all:
            if connection.retired:
                continue
            if (connection.worker, connection.number) in wanted:
                kept.add((connection.worker, connection.number))
            else:
                connection.retire()
        for worker, number in wanted:
            if (worker, number) not in kept:
                self._add(number, worker)

    def set_workers(self, count: int) -> None:
        """Take the number of workers of another server; `keep` follows it."""
        self.workers = self._told_workers = count

    def workers_known(self, session: ServerSession) -> None:
        """Keep connections to all workers of the server."""
        if session.endpoint.same_server(self.endpoint):
            self._told_workers = session.workers
            self._follow_workers()

    def reconfigure(self, endpoint: ServerEndpoint, *, drain_timeout: float) -> None:
        """Dial this server from the next session on."""
        if not endpoint.same_server(self.endpoint):
            self._back_off = BackOff()
        self.endpoint = endpoint
        self._drain_timeout = drain_timeout
        for connection in self.all:
            connection.reconfigure(endpoint, back_off=self._back_off, drain_timeout=drain_timeout)

    def retire(self, *, ends: bool) -> None:
        """Accept no further requests from the server.

        Args:
            ends: running requests end after `drain_timeout` at the latest.
        """
        for connection in self.all:
            if not connection.retired:
                connection.retire(ends=ends)

    def sweep(self, now: float) -> None:
        """Sweep the connections and forget those that have ended. Runs every second."""
        self._follow_workers()
        for connection in self.all:
            connection.sweep(now)
        self.all = [one for one in self.all if not one.retired or one.sessions]

    @property
    def sessions(self) -> list[ServerSession]:
        """The sessions of all connections."""
        return [session for connection in self.all for session in connection.sessions]

    @property
    def current(self) -> list[ServerSession]:
        """The established sessions that take requests and have a link."""
        found = [one.current for one in self.all if one.is_established and not one.retired]
        return [one for one in found if one is not None and one.link.session.attached]

    @property
    def server_ids(self) -> set[str]:
        """The ids of the servers that the connections were with last."""
        return {one.server_id for one in self.all if one.server_id is not None and not one.retired}

    @property
    def outdated(self) -> list[TunnelConnection]:
        """The connections with a session that was made with an earlier certificate.

        One that has lost its link is not among them: it is replaced when it is back.
        """
        return [
            one
            for one in self.all
            if not one.retired
            and one.current is not None
            and one.current.was_established
            and one.current.link.session.attached
            and one.current.endpoint is not self.endpoint
        ]

    async def replace_outdated(self) -> None:
        """Replace each of these sessions by a new one, where that succeeds."""
        await asyncio.gather(*(self._replace(one) for one in self.outdated))

    async def replace_sessions(self) -> None:
        """Replace all established sessions by new ones.

        Raises:
            SetupError: one failed; the sessions stay.
        """
        connections = [one for one in self.all if one.is_established and not one.retired]
        try:
            await succeed(connections, self.endpoint)
        except SetupError:
            for connection in connections:
                connection.give_up()
            raise
        await asyncio.gather(*(connection.hand_over() for connection in connections))

    # ---- inside

    def _follow_workers(self) -> None:
        """Follow the number of workers that the server said last, unless that changes too often."""
        if self._told_workers == self.workers or not self._back_off.may_change_workers(
            self._loop.time()
        ):
            return
        self.workers = self._told_workers
        if self._back_off.workers_change_often:
            _log.warning(
                "the server's number of workers changes again and again: several servers may share"
                " its address",
                workers=self.workers,
            )
        self.keep(self._count)

    async def _replace(self, connection: TunnelConnection) -> None:
        try:
            await connection.succeed(self.endpoint)
        except SetupError as error:
            _log.warning(
                "a session keeps the previous certificate for now",
                worker=connection.worker,
                reason=str(error),
            )
            return
        if connection.retired:
            connection.give_up()
        else:
            await connection.hand_over()

    def _add(self, number: int, worker: int) -> None:
        connection = TunnelConnection(
            number,
            self.endpoint,
            back_off=self._back_off,
            worker=worker,
            new_session=self._session,
            tasks=self._tasks,
            drain_timeout=self._drain_timeout,
            before_dialling=self._before_dialling,
            allows_more=lambda: any(one.allows_more for one in self.sessions),
        )
        self.all.append(connection)
        number += self.first_number
        task = self._tasks.supervise(connection.run, f"connection {number + 1} to worker {worker}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _session(
        self,
        endpoint: ServerEndpoint,
        number: int,
        *,
        worker: int,
        lost: Callable[[ServerSession], None],
        takes_over: bool,
    ) -> ServerSession:
        return self._new_session(
            self,
            endpoint,
            self.first_number + number,
            worker=worker,
            lost=lost,
            takes_over=takes_over,
        )


async def succeed(connections: Sequence[TunnelConnection], endpoint: ServerEndpoint) -> None:
    """Get a successor for the session of each connection.

    Raises:
        SetupError: one failed; those of the others wait for `TunnelConnection.give_up`.
    """
    results = await asyncio.gather(
        *(connection.succeed(endpoint) for connection in connections), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
