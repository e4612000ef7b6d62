"""Gatekeeper: finds the credential that a request shows, and asks the gate of its host name.

It decides about every request of a host name with a gate, and about the requests that run when
something has changed (`server.access.cutting`).
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

from zerotrust.access.conditions import FOREVER
from zerotrust.access.gate import (
    ALLOWED_BY_PROFILE,
    Gate,
    GateRequest,
    Verdict,
    VerdictKind,
)
from zerotrust.access.gate_table import GateTable
from zerotrust.access.identity_headers import IdentityHeaders
from zerotrust.access.refusal import (
    ACCESS_DENIED,
    LOGIN_REQUIRED,
    Refusal,
    RefusedRequest,
    denial,
    origin_of,
    origin_refusal,
    sign_in_refusal,
    too_many,
    unavailable,
)
from zerotrust.access.shown_credentials import ShownCredentials, shown_credentials
from zerotrust.access.subject import (
    ACCESS_WITHDRAWN,
    SESSION_ENDED,
    Credential,
    CredentialKind,
)
from zerotrust.errors import ForwardError
from zerotrust.http.head import RequestFields, RequestHead
from zerotrust.middleware.interface import Requirement
from zerotrust.net.asgi import AsgiBridge
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.backend_identity import BackendIdentity, IdentityEdits, removals
from zerotrust.server.access.profile_limits import ProfileLimits

OWN_PREFIX: Final = b"/.0trust/"
"""Paths of a host name with a gate that the server serves itself."""
JWKS_PATH: Final = b"/.well-known/0trust/jwks.json"
MAX_WAITING: Final = 4096
"""Requests that wait for the next reading of the database. More count as strangers at once."""
_ALLOW: Final = VerdictKind.ALLOW


class GatedRequest(Protocol):
    """A request of a host name with a gate (`server.proxy.request_context`).

    Attributes:
        gate: None if everybody may enter.
        shown: the credentials in its head; None before access was configured.
        who: the credential with which it has passed; None without one.
        preflight: it has passed as a CORS preflight, which has no credential.
    """

    head: RequestHead
    client: bytes
    gate: Gate | None
    shown: ShownCredentials | None
    who: Credential | None
    preflight: bool

    @property
    def required(self) -> Sequence[Requirement]:
        """The service's own conditions that the request has met."""


