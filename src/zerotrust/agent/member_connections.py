"""The agent's connections to the servers that share the database of its own one.

A server tells its agents of the others (docs/spec/tunnel-v1.md, section 14). The agent goes by the
list of the server in its own file while it has a session there, else by that of another server. A
list decides only which addresses are dialled: the server that answers must have a certificate of
the agent's authority for the host name that was dialled, and the id that the list gives it.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from zerotrust.agent.connection import TunnelConnection
from zerotrust.agent.member_selection import MOST, MemberSelection
from zerotrust.agent.server_connections import ServerConnections
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.errors import SetupError
from zerotrust.model.agent import ServerAddress
from zerotrust.model.status import MemberStatus
from zerotrust.telemetry import logs
from zerotrust.tunnel.messages import Member

_log = logs.logger("agent")

CHANGE_INTERVAL: Final = 5.0
"""Seconds between two changes of the members: a hostile server makes an agent dial at most 7 new
addresses in this time."""
NUMBERS: Final = 8
"""Numbers of connections in HELLO that belong to one server. Two sessions of an agent that come to
the same server by mistake have different numbers, so they do not replace each other."""


class Connect(Protocol):
    """Makes the object for the connections to a server (`agent.app.Agent`)."""

    def __call__(
        self, endpoint: ServerEndpoint, *, member_id: str | None = None, first_number: int = 0
    ) -> ServerConnections:
        """Return it without connections."""


class _Known(NamedTuple):
    """A member that the agent has connections to."""

    member: Member
    server: ServerConnections


class MemberConnections:
    """Connections to members.

    Args:
        connect: makes connections to a server.
        selection: chooses among many members.
        home: returns the endpoint of the server in the agent's file.
    """

    def __init__(
        self, connect: Connect, selection: MemberSelection, home: Callable[[], ServerEndpoint]
    ) -> None:
        self._connect = connect
        self._selection = selection
        self._home = home
        self._known: dict[str, _Known] = {}
        self._leaving: list[ServerConnections] = []
        self._changes_at = 0.0
        self._dialed_like: ServerEndpoint | None = None

    @property
    def connections(self) -> list[TunnelConnection]:
        """All connections, with retired ones that still have requests."""
        return [connection for server in self._servers() for connection in server.all]

    def status(self) -> list[MemberStatus]:
        """Return the state of each member."""
        return [
            MemberStatus(
                address=member.address,
                connected=bool(server.current),
                problem="" if server.current or not server.all else server.all[0].problem,
            )
            for member, server in self._known.values()
        ]

    def follow(self, home: ServerConnections, config: ServerAddress, now: float) -> None:
        """Connect to members that are new, and retire those that are gone. Runs every second.

        Args:
            home: the connections to the server in the agent's file.
        """
        told = self._told(home) if config.follow_members else []
        if told is None or now < self._changes_at:
            return
        chosen = self._selection.choose(
            told,
            home=home.server_ids,
            kept=self._known,
            round_trips=dict(self._round_trips()),
            now=now,
        )
        if self._keep(chosen, {one.id for one in told}, config.connections):
            self._changes_at = now + CHANGE_INTERVAL

    def reconfigure(self, *, drain_timeout: float) -> None:
        """Dial as the endpoint of the server in the file says, from the next session on."""
        home = self._home()
        for member, server in self._known.values():
            # The same object if nothing has changed: its sessions are not outdated.
            same = home is self._dialed_like
            endpoint = server.endpoint if same else home.at(member.address)
            server.reconfigure(endpoint, drain_timeout=drain_timeout)
        self._dialed_like = home

    @property
    def outdated(self) -> bool:
        """A session was made with an earlier certificate."""
        return any(known.server.outdated for known in self._known.values())

    async def replace_outdated(self) -> None:
        """Replace sessions that were made with an earlier certificate."""
        servers = [known.server for known in self._known.values()]
        await asyncio.gather(*(server.replace_outdated() for server in servers))

    async def replace_sessions(self, config: ServerAddress, *, or_retire: bool = False) -> None:
        """Replace all sessions by new ones. Don't call `follow` before this has returned.

        Args:
            or_retire: where that fails, give up the old ones, because their certificate or
                authority may be wrong now; they are dialled anew.
        """

        async def replace(member: Member, server: ServerConnections) -> None:
            server.keep(config.connections)
            try:
                await server.replace_sessions()
            except SetupError as error:
                _log.warning("cannot replace sessions", server=member.address, reason=str(error))
                if or_retire:
                    self._retire(member.id, ends=True)

        await asyncio.gather(*(replace(*known) for known in self._known.values()))

    def sweep(self, now: float) -> None:
        """Sweep all connections. Runs every second."""
        for server in self._servers():
            server.sweep(now)
        self._leaving = [server for server in self._leaving if server.all]

    # ---- inside

    def _servers(self) -> Iterator[ServerConnections]:
        for known in self._known.values():
            yield known.server
        yield from self._leaving

    def _told(self, home: ServerConnections) -> list[Member] | None:
        """Return the members of the edge; None where no server has told them yet."""
        for session in home.current:
            if session.server_id is None:
                return []
            if session.members is not None:
                return session.members
        for known in self._known.values():
            for session in known.server.current:
                if session.members is not None:
                    return session.members
        return None

    def _round_trips(self) -> Iterator[tuple[str, float]]:
        for name, known in self._known.items():
            trips = [one.link.session.keepalive.round_trip for one in known.server.current]
            if known_trips := [trip for trip in trips if trip is not None]:
                yield name, min(known_trips)

    def _keep(self, chosen: list[Member], told: set[str], count: int) -> bool:
        """Keep connections to these members only; return True if something changed."""
        wanted = {one.id: one for one in chosen}
        gone = [name for name, known in self._known.items() if wanted.get(name) != known.member]
        for name in gone:
            self._retire(name, ends=name in wanted or name not in told)
        new = [one for one in wanted.values() if one.id not in self._known]
        for member in new:
            self._add(member, count)
        return bool(gone or new)

    def _add(self, member: Member, count: int) -> None:
        taken = {known.server.first_number for known in self._known.values()}
        first = next(n for n in range(NUMBERS, NUMBERS * (MOST + 1), NUMBERS) if n not in taken)
        _log.info("member found", server=member.address)
        home = self._dialed_like = self._home()
        server = self._connect(home.at(member.address), member_id=member.id, first_number=first)
        self._known[member.id] = _Known(member, server)
        server.keep(count)

    def _retire(self, name: str, *, ends: bool) -> None:
        member, server = self._known.pop(name)
        _log.info("member left out", server=member.address)
        server.retire(ends=ends)
        self._leaving.append(server)
