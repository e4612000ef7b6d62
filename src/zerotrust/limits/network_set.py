"""Set of IP networks, with look-ups whose time does not depend on its size."""

import ipaddress
from collections.abc import Sequence


class NetworkSet:
    """Networks, grouped by mask. There are few masks, so the length of the list does not matter.

    An IPv4-mapped IPv6 address (RFC 4291 s2.5.5.2) counts as the IPv4 address.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in networks:
            network = ipaddress.ip_network(text)
            alike = self._networks[network.version].setdefault(int(network.netmask), set())
            alike.add(int(network.network_address))

    def has(self, client: bytes) -> bool | None:
        """Return True if the client's address is in one of the networks; None if unreadable."""
        try:
            address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
                client.decode("ascii")
            )
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number = int(address)
        return any(
            number & mask in networks for mask, networks in self._networks[address.version].items()
        )
