"""Admin API: JSON over a unix socket, for administrators (docs/reference/admin.md).

The socket's mode admits its owner only, and the kernel tells the user of each connection: root and
the server's own user are answered, others are refused with a line in the log and a record in the
audit log.
"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from zerotrust import __version__
from zerotrust.config.error_messages import plain_errors
from zerotrust.db.audit import as_json
from zerotrust.enrollment.queries import AgentHistory
from zerotrust.errors import NotFound
from zerotrust.model import admin
from zerotrust.model.doctor import DoctorFacts
from zerotrust.net.json_api import Call, CallError, Endpoint, JsonApi, Reply
from zerotrust.net.tasks import Tasks
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.agent_directory import AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.join_tokens import JoinTokens
from zerotrust.server.ops import admin_views
from zerotrust.server.ops.access_admin import access_endpoints
from zerotrust.server.ops.access_parts import FindParts
from zerotrust.server.ops.doctor_facts import doctor_facts
from zerotrust.telemetry import logs

NDJSON: Final = "application/x-ndjson"
MAX_CONNECTIONS: Final = 32
"""Connections at the same time: commands of people, and of a few programs."""
REFUSED_INTERVAL: Final = 60.0
"""Seconds between two log lines and audit records about the same refused user."""

Parameters = TypeVar("Parameters", bound=BaseModel)
Answer = Callable[[Any, str], Awaitable[BaseModel | Reply]]

_log = logs.logger("admin")


class NotAllowedError(CallError):
    """The client is neither root nor the server's own user."""

    code = "not_allowed"

    def __init__(self) -> None:
        super().__init__(
            "only root and the user that the server runs as may use the admin API", 403
        )


