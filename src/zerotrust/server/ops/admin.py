"""Admin API: JSON over a unix socket, for administrators (docs/reference/admin.md).

The socket's mode admits its owner only, and the kernel tells the user of each connection: root and
the server's own user are answered, others are refused with a line in the log and a record in the
audit log. At `access.admin_host`, machines whose token is for the admin API call it, too
(`server.proxy.gate_check`).
"""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import BaseModel

from zerotrust.model import admin, capture_admin, traffic_admin
from zerotrust.model.doctor import DoctorFacts
from zerotrust.net.json_api import Call, CallError, Endpoint, JsonApi, Reply
from zerotrust.net.tasks import Tasks
from zerotrust.server.identity.audit import Audit
from zerotrust.server.ops.access_admin import access_endpoints
from zerotrust.server.ops.access_parts import FindParts
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.command_parameters import parsed
from zerotrust.telemetry import logs

NDJSON: Final = "application/x-ndjson"
MAX_CONNECTIONS: Final = 32
"""Connections at the same time: commands of people, and of a few programs."""
REFUSED_INTERVAL: Final = 60.0
"""Seconds between two log lines and audit records about the same refused user."""

Answer = Callable[[Any, str], Awaitable[BaseModel | Reply]]
Endpoints = dict[tuple[str, str], tuple[type[BaseModel], Answer]]
"""The request and the function that answers it, by method and path."""

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
        commands: carries the commands out.
        access: returns the parts that decide about access; None while the server's file has no
            section `access`.
        more: further endpoints, by method and path.

    Attributes:
        api: handler of the requests, for a listener.
        allowed: the user ids that may send commands.
        refused: time at which the next refusal of each user id is recorded, in monotonic seconds.
    """

    def __init__(
        self,
        commands: AdminCommands,
        audit: Audit,
        tasks: Tasks,
        *,
        access: FindParts = lambda: None,
        more: Endpoints | None = None,
    ) -> None:
        self._commands = commands
        self._audit = audit
        self._find_access = access
        self._access = access_endpoints(access)
        self._more = more or {}
        self.allowed = {0, os.geteuid()}
        self.refused: dict[int | None, float] = {}
        self.api = JsonApi(self.endpoints(), tasks)

    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        """Return the endpoint of each method and path."""
        commands = self._commands
        table: Endpoints = {
            ("GET", "/v1/status"): (admin.NoParameters, commands.status),
            ("GET", "/v1/members"): (admin.NoParameters, commands.members),
            ("GET", "/v1/doctor"): (admin.NoParameters, self._doctor),
            ("GET", "/v1/tokens"): (admin.NoParameters, commands.tokens),
            ("POST", "/v1/tokens/create"): (admin.CreateTokenRequest, commands.create_token),
            ("POST", "/v1/tokens/cancel"): (admin.TokenRequest, commands.cancel_token),
            ("GET", "/v1/grants"): (admin.AgentFilter, commands.grants),
            ("POST", "/v1/grants/add"): (admin.GrantRequest, commands.add_grant),
            ("POST", "/v1/grants/remove"): (admin.GrantRequest, commands.remove_grant),
            ("GET", "/v1/agents"): (admin.NoParameters, commands.agents),
            ("GET", "/v1/agents/show"): (admin.AgentRequest, commands.agent),
            ("POST", "/v1/agents/revoke"): (admin.RevokeRequest, commands.revoke),
            ("POST", "/v1/agents/restore"): (admin.RestoreRequest, commands.restore),
            ("GET", "/v1/services"): (admin.NoParameters, commands.services.services),
            ("GET", "/v1/connections"): (
                traffic_admin.ConnectionQuery,
                commands.connections.connections,
            ),
            ("POST", "/v1/connections/end"): (
                traffic_admin.EndConnectionRequest,
                commands.connections.end,
            ),
            ("GET", "/v1/captures"): (admin.NoParameters, commands.captures.captures_now),
            ("GET", "/v1/captures/messages"): (
                capture_admin.CapturedMessageQuery,
                commands.captures.messages,
            ),
            ("POST", "/v1/captures/start"): (
                capture_admin.StartCaptureRequest,
                commands.captures.start,
            ),
            ("POST", "/v1/captures/stop"): (capture_admin.CaptureRequest, commands.captures.stop),
            ("GET", "/v1/audit"): (admin.AuditQuery, commands.records),
            ("GET", "/v1/audit/export"): (admin.AuditQuery, self._export),
            ("POST", "/v1/audit/verify"): (admin.NoParameters, commands.verify),
            **self._access,
            **self._more,
        }
        return {
            place: self._guarded(place, model, answer) for place, (model, answer) in table.items()
        }

    def _guarded(self, place: tuple[str, str], model: type[BaseModel], answer: Answer) -> Endpoint:
        """Return an endpoint that checks the user first, then the parameters."""

        async def endpoint(call: Call) -> Reply:
            if not call.caller and call.uid not in self.allowed:
                await self._refuse(call.uid, " ".join(place))
            result = await answer(
                parsed(model, call.query if place[0] == "GET" else call.body),
                call.caller or f"uid {call.uid}",
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

    async def _export(self, asked: admin.AuditQuery, actor: str) -> Reply:
        return Reply(await self._commands.export(asked, actor), media_type=NDJSON)

    async def _doctor(self, _asked: admin.NoParameters, _actor: str) -> DoctorFacts:
        return await self._commands.doctor_facts(self._find_access())
