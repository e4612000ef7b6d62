"""Commands about all workers of a server: a worker adds the answers of the others to its own.

Each agent has a session with each worker, and each worker knows all services, grants and tokens. So
only what belongs to single sessions and requests is collected.
"""

from collections.abc import Hashable, Iterable
from typing import Any, Final

from zerotrust.errors import NotFound
from zerotrust.model import admin
from zerotrust.model import traffic_admin as views
from zerotrust.model.worker_messages import EndForActor, OpenConnectionRequest
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.identity.membership import Membership
from zerotrust.server.identity.worker_slot import WorkerSlot
from zerotrust.server.ops import worker_endpoints as endpoints
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.all_workers_captures import AllWorkersCaptures
from zerotrust.server.ops.all_workers_traffic import AllWorkersTraffic
from zerotrust.server.ops.capture_admin import CaptureAdmin, TellsCaptures
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.traffic_admin import TrafficAdmin
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.ops.worker_news import NewsReader
from zerotrust.server.ops.worker_peers import WorkerPeers
from zerotrust.server.proxy.captures import Captures

_AGENTS: Final = "/v1/agents"


class AllWorkersConnections(ConnectionAdmin):
    """Answers commands about the open connections of all workers."""

    def __init__(self, *parts: Any, peers: WorkerPeers, news: NewsReader, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._peers = peers
        self._news = news

    async def connections(self, asked: views.ConnectionQuery, actor: str) -> views.ConnectionList:
        """Return one page of the open connections."""
        own = await super().connections(asked, actor)
        found = [own, *await self._peers.get("/v1/connections", views.ConnectionList, asked)]
        rows = sorted(
            (row for one in found for row in one.connections),
            key=lambda row: row.number,
            reverse=True,
        )
        return views.ConnectionList.model_construct(
            connections=rows[: asked.limit], total=sum(one.total for one in found)
        )

    async def end(self, asked: views.EndConnectionRequest, actor: str) -> views.EndedConnection:
        """End a connection, whichever worker has it.

        Raises:
            NotFound: it is not open, or not any more.
        """
        try:
            return await super().end(asked, actor)
        except NotFound:
            request = EndForActor(id=asked.id, actor=actor)
            ended = await self._peers.carry_out(endpoints.END, views.EndedConnection, request)
            if ended is None:
                raise
            return ended

    @property
    def any_open(self) -> bool:
        """Some request runs, or did a second ago at another worker."""
        return super().any_open or any(one.streams for one in self._news.news)

    async def connection(self, connection_id: str) -> views.ConnectionInfo:
        """Return an open connection, whichever worker has it.

        Raises:
            NotFound: it is not open, or not any more.
        """
        try:
            return await super().connection(connection_id)
        except NotFound:
            request = OpenConnectionRequest(id=connection_id)
            found = await self._peers.post(endpoints.CONNECTION, views.ConnectionInfo, request)
            if not found:
                raise
            return found[0]


class AllWorkersCommands(AdminCommands):
    """Carries out commands for all workers."""

    missing: int | None = 0

    def __init__(self, *parts: Any, peers: WorkerPeers, news: NewsReader, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._peers = peers
        self._news = news

    async def agents(self, asked: admin.NoParameters, actor: str) -> admin.AgentList:
        """Return all agents, with their sessions at all workers."""
        own = await super().agents(asked, actor)
        found = await self._peers.get(_AGENTS, admin.AgentList, asked)
        others = {agent.id: agent for one in found for agent in one.agents}
        sessions: dict[str, list[admin.SessionInfo]] = {}
        for one in (own, *found):
            for agent in one.agents:
                sessions.setdefault(agent.id, []).extend(agent.sessions)
        agents = others | {agent.id: agent for agent in own.agents}
        return admin.AgentList(
            agents=[_with_sessions(agents[name], sessions[name]) for name in sorted(agents)]
        )

    async def agent(self, asked: admin.AgentRequest, actor: str) -> admin.AgentDetails:
        """Return an agent with grants, certificates, tokens and revocations."""
        own = await super().agent(asked, actor)
        found = await self._peers.get(f"{_AGENTS}/show", admin.AgentDetails, asked)
        sessions = [session for one in (own, *found) for session in one.agent.sessions]
        return own.model_copy(update={"agent": _with_sessions(own.agent, sessions)})

    async def revoke(self, asked: admin.RevokeRequest, actor: str) -> admin.RevokeResult:
        """Revoke an agent, or one of its certificates; the others read it from the database."""
        query = admin.AgentRequest(agent=asked.agent)
        found = await self._peers.get(f"{_AGENTS}/show", admin.AgentDetails, query)
        done = await super().revoke(asked, actor)
        ended = [
            session
            for one in found
            for session in one.agent.sessions
            if done.serial in (None, session.serial)
        ]
        return done.model_copy(
            update={
                "sessions": done.sessions + len(ended),
                "streams": done.streams + sum(session.streams for session in ended),
            }
        )

    async def status(self, asked: admin.NoParameters, actor: str) -> admin.ServerStatus:
        """Return the state of the server."""
        own = await super().status(asked, actor)
        found = [own, *await self._peers.get("/v1/status", admin.ServerStatus, asked)]
        return own.model_copy(
            update={
                "started_at": min(one.started_at for one in found),
                "agents": max(one.agents for one in found),
                "sessions": sum(one.sessions for one in found),
                "streams": sum(one.streams for one in found),
                "overloads": list(dict.fromkeys(name for one in found for name in one.overloads)),
                "workers": self._peers.count + 1,
                "workers_ready": len(found),
            }
        )

    def live_agents(self) -> Hashable:
        """Return a value that changes with each agent, session and service, at little cost."""
        return super().live_agents(), [one.agents for one in self._news.news]

    def live_numbers(self) -> Hashable:
        """Return a value that changes as `live_agents` does, and with each stream."""
        return super().live_numbers(), [one.streams for one in self._news.news]

    async def refresh(self) -> None:
        """Ask the other workers for news."""
        await self._news.refresh()
        self.missing = self._news.missing


def build_commands(
    *parts: Any,
    registry: Registry,
    ingress: TellsCaptures,
    captures: Captures,
    traffic: TrafficHistory,
    slot: WorkerSlot,
    peers: WorkerPeers | None,
    membership: Membership | None = None,
) -> tuple[AdminCommands, AdminCommands]:
    """Return the commands about the whole server, and those about this process alone.

    Args:
        parts: those of `AdminCommands`; the third one is the audit log.
        registry, ingress, captures, traffic: those of this process.
        peers: the other workers; None without any.
        membership: the servers that share the database; None where it is for one server.
    """
    audit = parts[2]

    def live() -> Iterable[AgentSession]:
        return registry.sessions

    own = AdminCommands(
        *parts,
        connections=ConnectionAdmin(live, audit, slot=slot),
        traffic=TrafficAdmin(traffic),
        captures=CaptureAdmin(captures, registry, ingress),
        membership=membership,
    )
    if peers is None:
        return own, own
    news = NewsReader(peers)
    return AllWorkersCommands(
        *parts,
        connections=AllWorkersConnections(live, audit, slot=slot, peers=peers, news=news),
        traffic=AllWorkersTraffic(traffic, peers=peers, news=news),
        captures=AllWorkersCaptures(captures, registry, peers=peers, news=news),
        membership=membership,
        peers=peers,
        news=news,
    ), own


def _with_sessions(agent: admin.AgentInfo, sessions: list[admin.SessionInfo]) -> admin.AgentInfo:
    state = "connected" if sessions and agent.state == "away" else agent.state
    return agent.model_copy(update={"sessions": sessions, "state": state})
