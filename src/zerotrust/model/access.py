"""Access of people and machines to services: the section `access` of the server's file."""

import datetime
from typing import Annotated, Literal

from pydantic import Field

from zerotrust.model.base import Duration, HostName, HostPattern, Secret
from zerotrust.model.network import Network
from zerotrust.model.strict import Strict


class Condition(Strict):
    """A condition on the subject of a request or on its circumstances.

    All keys of a condition must hold; of a list of conditions, one is enough.
    """

    user: str | list[str] | None = None
    """Name of a user."""

    group: str | list[str] | None = None
    """Name of a group. Groups of an identity provider have its name in front, `google/family`."""

    email: str | list[str] | None = None
    """Verified email address."""

    email_domain: str | list[str] | None = None
    """Domain of a verified email address: the part behind its only `@`."""

    provider: str | list[str] | None = None
    """Identity provider that the user has signed in with."""

    claim: dict[str, str | list[str]] | None = None
    """Claims of the identity provider, by name."""

    machine: str | list[str] | None = None
    """Name of a machine token, or a pattern such as `ci-*`."""

    app: str | list[str] | None = None
    """Name of an app token, or a pattern."""

    pin: Literal[True] | None = None
    """The visitor has entered the PIN of the host name."""

    signed_in: Literal[True] | None = None
    """A user has signed in."""

    anyone: Literal[True] | None = None
    """Everybody, without signing in."""

    ip: Network | list[Network] | None = None
    """Network of the client."""

    country: str | list[str] | None = None
    """Country of the client, ISO 3166-1 alpha-2, or `unknown`. Needs `geo`."""

    method: Literal["passkey"] | None = None
    """The way in which the user has signed in."""

    until: datetime.date | datetime.datetime | None = None
    """Last day, or moment, at which the condition holds. Days end at midnight UTC."""

    path: str | None = None
    """Path pattern, as in routes."""


Allow = Literal["anyone", "nobody", "signed_in"] | list[Condition]
"""Conditions, of which one must hold; or one word."""


class PathRule(Strict):
    """Another `allow` for some paths of a host name."""

    match: Annotated[list[str], Field(min_length=1, max_length=64)]
    """Path patterns, as in routes. The first rule that matches applies."""

    allow: Allow
    """Replaces `allow` of the rule. `deny` and `require` still apply."""

    fresh: Annotated[Duration, Field(gt=0)] | None = None
    """Longest time since the user has proven their identity."""


class Rule(Strict):
    """Access to some host names."""

    hosts: Annotated[list[HostPattern], Field(min_length=1, max_length=64)]
    """Host names, or `*.` and a host name. An exact name comes before a wildcard."""

    allow: Allow
    """Conditions of which one must hold."""

    deny: list[Condition] = []
    """Conditions of which none may hold."""

    require: list[Condition] = []
    """Conditions that all must hold, also for machines and share links."""

    paths: Annotated[list[PathRule], Field(max_length=64)] = []
    """Other conditions for some paths."""

    max_age: Annotated[Duration, Field(gt=0)] | None = None
    """Longest time since the user has proven their identity."""

    fresh: Annotated[Duration, Field(gt=0)] | None = None
    """The same as `max_age`, for actions that need a recent proof."""

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


class User(Strict):
    """A user that is named in the server's file."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Unique name: letters, digits, `.`, `_` and `-`."""

    email: str | None = None
    """Email address; it counts as verified."""

    groups: list[str] = []
    """Groups of the user."""


class ProviderSignIn(Strict):
    """Users of an identity provider that may sign in. All keys must hold."""

    email: str | list[str] | None = None
    email_domain: str | list[str] | None = None
    group: str | list[str] | None = None
    claim: dict[str, str | list[str]] | None = None


class IdentityProvider(Strict):
    """An OpenID Connect provider.

    Its redirect URI is `https://AUTH_HOST/in/NAME`, its back-channel logout URI
    `https://AUTH_HOST/out/NAME`.
    """

    kind: Literal["oidc", "google", "entra", "keycloak"] = "oidc"
    """`google` and `entra` know their issuer."""

    issuer: str | None = None
    """URL of the issuer, exactly as the provider writes it."""

    tenant: str | None = None
    """Id of the tenant, for `entra`."""

    client_id: str
    """Client id that the provider has given to 0Trust."""

    client_secret: Secret | None = None
    """Refused: write `client_secret_file`."""

    client_secret_file: str | None = None
    """File with the client's secret."""

    title: str | None = None
    """Name on the sign-in page. Default: the provider's name in this file."""

    scopes: list[str] = ["openid", "email", "profile"]
    """Scopes to request."""

    groups_claim: str | None = None
    """Claim with the user's groups."""

    trust_email: bool = False
    """Believe email addresses without `email_verified`, as of Entra."""

    sign_in: list[ProviderSignIn] = []
    """Who may sign in, one of the list. Empty: every user of the provider. `google` needs it."""

    recheck: Annotated[Duration, Field(ge=60)] | None = None
    """Ask the provider at this interval whether the user may still sign in, by refresh token."""


class Sessions(Strict):
    """Lifetimes of sign-ins."""

    lifetime: Annotated[Duration, Field(ge=300)] = 7 * 86400.0
    """Longest time for which a sign-in is valid."""

    idle: Annotated[Duration, Field(ge=60)] = 2 * 86400.0
    """Longest time without a request or a message."""

    device_lifetime: Annotated[Duration, Field(ge=300)] = 180 * 86400.0
    """Lifetime of a device that was paired with a code."""

    blind: Annotated[Duration, Field(ge=10)] = 900.0
    """Longest time for which people may enter while the database cannot be read. Then they get
    503, because the server no longer knows who was signed out."""


class Geo(Strict):
    """Countries of clients."""

    database: str
    """A GeoLite2-Country or compatible file (`.mmdb`)."""


class Access(Strict):
    """Access of people, machines and apps to services.

    With this section, host names without a rule are closed (`default`).
    """

    auth_host: HostName
    """Host name of the sign-in pages. The server serves it itself; no agent gets it."""

    admin_host: HostName | None = None
    """Host name of the dashboard. Without it there is none."""

    passkey_domain: HostName | None = None
    """Domain of the passkeys (WebAuthn's RP ID). Default: `auth_host`. It is stored with each
    passkey; changing it makes them unusable."""

    admins: list[Condition] = []
    """Who may administer."""

    viewers: list[Condition] = []
    """Who may see the dashboard without changing anything."""

    default: Literal["nobody", "public", "signed_in"] = "nobody"
    """Access to host names that no rule names."""

    sessions: Sessions = Sessions()
    """Lifetimes of sign-ins."""

    users: list[User] = []
    """Users in this file. `0trust user invite NAME` prints the link for a passkey."""

    identity_providers: dict[str, IdentityProvider] = {}
    """OpenID Connect providers, by name."""

    rules: list[Rule] = []
    """Access to each host name."""

    geo: Geo | None = None
    """Database of countries, for the condition `country`."""

    @property
    def rp_id(self) -> str:
        """Return WebAuthn's RP ID."""
        return self.passkey_domain or self.auth_host
