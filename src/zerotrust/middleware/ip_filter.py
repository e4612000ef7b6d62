"""`ip_allow` (also `ip_whitelist`) and `ip_deny`: filters by client address.

An IPv4-mapped IPv6 address (RFC 4291 s2.5.5.2) counts as the IPv4 address. A client without a
readable address passes neither filter.
"""

from collections.abc import Sequence
from functools import lru_cache

from zerotrust.limits.network_set import NetworkSet
from zerotrust.middleware.client_address import UNREADABLE
from zerotrust.middleware.interface import Answer, Request

_REFUSAL = Answer(
    403, code="ip_refused", message="the service does not allow requests from this client address"
)


class IpFilterMiddleware:
    """Passes clients whose address is listed (`allow`) or is not listed."""

    __slots__ = ("_allow", "_networks", "_recent")

    def __init__(self, networks: Sequence[str], *, allow: bool) -> None:
        self._allow = allow
        self._networks = NetworkSet(networks)
        self._recent = lru_cache(maxsize=4096)(self._decide)

    def request(self, request: Request, now: float) -> Answer | None:
        return self._recent(request.client)

    def _decide(self, client: bytes) -> Answer | None:
        listed = self._networks.has(client)
        if listed is None:
            return UNREADABLE
        return None if listed is self._allow else _REFUSAL