class AdminChannel:
    """Answers commands.

    Args:
        access: returns the parts that decide about access; None while the server's file has no
            section `access`.

    Attributes:
        api: handler of the requests, for a listener.
        allowed: the user ids that may send commands.
        refused: time at which the next refusal of each user id is recorded, in monotonic seconds.
    """

    def __init__(
        self,
        agent_directory: AgentDirectory,
        sessions: SessionControl,
        audit: Audit,
        join_tokens: JoinTokens,
        tasks: Tasks,
        *,
        access: FindParts = lambda: None,
    ) -> None:
        self._agent_directory = agent_directory
        self._sessions = sessions
        self._audit = audit
        self._join_tokens = join_tokens
        self._find_access = access
        self._access = access_endpoints(access)
        self._started_at = int(time.time())
        self.allowed = {0, os.geteuid()}
        self.refused: dict[int | None, float] = {}
        self.api = JsonApi(self.endpoints(), tasks)

    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        """Return the endpoint of each method and path."""
        table: dict[tuple[str, str], tuple[type[BaseModel], Answer]] = {
            ("GET", "/v1/status"): (admin.NoParameters, self._status),
            ("GET", "/v1/doctor"): (admin.NoParameters, self._doctor),
            ("GET", "/v1/tokens"): (admin.NoParameters, self._tokens),
            ("POST", "/v1/tokens/create"): (admin.CreateTokenRequest, self._create_token),
            ("POST", "/v1/tokens/cancel"): (admin.TokenRequest, self._cancel_token),
            ("GET", "/v1/grants"): (admin.AgentFilter, self._grants),
            ("POST", "/v1/grants/add"): (admin.GrantRequest, self._add_grant),
            ("POST", "/v1/grants/remove"): (admin.GrantRequest, self._remove_grant),
            ("GET", "/v1/agents"): (admin.NoParameters, self._agents),
            ("GET", "/v1/agents/show"): (admin.AgentRequest, self._agent),
            ("POST", "/v1/agents/revoke"): (admin.RevokeRequest, self._revoke),
            ("POST", "/v1/agents/restore"): (admin.RestoreRequest, self._restore),
            ("GET", "/v1/audit"): (admin.AuditQuery, self._records),
            ("GET", "/v1/audit/export"): (admin.AuditQuery, self._export),
            ("POST", "/v1/audit/verify"): (admin.NoParameters, self._verify),
            **self._access,
        }
        return {
            place: self._guarded(place, model, answer) for place, (model, answer) in table.items()
        }

    def _guarded(self, place: tuple[str, str], model: type[BaseModel], answer: Answer) -> Endpoint:
        """Return an endpoint that checks the user first, then the parameters."""

        async def endpoint(call: Call) -> Reply:
            if call.uid not in self.allowed:
                await self._refuse(call.uid, " ".join(place))
            result = await answer(
                _parsed(model, call.query if place[0] == "GET" else call.body), f"uid {call.uid}"
            )
            return result if isinstance(result, Reply) else Reply(result.model_dump())

        return endpoint

    async def _refuse(self, uid: int | None, asked: str) -> None:
        """Raises NotAllowedError."""
        now = time.monotonic()
        if now >= self.refused.get(uid, 0.0):
            self.refused[uid] = now + REFUSED_INTERVAL
            _log.warning("command refused", uid=uid, asked=asked)
            await self._audit.note("command.refused", {"asked": asked}, actor=f"uid {uid}")
        raise NotAllowedError

    # ---- tokens

    async def _create_token(
        self, asked: admin.CreateTokenRequest, actor: str
    ) -> admin.CreatedToken:
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

    async def _cancel_token(self, asked: admin.TokenRequest, actor: str) -> admin.TokenInfo:
        return admin_views.token(
            await self._agent_directory.cancel_token(asked.number, actor=actor)
        )

    async def _tokens(self, _asked: admin.NoParameters, _actor: str) -> admin.TokenList:
        return admin.TokenList(
            tokens=[admin_views.token(token) for token in await self._agent_directory.tokens()]
        )

    # ---- grants

    async def _add_grant(self, asked: admin.GrantRequest, actor: str) -> admin.GrantResult:
        granted = await self._agent_directory.add_grant(asked.agent, asked.host, actor=actor)
        return admin.GrantResult(
            agent=granted.agent_id,
            host=granted.pattern,
            changed=granted.added,
            warnings=granted.warnings,
        )

    async def _remove_grant(self, asked: admin.GrantRequest, actor: str) -> admin.GrantResult:
        in_file = await self._agent_directory.remove_grant(asked.agent, asked.host, actor=actor)
        warnings = ["the server's file still grants it, under grants"] if in_file else []
        return admin.GrantResult(
            agent=asked.agent, host=asked.host, changed=True, warnings=warnings
        )

    async def _grants(self, asked: admin.AgentFilter, _actor: str) -> admin.GrantList:
        stored, filed = await self._agent_directory.grants(asked.agent)
        return admin.GrantList(grants=admin_views.grants(stored, filed))

    # ---- agents

    async def _agents(self, _asked: admin.NoParameters, _actor: str) -> admin.AgentList:
        known = {agent.id: agent for agent in await self._agent_directory.agents()}
        live = admin_views.by_agent(self._sessions.connected())
        hosts = self._agent_directory.hosts_granted()
        return admin.AgentList(
            agents=[
                admin_views.agent(name, known.get(name), live.get(name, []), hosts=hosts[name])
                for name in sorted({*known, *live, *hosts})
            ]
        )

    async def _agent(self, asked: admin.AgentRequest, _actor: str) -> admin.AgentDetails:
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

    async def _revoke(self, asked: admin.RevokeRequest, actor: str) -> admin.RevokeResult:
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

    async def _restore(self, asked: admin.RestoreRequest, actor: str) -> admin.Confirmation:
        await self._agent_directory.restore(
            asked.agent, asked.serial, reissue=asked.reissue, actor=actor
        )
        return admin.Confirmation()

    # ---- the audit

    async def _records(self, asked: admin.AuditQuery, _actor: str) -> admin.AuditRecordList:
        found = await self._audit.records(
            asked.after, asked.limit, agent=asked.agent, action=asked.action
        )
        return admin.AuditRecordList(records=[admin_views.record(record) for record in found])

    async def _export(self, asked: admin.AuditQuery, actor: str) -> Reply:
        if not asked.after:
            await self._audit.record("audit.exported", actor=actor)
        found = await self._audit.records(
            asked.after or 0, asked.limit, agent=asked.agent, action=asked.action
        )
        return Reply(
            "".join(f"{as_json(record)}\n" for record in found).encode(), media_type=NDJSON
        )

    async def _verify(self, _asked: admin.NoParameters, _actor: str) -> admin.AuditCheck:
        chain = await self._audit.verify()
        return admin.AuditCheck(
            records=chain.records, head=chain.head, broken=chain.broken, reason=chain.reason
        )

    # ----

    async def _status(self, _asked: admin.NoParameters, _actor: str) -> admin.ServerStatus:
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
        )

    async def _doctor(self, _asked: admin.NoParameters, _actor: str) -> DoctorFacts:
        return await doctor_facts(self._sessions, self._find_access(), self._audit)


def _parsed(model: type[Parameters], data: Mapping[str, Any]) -> Parameters:
    """Raises CallError."""
    given = dict(data)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        path, _, message = plain_errors(error, given)[0]
        where = ".".join(map(str, path))
        raise CallError(f"{where}: {message}" if where else message) from None
