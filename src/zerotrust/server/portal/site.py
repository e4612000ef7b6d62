"""Parts that all pages of the portal share: configuration, use cases, limits, rendering."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from zerotrust.access.gate import Gate
from zerotrust.access.hand_over import GO_PATH, Attempt
from zerotrust.model.access import Access
from zerotrust.model.base import CATCH_ALL
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.access_tokens import AccessTokens
from zerotrust.server.access.people import People
from zerotrust.server.access.share_links import ShareLinks
from zerotrust.server.access.sign_ins import SignIns
from zerotrust.server.portal import csrf
from zerotrust.server.portal.attempt_limits import AttemptLimits
from zerotrust.server.portal.page_templates import PageTemplates
from zerotrust.server.portal.passkey_ceremony import ChallengeKeys, PasskeyCeremony
from zerotrust.server.portal.visitor import client_of, host_of


def _none_published(host: str) -> bool:
    return False


def _no_logout(provider: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Parts that all pages share.

    Attributes:
        find_gate: returns the gate of a host name; None for a public one.
        is_published: returns True if a service has this host name.
        https_port: the port on which browsers reach all host names.
        clock: returns seconds since 1970.
        logout_url: returns the URL of an identity provider's own logout page, if it has one.
    """

    state: AccessState
    find_gate: Callable[[str], Gate | None]
    people: People
    sign_ins: SignIns
    tokens: AccessTokens
    links: ShareLinks
    keys: ChallengeKeys
    is_published: Callable[[str], bool] = _none_published
    https_port: int = 443
    clock: Callable[[], float] = time.time
    logout_url: Callable[[str], str | None] = _no_logout
    limits: AttemptLimits = field(default_factory=AttemptLimits)
    templates: PageTemplates = field(default_factory=PageTemplates)

    @property
    def access(self) -> Access:
        """Return the section `access` of the configuration."""
        return self.state.access

    def provider_title(self, name: str) -> str:
        """Return what people read as the name of an identity provider; empty for none."""
        provider = self.access.identity_providers.get(name)
        return (provider.title if provider else None) or name

    def origin(self, host: str) -> str:
        """Return the origin of a host name."""
        return f"https://{host}" if self.https_port == 443 else f"https://{host}:{self.https_port}"

    @property
    def auth_origin(self) -> str:
        """Return the origin of the auth host."""
        return self.origin(self.access.auth_host)

    def gate_of(self, host: str) -> Gate | None:
        """Return the gate of a host name that is one of this server; else None.

        The rule `default` has a gate for each name of the world. Browsers must not be sent there.
        """
        gate = self.find_gate(host)
        if gate is None or (gate.host_pattern == CATCH_ALL and not self.is_published(host)):
            return None
        return gate

    def ceremony(self) -> PasskeyCeremony:
        """Return the ceremonies of passkeys for the configuration in force."""
        return PasskeyCeremony(rp_id=self.access.rp_id, origin=self.auth_origin, keys=self.keys)

    def check_origin(self, request: Request) -> None:
        """Refuse a form that another page has sent; raises AccessRefused."""
        csrf.check_origin(request, origin=self.origin(host_of(request)))

    def admit(self, request: Request) -> None:
        """Count a request of a stranger; raises TooManyAttempts."""
        self.limits.admit(client_of(request), self.clock())


def next_path(query: str, *, otherwise: str = "/me") -> str:
    """Return the page of the auth host that continues the attempt in a query."""
    attempt = Attempt.from_query(query)
    return otherwise if attempt is None else f"{GO_PATH}?{attempt.to_query()}"
