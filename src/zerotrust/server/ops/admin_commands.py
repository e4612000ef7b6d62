"""Commands of administrators about agents, tokens, grants and the audit log.

The admin API and the dashboard call the same functions: a request, and the name of the one who asks
for the audit log.
"""

import time
from collections.abc import Hashable
from datetime import timedelta
from typing import Final

from zerotrust import __version__
from zerotrust.db.audit import as_json
from zerotrust.enrollment.queries import AgentHistory
from zerotrust.errors import NotFound
from zerotrust.model import admin
from zerotrust.model.doctor import DoctorFacts
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.agent_directory import AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.join_tokens import JoinTokens
from zerotrust.server.identity.membership import Membership
from zerotrust.server.ops import admin_views
from zerotrust.server.ops.access_parts import AccessParts
from zerotrust.server.ops.capture_admin import CaptureAdmin
from zerotrust.server.ops.connection_admin import ConnectionAdmin
from zerotrust.server.ops.doctor_facts import doctor_facts
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.ops.traffic_admin import TrafficAdmin

MAX_OFFLINE: Final = 100
"""Host names of disconnected agents in the state of the server."""


class AdminCommands:
    """Carries out commands. Who may give them is decided before.

    Attributes:
        services: answers commands about services.
        connections: answers commands about open connections.
        captures: answers commands about captures of WebSockets.
        traffic: answers questions about the traffic; on while there is a dashboard.
        missing: number of other workers that do not answer; None if there are no others.
    """

    missing: int | None = None

    def __init__(  # noqa: PLR0913 - commands about each kind of thing
        self,
        agent_directory: AgentDirectory,
        sessions: SessionControl,
        audit: Audit,
        join_tokens: JoinTokens,
        services: ServiceAdmin,
        *,
        connections: ConnectionAdmin,
        captures: CaptureAdmin,
        traffic: TrafficAdmin,
        membership: Membership | None = None,
    ) -> None:
        self.services = services
        self.connections = connections
        self.captures = captures
        self.traffic = traffic
        self._agent_directory = agent_directory
        self._sessions = sessions
        self._audit = audit
        self._join_tokens = join_tokens
        self._membership = membership
        self._started_at = int(time.time())

    # ---- tokens

    async def create_token(self, asked: admin.CreateTokenRequest, actor: str) -> admin.CreatedToken:
        """Create a join token."""
        server, warnings = self._join_tokens.address(asked.server)
        token = await self._agent_directory.create_token(
            asked.agent, asked.hosts, lifetime=timedelta(seconds=asked.expires), actor=actor
        )
        return admin.CreatedToken(
            number=token.number,
            agent=token.agent_id,
            hosts=list(token.patterns),
            expires_at=token.expires_at,
            server=server,
            line=self._join_tokens.create(server, token.secret),
            warnings=[*warnings, *token.warnings],
        )

    async def cancel_token(self, asked: admin.TokenRequest, actor: str) -> admin.TokenInfo:
        """Cancel a join token."""
        return admin_views.token(
            await self._agent_directory.cancel_token(asked.number, actor=actor)
        )

    async def tokens(self, _asked: admin.NoParameters, _actor: str) -> admin.TokenList:
        """Return all join tokens."""
        return admin.TokenList(
            tokens=[admin_views.token(token) for token in await self._agent_directory.tokens()]
        )

    # ---- grants

    async def add_grant(self, asked: admin.GrantRequest, actor: str) -> admin.GrantResult:
        """Grant a host name to an agent."""
        granted = await self._agent_directory.add_grant(asked.agent, asked.host, actor=actor)
        return admin.GrantResult(
            agent=granted.agent_id,
            host=granted.pattern,
            changed=granted.added,
            warnings=granted.warnings,
        )

    async def remove_grant(self, asked: admin.GrantRequest, actor: str) -> admin.GrantResult:
        """Remove a grant."""
        in_file = await self._agent_directory.remove_grant(asked.agent, asked.host, actor=actor)
        warnings = ["the server's file still grants it, under grants"] if in_file else []
        return admin.GrantResult(
            agent=asked.agent, host=asked.host, changed=True, warnings=warnings
        )

    async def grants(self, asked: admin.AgentFilter, _actor: str) -> admin.GrantList:
        """Return the grants of one agent, or of all."""
        stored, filed = await self._agent_directory.grants(asked.agent)
        return admin.GrantList(grants=admin_views.grants(stored, filed))

    # ---- doctor

    async def doctor_facts(self, access: AccessParts | None) -> DoctorFacts:
        """Return the facts for `0trust doctor` (`ops.doctor_facts`)."""
        facts = await doctor_facts(self._sessions, access, self._audit)
        others = () if self._membership is None else self._membership.others
        return facts.model_copy(update={"members": [one.address for one in others]})

    # ---- agents

    async def agents(self, _asked: admin.NoParameters, _actor: str) -> admin.AgentList:
        """Return all agents."""
        known = {agent.id: agent for agent in await self._agent_directory.agents()}
        live = admin_views.by_agent(self._sessions.connected())
        hosts = self._agent_directory.hosts_granted()
        return admin.AgentList(
            agents=[
                admin_views.agent(name, known.get(name), live.get(name, []), hosts=hosts[name])
                for name in sorted({*known, *live, *hosts})
            ]
        )

    async def agent(self, asked: admin.AgentRequest, _actor: str) -> admin.AgentDetails:
        """Return an agent with grants, certificates, tokens and revocations."""
        stored, filed = await self._agent_directory.grants(asked.agent)
        live = admin_views.by_agent(self._sessions.connected()).get(asked.agent, [])
        known: AgentHistory | None = None
        try:
            known = await self._agent_directory.agent(asked.agent)
        except NotFound:
            if not live and not filed:
                raise
        hosts = self._agent_directory.hosts_granted()[asked.agent]
        return admin.AgentDetails(
            agent=admin_views.agent(asked.agent, known.agent if known else None, live, hosts=hosts),
            grants=admin_views.grants(stored, filed),
            certificates=list(map(admin_views.certificate, known.certificates if known else ())),
            tokens=list(map(admin_views.token, known.tokens if known else ())),
            revocations=list(map(admin_views.revocation, known.revocations if known else ())),
        )

    async def revoke(self, asked: admin.RevokeRequest, actor: str) -> admin.RevokeResult:
        """Revoke an agent, or one of its certificates."""
        done = await self._agent_directory.revoke(
            asked.agent, asked.serial, reason=asked.reason, actor=actor
        )
        return admin.RevokeResult(
            agent=done.revocation.agent_id,
            serial=admin_views.serial(done.revocation),
            reason=done.revocation.reason,
            revoked_at=done.revocation.revoked_at,
            sessions=done.sessions,
            streams=done.streams,
        )

    async def restore(self, asked: admin.RestoreRequest, actor: str) -> admin.Confirmation:
        """Undo a revocation."""
        await self._agent_directory.restore(
            asked.agent, asked.serial, reissue=asked.reissue, actor=actor
        )
        return admin.Confirmation()

    # ---- the audit

    async def records(self, asked: admin.AuditQuery, _actor: str) -> admin.AuditRecordList:
        """Return audit records."""
        found = await self._audit.records(
            asked.after,
            asked.limit,
            before=asked.before,
            agent=asked.agent,
            action=asked.action,
        )
        return admin.AuditRecordList(records=[admin_views.record(record) for record in found])

    async def export(self, asked: admin.AuditQuery, actor: str) -> bytes:
        """Return audit records as lines of JSON; the first call of an export is recorded."""
        if not asked.after:
            await self.note_export(actor)
        return await self.audit_lines(asked)

    async def note_export(self, actor: str) -> None:
        """Record that an export has begun."""
        await self._audit.record("audit.exported", actor=actor)

    async def audit_lines(self, asked: admin.AuditQuery) -> bytes:
        """Return audit records as lines of JSON."""
        found = await self._audit.records(
            asked.after or 0, asked.limit, agent=asked.agent, action=asked.action
        )
        return "".join(f"{as_json(record)}\n" for record in found).encode()

    async def verify(self, _asked: admin.NoParameters, _actor: str) -> admin.AuditCheck:
        """Verify the hash chain of the audit log."""
        chain = await self._audit.verify()
        return admin.AuditCheck(
            records=chain.records, head=chain.head, broken=chain.broken, reason=chain.reason
        )

    # ----

    async def status(self, _asked: admin.NoParameters, _actor: str) -> admin.ServerStatus:
        """Return the state of the server."""
        live = self._sessions.connected()
        authority = self._agent_directory.authority
        return admin.ServerStatus(
            version=__version__,
            started_at=self._started_at,
            database=self._agent_directory.database,
            issuer_ends_at=None
            if authority is None
            else int(authority.issuer.not_after.timestamp()),
            agents=len({session.agent for session in live}),
            sessions=len(live),
            streams=sum(session.stream_count for session in live),
            hosts=self.services.hosts,
            offline=self.services.offline[:MAX_OFFLINE],
            overloads=self.services.overloads,
        )

    async def members(self, _asked: admin.NoParameters, _actor: str) -> admin.MemberList:
        """Return the servers that agents are told of; none where servers share no database."""
        membership = self._membership
        if membership is None:
            return admin.MemberList(members=[])
        own = membership.server_id
        return admin.MemberList(
            members=[admin_views.member(one, here=one.id == own) for one in membership.members]
        )

    def live_agents(self) -> Hashable:
        """Return a value that changes with each agent, session and service, at little cost."""
        live = self._sessions.connected()
        return (
            [
                (
                    session.generation,
                    session.attached,
                    len(session.services),
                    session.health_changes,
                )
                for session in live
            ],
            self.services.hosts,
            self.services.overloads,
        )

    def live_numbers(self) -> Hashable:
        """Return a value that changes as `live_agents` does, and with each stream."""
        return self.live_agents(), self.streams

    def live_members(self) -> Hashable:
        """Return a value that changes as the servers of the database do, at little cost."""
        return None if self._membership is None else self._membership.members

    @property
    def streams(self) -> int:
        """Number of requests that run."""
        return sum(session.stream_count for session in self._sessions.connected())

    async def refresh(self) -> None:
        """Ask other workers for news, which `live_agents` and the like tell; here, nothing."""

    async def last_record(self) -> int:
        """Return the number of the last audit record.

        Raises:
            StateError: the database can't be used.
        """
        return await self._audit.last_record()
