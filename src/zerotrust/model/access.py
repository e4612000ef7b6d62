"""Access of people and machines to services: the section `access` of the server's file."""

import re
import uuid
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from zerotrust.model.access_names import (
    DomainName,
    EmailAddress,
    GroupName,
    OneOrMany,
    ProviderName,
    UserName,
)
from zerotrust.model.base import CATCH_ALL, Duration, HostPattern, Secret
from zerotrust.model.condition import (
    MAX_CONDITIONS,
    MAX_VALUES,
    Allow,
    ClaimValues,
    Condition,
    Conditions,
    EmailAddresses,
    EmailDomains,
    check_allow,
    refuse_unknown_country,
)
from zerotrust.model.path_pattern import PathPattern
from zerotrust.model.strict import Strict

GOOGLE: Final = "https://accounts.google.com"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,100}")
_MANY_TENANTS: Final = ("common", "organizations", "consumers")

_NOT_OF_ADMINISTRATORS: Final = ("anyone", "pin", "machine", "app", "path")


def _administrator(condition: Condition) -> Condition:
    """Refuse what would open the dashboard to others than users who have signed in."""
    for key in _NOT_OF_ADMINISTRATORS:
        if key in condition.given:
            raise ValueError(
                f"{key} is not for the dashboard, which only users who have signed in may open:"
                " write for example group: admins"
            )
    if condition.given and not condition.names_subjects:
        raise ValueError("says no user: add for example group: admins")
    return condition


