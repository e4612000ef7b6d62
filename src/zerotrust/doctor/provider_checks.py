"""Check of identity providers: discovery, redirect URI, clock, and rules that lock them out."""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from zerotrust.access.gate_table import GateTable
from zerotrust.doctor.clock_offset import date_ahead
from zerotrust.model.access import Access, IdentityProvider, issuer_of
from zerotrust.model.base import normalise_host
from zerotrust.model.doctor import DoctorFacts, Finding
from zerotrust.net.timed_request import MAX_BODY, TIMEOUT, cut

DISCOVERY: Final = "/.well-known/openid-configuration"
_ACCEPTED: Final = frozenset(
    {"login_required", "interaction_required", "consent_required", "account_selection_required"}
)
"""Errors of a provider that knows the client and its redirect URI (OpenID Connect Core 3.1.2.6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderProbe:
    """Course of the attempts at a provider.

    Attributes:
        error: the reason why there is no discovery document.
        stated: the issuer in the discovery document.
        ahead: seconds that its clock is ahead; None if unknown.
        status: status of its answer to a request with our redirect URI; 0 if it was not asked.
        location: address to which that answer redirects.
        text: the beginning of that answer.
    """

    name: str
    issuer: str
    redirect_uri: str
    error: str = ""
    stated: str = ""
    ahead: float | None = None
    status: int = 0
    location: str = ""
    text: str = ""


async def ask_provider(
    name: str, provider: IdentityProvider, *, auth_origin: str, step_timeout: float = TIMEOUT
) -> ProviderProbe:
    """Fetch the discovery document, and ask for a sign-in that shows no page (`prompt=none`)."""
    issuer, redirect_uri = issuer_of(provider), f"{auth_origin}/in/{name}"
    answer = ProviderProbe(name=name, issuer=issuer, redirect_uri=redirect_uri)
    try:
        async with asyncio.timeout(2 * step_timeout), _client(issuer, step_timeout) as client:
            document, ahead = await _discover(client, issuer)
            status, location, text = await _ask_sign_in(client, document, provider, redirect_uri)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:
        return _failed(answer, error)
    return ProviderProbe(
        name=name,
        issuer=issuer,
        redirect_uri=redirect_uri,
        stated=cut(str(document.get("issuer"))),
        ahead=ahead,
        status=status,
        location=location,
        text=text,
    )


def _failed(answer: ProviderProbe, error: Exception) -> ProviderProbe:
    reason = cut(str(error)) or type(error).__name__
    return ProviderProbe(
        name=answer.name, issuer=answer.issuer, redirect_uri=answer.redirect_uri, error=reason
    )


def _client(issuer: str, step_timeout: float) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        timeout=step_timeout,
        follow_redirects=False,
        trust_env=urlsplit(issuer).scheme == "https",
        headers={"Accept-Encoding": "identity"},
    )


async def _discover(client: httpx2.AsyncClient, issuer: str) -> tuple[dict[str, Any], float | None]:
    status, fields, body = await _get(client, issuer.removesuffix("/") + DISCOVERY)
    if status != 200:
        raise ValueError(f"{DISCOVERY} gets status {status}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ValueError("the discovery document is not a JSON object")
    return document, date_ahead(fields.get("date", ""), now=time.time())


async def _ask_sign_in(
    client: httpx2.AsyncClient,
    document: dict[str, Any],
    provider: IdentityProvider,
    redirect_uri: str,
) -> tuple[int, str, str]:
    endpoint = document.get("authorization_endpoint")
    issuer_scheme = urlsplit(issuer_of(provider)).scheme
    # A provider elsewhere must not make this machine send requests to programs on it.
    if not isinstance(endpoint, str) or urlsplit(endpoint).scheme not in ("https", issuer_scheme):
        return 0, "", ""
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": "doctor",
        "nonce": "doctor",
        "prompt": "none",
        # A random challenge has no known verifier, so no code of this request can be used.
        "code_challenge": secrets.token_urlsafe(32),
        "code_challenge_method": "S256",
    }
    separator = "&" if "?" in endpoint else "?"
    status, fields, body = await _get(client, f"{endpoint}{separator}{urlencode(asked)}")
    return status, fields.get("location", ""), body[:4096].decode("utf-8", "replace")


async def _get(client: httpx2.AsyncClient, url: str) -> tuple[int, httpx2.Headers, bytes]:
    """Return status, fields and the beginning of the body of the answer."""
    body = b""
    async with client.stream("GET", url) as response:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY:
                break
    return response.status_code, response.headers, body[:MAX_BODY]


def judge_provider(answer: ProviderProbe) -> Iterator[Finding]:
    """Yield what is wrong with a provider."""
    name = answer.name
    if answer.error:
        yield _finding(
            "unreachable",
            name,
            f"the identity provider {name} cannot be used",
            f"{answer.issuer}: {answer.error}",
            "check its issuer in access.identity_providers, and that this machine reaches it",
        )
        return
    if answer.stated != answer.issuer:
        yield _finding(
            "issuer",
            name,
            f"the identity provider {name} calls itself otherwise than the file",
            f'the file has "{answer.issuer}", its discovery document "{answer.stated}"'
            f"{_difference(answer.issuer, answer.stated)}",
            f"write issuer: {answer.stated}",
        )
    elif _refuses_redirect(answer):
        yield _finding(
            "redirect_uri",
            name,
            f"the identity provider {name} does not accept our redirect URI",
            f"a sign-in without a page gets status {answer.status}"
            + (" and leads to another page" if answer.location else " and an error page"),
            f"register the redirect URI {answer.redirect_uri} there, and check client_id",
        )
    elif refusal := _refusal(answer):
        yield _finding(
            "refused",
            name,
            f"the identity provider {name} refuses our sign-ins",
            f"its error is {refusal}",
            "correct scopes and client_id in access.identity_providers, or the client there",
        )


def judge_rules(access: Access, facts: DoctorFacts | None) -> Iterator[Finding]:
    """Yield the providers whose own host name is behind a gate, and other settings of access."""
    served = {fact.host for fact in facts.hosts} if facts is not None else set()
    gates = GateTable(access)
    for name, provider in access.identity_providers.items():
        try:
            host = normalise_host(urlsplit(issuer_of(provider)).hostname or "")
        except ValueError:
            continue
        gate = gates.find(host)
        named = any(host in rule.hosts for rule in access.rules)
        if gate is not None and gate.rule.allow != "anyone" and (named or host in served):
            yield _finding(
                "gated",
                name,
                f"the identity provider {name} is itself behind a sign-in",
                f"a rule of access guards {host}",
                f"add a rule: {{ hosts: [{host}], allow: anyone }}; it protects itself",
            )
    if facts is None:
        return
    if facts.other_passkeys:
        yield Finding(
            check="access.passkeys",
            level="broken",
            subject=access.rp_id,
            what=f"{facts.other_passkeys} passkeys cannot be used",
            seen=f"they are for another domain than {access.rp_id}",
            fix="set access.passkey_domain back, or invite their users anew: 0trust user invite",
        )
    for name, count in facts.groupless.items():
        provider_of = access.identity_providers.get(name)
        claim = provider_of.groups_claim if provider_of is not None else None
        yield _finding(
            "groups",
            name,
            f"the identity provider {name} sends no groups",
            f"none of the last {count} users had any in the claim {claim}",
            "add the claim to the client there (a mapper or optional claim), or its scope to"
            " scopes; Entra replaces large claims: limit them to the groups of the application",
            level="warning",
        )


def _refuses_redirect(answer: ProviderProbe) -> bool:
    """Return True if the provider has shown an error in place of a redirect to us."""
    if not answer.status:
        return False
    if not answer.location:
        return answer.status >= 400
    if _leads_to_us(answer):
        return False
    return "redirect_uri" in answer.location or "invalid" in answer.location


def _leads_to_us(answer: ProviderProbe) -> bool:
    return answer.location.partition("?")[0] == answer.redirect_uri


def _refusal(answer: ProviderProbe) -> str:
    """Return the error with which a provider that knows our redirect URI refuses sign-ins."""
    if not _leads_to_us(answer):
        return ""
    errors = parse_qs(urlsplit(answer.location).query).get("error", [])
    return cut(errors[0]) if errors and errors[0] not in _ACCEPTED else ""


def _difference(configured: str, stated: str) -> str:
    if configured.rstrip("/") == stated.rstrip("/"):
        return ": only the slash at the end differs"
    if configured.partition("://")[2] == stated.partition("://")[2]:
        return ": only http and https differ"
    return ""


def _finding(
    check: str, name: str, what: str, seen: str, fix: str, *, level: str = "broken"
) -> Finding:
    return Finding.model_validate(
        {
            "check": f"provider.{check}",
            "level": level,
            "subject": name,
            "what": what,
            "seen": seen,
            "fix": fix,
        }
    )