class Gatekeeper:
    """Decides which requests of host names with a gate may pass.

    Args:
        shared: other servers write to the same database.
        origins: returns the origins, besides its own, whose pages may open connections to a host
            name.

    Attributes:
        gates: the gates of all host names.
        portal: serves the sign-in pages; None without them.
        dashboard: serves the pages of `admin_host` to those whom its gate lets in. Its limit of
            requests is separate from the portal's, so strangers cannot use it up.
        identity: tells backends who makes a request; None to tell them nothing.
        auth_origin: scheme, host and port of the sign-in pages.
        first_end: no credential that has passed ends before this time (`server.access.cutting`).
    """

    def __init__(
        self,
        state: AccessState,
        gates: GateTable,
        *,
        portal: AsgiBridge | None,
        auth_origin: str,
        shared: bool = False,
        origins: Callable[[str], Sequence[str]] = lambda _host: (),
    ) -> None:
        self.gates = gates
        self.portal = portal
        self.dashboard: AsgiBridge | None = None
        self.identity: BackendIdentity | None = None
        self.auth_origin = auth_origin
        self.shared = shared
        self.first_end = FOREVER
        self._state = state
        self._index = state.index
        self._origins = origins
        self._profile_limits = ProfileLimits()
        self._waiting = 0

    # ---- each request

    def shown(self, gate: Gate | None, fields: RequestFields) -> ShownCredentials:
        """Return the credentials in the header fields of a request, and the fields to forward."""
        if gate is None:
            return shown_credentials(fields, gated=False)
        return shown_credentials(fields, gated=True, styles=gate.compiled.token_styles)

    def serves(self, gate: Gate, target: bytes) -> bool:
        """Return True if the server answers a request itself, without asking the gate."""
        if gate.host == self.gates.auth_host:
            return True
        if not target.startswith(b"/."):
            return False
        path = target.partition(b"?")[0]
        return path.startswith(OWN_PREFIX) or path == JWKS_PATH

    def page_state(self, gate: Gate, request: GatedRequest, now: float) -> dict[str, Any]:
        """Return what the sign-in pages learn of a request (`scope["state"]`)."""
        shown, credential = request.shown, None
        if shown is not None and shown.cookie is not None and not self._state.blind:
            found = self._index.find(shown.cookie)
            at_auth_host = gate.host == self.gates.auth_host
            if found is not None and not found.end_reason(now):
                is_sign_in = found.kind is CredentialKind.SIGN_IN
                if is_sign_in if at_auth_host else gate.counts(found):
                    credential = found
        return {
            "host": gate.host,
            "client": request.client.decode("ascii"),
            "credential": credential,
        }

    def judge(self, gate: Gate, request: GatedRequest, now: float) -> Refusal | None:
        """Return the refusal of a request; None if it may pass, with `request.who` set.

        Raises:
            ForwardError: the request is ambiguous (`Gate.judge`).
        """
        head, shown, blind = request.head, request.shown, self._state.blind
        if shown is not None and not blind:
            # The usual case: a pass or a token that was let in before.
            found = self._usual(shown, head.fields)
            if found is not None and gate.remembers(found, now):
                request.who = found
                self._note_use(found, now)
                return None
        credential, by_cookie = self._credential(gate, request, now)
        asked = GateRequest(head.method, head.target, client=request.client, unix_time=now)
        if blind:
            return self._judge_blindly(gate, request, asked)
        if by_cookie and head.fields.upgrade is not None and not self._may_open(gate, head):
            if gate.judge(None, asked).kind is not _ALLOW:
                return origin_refusal()
            credential = None
        verdict = gate.judge(credential, asked)
        if verdict.kind is not _ALLOW:
            return self._refusal(gate, request, verdict, credential)
        if verdict is ALLOWED_BY_PROFILE and credential is None:
            wait = self._profile_limits.wait(gate, request.client, monotonic())
            if wait:
                return too_many(wait)
        request.who = credential
        if credential is not None:
            self._note_use(credential, now)
        return None

    def admin_machine(self, gate: Gate, request: GatedRequest, now: float) -> Credential | None:
        """Return the credential of a machine that may call the admin API; None for all others.

        Only a token counts, and none that a browser sends. The machine has to come from where an
        administrator may come from.

        Raises:
            ForwardError: the client's address decides, and is unknown.
        """
        shown, head, admins = request.shown, request.head, self.gates.admins
        if shown is None or shown.token is None or self._state.blind or admins is None:
            return None
        found = self._index.find(shown.token)
        if (
            found is None
            or not found.admin
            or found.end_reason(now)
            or not gate.counts(found)
            or origin_of(head.fields.lines)
        ):
            return None
        asked = GateRequest(head.method, head.target, client=request.client, unix_time=now)
        allowed = admins.compiled.whole.allow
        if not any(now < item.ends_at and item.fits_request(asked) for item in allowed):
            return None
        self._note_use(found, now)
        return found

    def identity_edits(
        self, gate: Gate, who: Credential | None, headers: IdentityHeaders
    ) -> IdentityEdits:
        """Return the header edits that tell the backend who makes a request."""
        if self.identity is None:
            return removals(headers)
        return self.identity.edits(
            who,
            host=gate.host,
            named_groups=gate.named_groups,
            named_claims=gate.named_claims,
            headers=headers,
        )

    def refusal_of_service(self, gate: Gate, request: GatedRequest, code: str) -> Refusal | None:
        """Return the refusal of a request that the service's own conditions do not let pass.

        Args:
            code: the error code of the service's answer; None is returned for others.
        """
        kinds = {LOGIN_REQUIRED: VerdictKind.SIGN_IN, ACCESS_DENIED: VerdictKind.DENY}
        kind = kinds.get(code)
        if kind is None:
            return None
        return self._refusal(gate, request, Verdict(kind, "access.require"), request.who)

    # ---- requests that run

    def reason_to_cut(self, request: GatedRequest, now: float) -> str:
        """Return the reason why a request that has passed may not go on; empty if it may."""
        gate = self.gates.find(request.head.fields.host)
        if request.preflight or (gate is None and not request.required):
            return ""
        who = request.who
        if who is not None:
            reason = who.end_reason(now)
            if reason:
                return reason
            if gate is not None and not gate.counts(who):
                return ACCESS_WITHDRAWN
        head = request.head
        asked = GateRequest(head.method, head.target, client=request.client, unix_time=now)
        try:
            kind = _ALLOW if gate is None else gate.judge(who, asked).kind
            if kind is _ALLOW and self.meets_service(request, now):
                return ""
        except ForwardError:
            return ACCESS_WITHDRAWN
        return SESSION_ENDED if kind is VerdictKind.PROVE_AGAIN else ACCESS_WITHDRAWN

    def meets_service(self, request: GatedRequest, now: float) -> bool:
        """Return True if a request still meets the service's own conditions, which it has met.

        Raises:
            ForwardError: as `access.conditions.CompiledCondition.holds`.
        """
        return all(_is_met(found, request.who, now) for found in request.required)

    def refusal_of(self, request: GatedRequest, now: float) -> Refusal | None:
        """Return the answer to a request that may not go on; None if there is none to give."""
        gate = self.gates.find(request.head.fields.host)
        if gate is None:
            return None
        try:
            refusal = self.judge(gate, request, now)
            if refusal is None and not self.meets_service(request, now):
                return self.refusal_of_service(gate, request, ACCESS_DENIED)
        except ForwardError:
            return denial(self._refused(request), name=None)
        return refusal

    # ---- credentials of other servers

    def is_unknown(self, shown: ShownCredentials) -> bool:
        """Return True if a request shows a credential that this server does not know."""
        cookie, token = shown.cookie, shown.token
        return (cookie is not None and self._index.find(cookie) is None) or (
            token is not None and self._index.find(token) is None
        )

    def catch_up(self, resume: Callable[[], None]) -> bool:
        """Call `resume` once, after the changes of other servers have been read.

        Returns:
            False if too many requests wait: `resume` is not called.
        """
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        self._state.next_reading().add_done_callback(partial(self._resume, resume))
        return True

    def _resume(self, resume: Callable[[], None], _: asyncio.Task[None]) -> None:
        self._waiting -= 1
        resume()

    # ---- inside

    def _usual(self, shown: ShownCredentials, fields: RequestFields) -> Credential | None:
        """Return the credential that decides alone: not the cookie of a request for an upgrade,
        whose origin counts as well."""
        if shown.token is not None:
            return self._index.find(shown.token)
        if shown.cookie is not None and fields.upgrade is None:
            return self._index.find(shown.cookie)
        return None

    def _credential(
        self, gate: Gate, request: GatedRequest, now: float
    ) -> tuple[Credential | None, bool]:
        """Return the credential in force that counts here, and True if it is a cookie."""
        shown = request.shown
        if shown is None:
            return None, False
        if shown.token is not None:
            token = self._index.find(shown.token)
            if token is not None and not token.end_reason(now) and gate.counts(token):
                return token, False
        if shown.cookie is not None:
            found = self._index.find(shown.cookie)
            if found is not None and not found.end_reason(now) and gate.counts(found):
                return found, True
        return None, False

    def _note_use(self, credential: Credential, now: float) -> None:
        credential.note_use(now)
        self.first_end = min(self.first_end, credential.ends_at)

    def _may_open(self, gate: Gate, head: RequestHead) -> bool:
        """Return True if a page of this origin may open a connection with the visitor's cookie."""
        origin = origin_of(head.fields.lines).lower()
        own = b"https://" + head.fields.host_field.lower()
        return bool(origin) and (
            origin == own.removesuffix(b":443")
            or origin.decode("latin-1") in self._origins(gate.host)
        )

    def _judge_blindly(
        self, gate: Gate, request: GatedRequest, asked: GateRequest
    ) -> Refusal | None:
        """Judge while the database can't be read: what is open to everybody stays open."""
        if gate.judge(None, asked).kind is _ALLOW:
            return None
        return unavailable(self._refused(request))

    def _refusal(
        self, gate: Gate, request: GatedRequest, verdict: Verdict, credential: Credential | None
    ) -> Refusal:
        refused = self._refused(request)
        if verdict.kind is VerdictKind.DENY:
            subject = credential.subject if credential is not None else None
            name = (subject.shown_name or subject.name or None) if subject is not None else None
            return denial(refused, name=name)
        return sign_in_refusal(refused, auth_origin=self.auth_origin, basic=gate.rule.basic)

    def _refused(self, request: GatedRequest) -> RefusedRequest:
        head, shown = request.head, request.shown
        return RefusedRequest(
            head.method,
            head.target,
            head.fields.host,
            head.fields.host_field,
            head.fields.lines,
            head.fields.upgrade is not None,
            shown.way if shown is not None else None,
        )


def _is_met(requirement: Requirement, who: Credential | None, now: float) -> bool:
    requirement.asked.unix_time = now
    return all(found.holds(who, requirement.asked) for found in requirement.conditions)