Administrators = Annotated[
    list[Annotated[Condition, AfterValidator(_administrator)]],
    Field(max_length=MAX_CONDITIONS // 2),
]
ProviderGroups = Annotated[list[str], OneOrMany, Field(min_length=1, max_length=MAX_VALUES)]


def _rule_host(value: str) -> str:
    if value == CATCH_ALL:
        raise ValueError('"*" is every host name: write access.default, or *.example.com')
    return value


def _issuer(value: str) -> str:
    try:
        url = urlsplit(value)
        host = url.hostname or ""
    except ValueError:
        raise ValueError(f'"{value[:80]}" is not a URL') from None
    if not host or url.query or url.fragment or "@" in url.netloc or not value.isascii():
        raise ValueError(
            f'"{value[:80]}" is not an issuer: write the URL that the discovery document of the'
            " provider has as issuer"
        )
    if url.scheme != "https" and not (
        url.scheme == "http" and (host in _LOOPBACK or host.endswith(".localhost"))
    ):
        raise ValueError(
            f'"{value[:80]}": write https://; over http anyone on the way could sign in (http is'
            " allowed on this machine only)"
        )
    return value


def _tenant(value: str) -> str:
    if value.lower() in _MANY_TENANTS:
        raise ValueError(f"{value} lets every organisation sign in: write the id of your tenant")
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise ValueError(
            f'invalid tenant "{value[:80]}": write its id, such as'
            " 8f2c0d5e-0000-4000-8000-000000000000"
        ) from None


def _no_secret(value: Secret) -> Secret:
    raise ValueError("is refused, because this file may be read by many: write client_secret_file")


def _scope(value: str) -> str:
    if _SCOPE.fullmatch(value) is None:
        raise ValueError(f'invalid scope "{value[:80]}"')
    return value


class PathRule(Strict):
    """Another `allow` for some paths of a host name."""

    match: Annotated[list[PathPattern], OneOrMany, Field(min_length=1, max_length=64)]
    """Path patterns, as in routes. The first rule that matches applies."""

    allow: Allow
    """Replaces `allow` of the rule. `deny` and `require` still apply."""

    fresh: Annotated[Duration, Field(gt=0)] | None = None
    """Longest time since the user has proven their identity, in addition to `max_age`."""

    @model_validator(mode="after")
    def _says_who(self) -> "PathRule":
        check_allow(self.allow)
        _need_people(self.allow, fresh=self.fresh)
        return self


class Rule(Strict):
    """Access to some host names."""

    hosts: Annotated[
        list[Annotated[HostPattern, AfterValidator(_rule_host)]],
        OneOrMany,
        Field(min_length=1, max_length=64),
    ]
    """Host names, or `*.` and a host name. An exact name comes before a wildcard."""

    allow: Allow
    """Conditions of which one must hold."""

    deny: Conditions = []
    """Conditions of which none may hold."""

    require: Conditions = []
    """Conditions that all must hold, also for machines and share links. Here, unlike elsewhere, one
    of the list is not enough."""

    paths: Annotated[list[PathRule], Field(max_length=64)] = []
    """Other conditions for some paths."""

    max_age: Annotated[Duration, Field(gt=0)] | None = None
    """Longest time since the user has proven their identity."""

    links: bool = False
    """Users who may enter may create share links, for 30 days at most."""

    basic: bool = False
    """Ask clients for HTTP Basic authentication; the password is a token. For git and WebDAV."""

    preflights: Literal["refuse", "backend"] = "refuse"
    """`backend` forwards CORS preflight requests, which have no credentials, to the backend."""

    profile: Literal["home_assistant"] | None = None
    """Open what the native apps of a program need without signing in."""

    token_headers: list[Literal["cf_access", "pangolin"]] = []
    """Also accept tokens in the header fields of other products, for apps that know only those."""

    @model_validator(mode="after")
    def _says_who(self) -> "Rule":
        check_allow(self.allow)
        refuse_unknown_country(self.require, "require")
        if all(path.allow in ("anyone", "nobody") for path in self.paths):
            _need_people(self.allow, max_age=self.max_age)
        return self


def _need_people(allow: Allow, **limits: float | None) -> None:
    """Refuse a limit since the last proof of identity where no proof is needed.

    Raises:
        ValueError: `allow` lets everybody or nobody in.
    """
    for key, limit in limits.items():
        if limit is not None and allow in ("anyone", "nobody"):
            raise ValueError(f"{key} has no effect with allow: {allow}; remove it")


class User(Strict):
    """A user that is named in the server's file."""

    name: UserName
    """Unique name: letters, digits, `.`, `_` and `-`."""

    email: EmailAddress | None = None
    """Email address; it counts as verified."""

    groups: Annotated[list[GroupName], OneOrMany, Field(max_length=MAX_VALUES)] = []
    """Local groups of the user, without `/`."""


class ProviderSignIn(Strict):
    """Users of an identity provider that may sign in. All keys must hold."""

    email: EmailAddresses | None = None
    """Verified email address."""

    email_domain: EmailDomains | None = None
    """Domain of a verified email address."""

    group: ProviderGroups | None = None
    """Group, as the provider names it. Needs `groups_claim`."""

    claim: Annotated[dict[str, ClaimValues], Field(min_length=1, max_length=16)] | None = None
    """Claims, by name. All of them must have one of their values."""

    @model_validator(mode="after")
    def _says_who(self) -> "ProviderSignIn":
        if not any(getattr(self, key) is not None for key in type(self).model_fields):
            raise ValueError("is empty: write a condition such as email_domain: example.com")
        return self


class IdentityProvider(Strict):
    """An OpenID Connect provider.

    Its redirect URI is `https://AUTH_HOST/in/NAME`, its back-channel logout URI
    `https://AUTH_HOST/out/NAME`.
    """

    kind: Literal["oidc", "google", "entra", "keycloak"] = "oidc"
    """`google` and `entra` know their issuer."""

    issuer: Annotated[str, Field(max_length=2048), AfterValidator(_issuer)] | None = None
    """URL of the issuer, exactly as the provider writes it."""

    tenant: Annotated[str, AfterValidator(_tenant)] | None = None
    """Id of the tenant, for `entra`."""

    client_id: Annotated[str, Field(min_length=1, max_length=255)]
    """Client id that the provider has given to 0Trust."""

    client_secret: Annotated[Secret, AfterValidator(_no_secret)] | None = None
    """Refused: write `client_secret_file`."""

    client_secret_file: str | None = None
    """File with the client's secret."""

    title: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name on the sign-in page. Default: the provider's name in this file."""

    scopes: Annotated[list[Annotated[str, AfterValidator(_scope)]], Field(max_length=32)] = [
        "openid",
        "email",
        "profile",
    ]
    """Scopes to request. `openid` is needed."""

    groups_claim: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Claim with the user's groups."""

    trust_email: bool = False
    """Believe email addresses without `email_verified`, as of Entra."""

    sign_in: Annotated[list[ProviderSignIn], Field(max_length=MAX_CONDITIONS)] = []
    """Who may sign in, one of the list. Empty: every user of the provider. `google` needs it."""

    recheck: Annotated[Duration, Field(ge=60.0)] | None = None
    """Ask the provider at this interval whether the user may still sign in, by refresh token."""

    @model_validator(mode="after")
    def _complete(self) -> "IdentityProvider":
        if (self.kind == "entra") is (self.tenant is None):
            raise ValueError(
                "entra needs the id of one tenant: add tenant"
                if self.tenant is None
                else f"tenant is for entra alone, not for {self.kind}: remove it"
            )
        if (self.kind in ("google", "entra")) is (self.issuer is not None):
            raise ValueError(
                f"{self.kind} needs issuer: add the URL that its discovery document has as issuer"
                if self.issuer is None
                else f"the issuer of {self.kind} is known: remove issuer"
            )
        if self.kind == "google" and not self.sign_in:
            raise ValueError(
                "google needs sign_in, because everybody has an account there: say in sign_in who"
                " may sign in, for example sign_in: [{ email_domain: example.com }]"
            )
        if "openid" not in self.scopes:
            raise ValueError("scopes needs openid: add it")
        if self.groups_claim is None and any(item.group is not None for item in self.sign_in):
            raise ValueError("sign_in has group, which needs groups_claim: add it")
        return self


class Sessions(Strict):
    """Lifetimes of sign-ins."""

    lifetime: Annotated[Duration, Field(ge=300.0)] = 7 * 86400.0
    """Longest time for which a sign-in is valid."""

    idle: Annotated[Duration, Field(ge=60.0)] = 2 * 86400.0
    """Longest time without a request or a message."""

    device_lifetime: Annotated[Duration, Field(ge=300.0)] = 180 * 86400.0
    """Lifetime of a device that was paired with a code."""

    blind: Annotated[Duration, Field(ge=10.0)] = 900.0
    """Longest time for which people may enter while the database cannot be read. Then they get
    503, because the server no longer knows who was signed out."""


def issuer_of(config: IdentityProvider) -> str:
    """Return the issuer of a provider."""
    if config.kind == "google":
        return GOOGLE
    if config.kind == "entra":
        return f"https://login.microsoftonline.com/{config.tenant}/v2.0"
    assert config.issuer is not None
    return config.issuer


class Geo(Strict):
    """Countries of clients."""

    database: str
    """A GeoLite2-Country or compatible file (`.mmdb`)."""


class Access(Strict):
    """Access of people, machines and apps to services.

    With this section, host names without a rule are closed (`default`).
    """

    auth_host: DomainName
    """Host name of the sign-in pages. The server serves it itself; no agent gets it."""

    admin_host: DomainName | None = None
    """Host name of the dashboard, which the server serves itself. Without it there is none."""

    passkey_domain: DomainName | None = None
    """Domain of the passkeys (WebAuthn's RP ID). Default: `auth_host`. It is stored with each
    passkey; changing it makes them unusable."""

    admins: Administrators = []
    """Users who may use the dashboard. What gives somebody a right needs a proof of identity of
    the last 15 minutes."""

    viewers: Administrators = []
    """Users who may see the dashboard without changing anything."""

    default: Literal["nobody", "public", "signed_in"] = "nobody"
    """Access to host names that no rule names."""

    sessions: Sessions = Sessions()
    """Lifetimes of sign-ins."""

    users: Annotated[list[User], Field(max_length=10_000)] = []
    """Users in this file. `0trust user invite NAME` prints the link for a passkey."""

    identity_providers: Annotated[dict[ProviderName, IdentityProvider], Field(max_length=32)] = {}
    """OpenID Connect providers, by name."""

    rules: Annotated[list[Rule], Field(max_length=1024)] = []
    """Access to each host name."""

    geo: Geo | None = None
    """Database of countries, for the condition `country`."""

    @model_validator(mode="after")
    def _apart(self) -> "Access":
        if self.admin_host == self.auth_host:
            raise ValueError("admin_host and auth_host are the same: the dashboard needs its own")
        refuse_unknown_country(self.admins, "admins")
        refuse_unknown_country(self.viewers, "viewers")
        names: set[str] = set()
        for user in self.users:
            if user.name in names:
                raise ValueError(f'users has "{user.name}" twice: remove one')
            names.add(user.name)
        return self

    @property
    def rp_id(self) -> str:
        """Return WebAuthn's RP ID."""
        return self.passkey_domain or self.auth_host
