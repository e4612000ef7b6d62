"""Networks of clients, as limits count them."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def network_of(client: bytes) -> bytes:
    """Return the network of a client: its IPv4 address, or the /64 of its IPv6 address (RFC 6177).

    Empty where it is no address.
    """
    try:
        address = ipaddress.ip_address(client.decode("ascii"))
    except ValueError:
        return b""
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed
