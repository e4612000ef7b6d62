"""`ip_allow` (also `ip_whitelist`) and `ip_deny`: filters by client address.

An IPv4-mapped IPv6 address (RFC 4291 s2.5.5.2) counts as the IPv4 address. A client without a
readable address passes neither filter.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

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
        # Grouped by mask. There are few masks, so the length of the list does not matter.
        self._networks: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in networks:
            network = ipaddress.ip_network(text)
            alike = self._networks[network.version].setdefault(int(network.netmask), set())
            alike.add(int(network.network_address))
        self._recent = lru_cache(maxsize=4096)(self._decide)

    def request(self, request: Request, now: float) -> Answer | None:
        return self._recent(request.client)

    def _decide(self, client: bytes) -> Answer | None:
        try:
            address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
                client.decode("ascii")
            )
        except ValueError:
            return UNREADABLE
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number = int(address)
        listed = any(
            number & mask in networks for mask, networks in self._networks[address.version].items()
        )
        return None if listed is self._allow else _REFUSAL
