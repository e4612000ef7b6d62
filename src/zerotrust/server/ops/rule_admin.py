"""Admin API: who may enter which host name, and why."""

from dataclasses import replace
from ipaddress import ip_address

from zerotrust.access.conditions import CompiledCondition, may_sign_in
from zerotrust.access.explain import Explanation, Step, explain
from zerotrust.access.gate import VerdictKind, pass_for
from zerotrust.access.gate_request import GateRequest
from zerotrust.access.rule_words import condition_words, who_may_enter
from zerotrust.access.subject import (
    ACCESS_WITHDRAWN,
    Credential,
    CredentialKind,
    Subject,
    SubjectKind,
)
from zerotrust.errors import AccessError, ForwardError, UserUnknown
from zerotrust.model import access_admin as views
from zerotrust.model.admin import NoParameters
from zerotrust.server.access.people import UserInfo
from zerotrust.server.ops.access_advice import did_you_mean
from zerotrust.server.ops.access_parts import AccessEndpoints, AccessParts
from zerotrust.server.ops.service_url import parse_service_url


class RuleAdmin(AccessEndpoints):
    """Answers commands about rules."""

    async def hosts(self, _asked: NoParameters, _actor: str) -> views.HostAccessList:
        """Return each host name with those who may enter."""
        parts = self.parts
        return views.HostAccessList(
            hosts=[
                views.HostAccessView(host=found.host, who=found.words)
                for found in who_may_enter(parts.state.access)
            ],
            auth_url=self.url(parts.state.access.auth_host, ""),
            device_lifetime=int(parts.state.access.sessions.device_lifetime),
        )

    async def explain(self, asked: views.ExplainRequest, _actor: str) -> views.ExplanationView:
        """Return the verdict about a request that is not made, with all its steps."""
        parts = self.parts
        url = parse_service_url(asked.url)
        if url.host == parts.state.access.auth_host:
            raise AccessError(f"{url.host} has the sign-in pages, which are open to everyone")
        now = parts.state.clock()
        credential = await self._credential(asked, url.host, now)
        request = GateRequest(
            asked.method.upper().encode("ascii", "replace"),
            url.target,
            client=_client(asked.ip),
            unix_time=now,
        )
        found = explain(parts.gates, url.host, credential, request)
        if found.kind in (None, VerdictKind.ALLOW):
            found = self._narrowed(found, url.host, credential, request)
        return views.ExplanationView(
            host=url.host,
            verdict="error" if found.kind is None else found.kind.value,
            reason=found.reason,
            error=found.error,
            steps=[
                views.StepView(
                    place=step.place, text=step.text, held=step.held, failed=list(step.failed)
                )
                for step in found.steps
            ],
        )

    def _narrowed(
        self, found: Explanation, host: str, credential: Credential | None, request: GateRequest
    ) -> Explanation:
        """Add the conditions of the service in the agent's file to a verdict."""
        agent, access = self.parts.served_by(host)
        if not agent:
            return replace(found, steps=[*found.steps, Step("agents", f"none serves {host}")])
        gates = self.parts.gates
        steps = [*found.steps, Step("agents", f"{agent} serves {host}")]
        if found.kind is None or access is None:
            return replace(found, steps=steps)
        gate = gates.find(host)
        counts = (
            gate is not None
            and credential is not None
            and not credential.end_reason(request.unix_time)
            and gate.counts(credential)
        )
        who = credential if counts else None
        for index, model in enumerate(access.require):
            condition = CompiledCondition(model, country_of=gates.country_of)
            place = f"{agent}: access.require[{index}]"
            try:
                failed = tuple(condition.failures(who, request))
            except ForwardError as error:
                steps.append(Step(place, str(error), held=False))
                return Explanation(None, place, error.code, steps)
            steps.append(Step(place, condition_words(model), not failed, failed))
            if failed:
                signs_in = may_sign_in((condition,), who, request)
                kind = VerdictKind.SIGN_IN if signs_in else VerdictKind.DENY
                return Explanation(kind, place, steps=steps)
        return replace(found, steps=steps)

    async def _credential(
        self, asked: views.ExplainRequest, host: str, now: float
    ) -> Credential | None:
        """Return the credential that the request would show at a host name; None for a stranger."""
        parts = self.parts
        named = [name for name in ("user", "machine", "app") if getattr(asked, name) is not None]
        if len(named) > 1:
            raise AccessError(f"name one of {' and '.join(named)}, not both")
        if asked.user is None:
            if asked.provider is not None:
                raise AccessError("a provider needs a user")
            return await _token(parts, named[0], getattr(asked, named[0])) if named else None
        user = await self.known_user(asked.user)
        provider = _provider(user, asked.provider)
        sign_in = Credential(
            CredentialKind.SIGN_IN,
            "",
            digest=b"",
            subject=parts.state.subjects.of(user.id, provider) or _subject(user),
            ends_at=now + parts.state.access.sessions.lifetime,
            seen_at=now,
            proven_at=now - asked.proven,
            method="oidc" if provider else "passkey",
        )
        if user.disabled_at is not None:
            sign_in.ended = ACCESS_WITHDRAWN
        return pass_for(sign_in, host)


async def _token(parts: AccessParts, kind: str, name: str) -> Credential:
    rows = {row.name: row for row, _ in reversed(await parts.tokens.listed(kind))}
    token = None
    if name in rows:
        token = parts.state.index.get(CredentialKind.TOKEN, rows[name].id)
    if token is None:
        near = did_you_mean(name, rows) or f"; list them with: 0trust {kind} list"
        raise UserUnknown(f"there is no {kind} {name}{near}")
    return token


def _provider(user: UserInfo, provider: str | None) -> str:
    """Return the provider at which the user signs in; empty for a passkey."""
    if provider is None:
        return "" if user.passkeys or not user.providers else user.providers[0]
    if provider not in user.providers:
        known = ", ".join(user.providers) or "none"
        raise AccessError(f"{user.name} has not signed in at {provider} yet; providers: {known}")
    return provider


def _subject(user: UserInfo) -> Subject:
    """Return the subject of a user of the file who has not been invited yet."""
    return Subject(
        kind=SubjectKind.USER,
        id=user.id,
        name=user.name,
        groups=frozenset(user.groups),
        emails=frozenset(filter(None, [user.email])),
    )


def _client(ip: str | None) -> bytes:
    """Raises AccessError."""
    if ip is None:
        return b""
    try:
        return str(ip_address(ip)).encode("ascii")
    except ValueError:
        raise AccessError(f'"{ip}" is no IP address: write 203.0.113.7 or 2001:db8::1') from None
