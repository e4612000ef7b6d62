"""Agent directory over a SQLite file with made-up sessions, and its admin API."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tests.support.databases import migrated_sqlite
from zerotrust.db.database import Database
from zerotrust.model.limits import Limits
from zerotrust.model.server import AgentListenerConfig
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki import ca_directory, csr
from zerotrust.pki.issuer import ServerNames
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.agent_directory import AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.authority import Authority
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.join_tokens import JoinTokens
from zerotrust.server.identity.membership import Membership
from zerotrust.server.ops.access_parts import AccessParts
from zerotrust.server.ops.admin import AdminChannel
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.ops.traffic_admin import TrafficAdmin
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.proxy.captures import Captures
from zerotrust.server.proxy.load_shedding import LoadShedding


def home(**changes: object) -> AgentSession:
    """Return what the admin API reads of a session of the agent "home"."""
    session = {
        "agent": "home",
        "generation": 3,
        "since": 1_800_000_000.5,
        "peer": "203.0.113.7:4711",
        "stream_count": 4,
        "services": {"web": None, "mail": None},
        "software": "0trust/1",
        "serial": "abc",
        "certificate_ends": 1_900_000_000.5,
        "attached": True,
        "round_trip": 0.012,
        "health_changes": 0,
    }
    return cast("AgentSession", SimpleNamespace(**{**session, **changes}))


HOME = home()


class FakeSessionControl:
    """Stand-in for server.agents.session_control.SessionControl."""

    def __init__(self) -> None:
        self.sessions: list[AgentSession] = []
        self.judged = 0
        self.checked = 0
        self.cuts: list[tuple[str, str | None]] = []

    def close_revoked(self) -> None:
        self.checked += 1

    def reauthorize(self) -> None:
        self.judged += 1

    def connected(self) -> list[AgentSession]:
        return self.sessions

    def refusals(self, agent: str, hosts: Iterable[str]) -> dict[str, str]:
        return {host: f"not granted to {agent}" for host in hosts if host.startswith("refused.")}

    def contested(self) -> list[str]:
        return ["home"]

    def is_connected(self, agent: str) -> bool:
        return any(one.agent == agent for one in self.sessions)

    def revoke(self, agent: str, serial: str | None, reason: str) -> tuple[int, int]:
        assert reason
        self.cuts.append((agent, serial))
        gone = [one for one in self.sessions if one.agent == agent and serial in (None, one.serial)]
        self.sessions = [one for one in self.sessions if one not in gone]
        return len(gone), sum(one.stream_count for one in gone)


@dataclass
class Clock:
    """A clock that the test sets."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class DirectoryServer:
    """An agent directory with its database, clock, sessions and admin socket."""

    database: Database
    authorization: Authorization
    live: FakeSessionControl
    clock: Clock
    agent_directory: AgentDirectory
    settings: AgentListenerConfig
    socket: Path
    access: AccessParts | None = None
    registry: Registry = field(default_factory=Registry)
    captures: Captures | None = None
    """The captures of the running admin API."""
    membership: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(server_id="a" * 32, members=(), others=())
    )
    """Stand-in for the membership of the running admin API."""

    def again(self, database: Database | None = None) -> "DirectoryServer":
        """Return the same after a restart, without the state in memory; or another server.

        Args:
            database: that of another server.
        """
        authorization, live = Authorization(), FakeSessionControl()
        agent_directory = AgentDirectory(
            database or self.database,
            authorization=authorization,
            sessions=live,
            authority=self.agent_directory.authority,
            clock=self.clock,
        )
        return replace(
            self, authorization=authorization, live=live, agent_directory=agent_directory
        )


def authority(folder: Path) -> tuple[Authority, AgentListenerConfig]:
    """Create an authority and a server's certificate in a folder."""
    root, issuing = ca_directory.create_authority(folder)
    server = ca_directory.issue_server(
        folder, "tunnel.example.com", ServerNames(dns=["localhost"]), days=1
    )
    made = Authority(
        issuer=ca_directory.load_issuer(issuing.certificate, issuing.key),
        root_pem=root.certificate.read_bytes(),
        agent_lifetime=timedelta(days=7),
    )
    settings = AgentListenerConfig(
        listen_addr=":8443",
        cert_file=str(server.certificate),
        key_file=str(server.key),
        ca_file=str(root.certificate),
    )
    return made, settings


@contextlib.contextmanager
def directory_server(folder: Path, url: str | None = None) -> Iterator[DirectoryServer]:
    """Create an empty agent directory."""
    made, settings = authority(folder / "certs")
    database = Database.open(url or migrated_sqlite(folder / "state.db"))
    authorization, live, clock = Authorization(), FakeSessionControl(), Clock()
    agent_directory = AgentDirectory(
        database, authorization=authorization, sessions=live, authority=made, clock=clock
    )
    try:
        yield DirectoryServer(
            database, authorization, live, clock, agent_directory, settings, folder / "admin.sock"
        )
    finally:
        database.close()


def unobserved(tasks: Tasks) -> TrafficAdmin:
    """Return traffic to which no ingress gives its requests."""
    return TrafficAdmin(TrafficHistory(list, SimpleNamespace(observers=()), tasks))


@contextlib.asynccontextmanager
async def listening(server: DirectoryServer) -> AsyncIterator[AdminChannel]:
    """Run the admin API at its socket, in this loop."""
    tasks = Tasks()
    audit = Audit(server.database)
    server.captures = Captures(audit, tasks)
    commands = AdminCommands(
        server.agent_directory,
        cast("SessionControl", server.live),
        audit,
        JoinTokens(server.settings),
        ServiceAdmin(server.registry, LoadShedding(Limits()), lambda: server.access),
        connections=ConnectionAdmin(lambda: server.live.sessions, audit),
        captures=CaptureAdmin(server.captures, server.registry),
        traffic=unobserved(tasks),
        membership=cast("Membership", server.membership),
    )
    channel = AdminChannel(commands, audit, tasks, access=lambda: server.access)
    listener = HttpListener(
        WriteCoalescer(asyncio.get_running_loop()), channel.api, tasks, name="test", most=lambda: 10
    )
    try:
        async with listener.listen(f"unix:{server.socket}", key="admin.socket"):
            yield channel
    finally:
        await tasks.close()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[DirectoryServer]:
    """Run the admin API in a thread with its own loop, for tests of blocking commands."""
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve(server: DirectoryServer) -> None:
        async with listening(server):
            ready.set()
            await asyncio.Event().wait()

    with directory_server(folder) as server:

        def run() -> None:
            with contextlib.suppress(asyncio.CancelledError), contextlib.closing(loop):
                loop.run_until_complete(task)

        task = loop.create_task(serve(server))
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert ready.wait(10)
            yield server
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join(10)


def new_csr() -> bytes:
    """Return a certificate signing request with a new key."""
    return csr.create().pem
