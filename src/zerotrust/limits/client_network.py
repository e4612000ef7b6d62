"""Client networks: the unit in which limits count clients."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def network_of(client: bytes) -> bytes:
    """Return the network of a client: an IPv4 address or an IPv6 /64 (RFC 6177).

    It is empty if the client's address is invalid.
    """
    try:
        address = ipaddress.ip_address(client.decode("ascii"))
    except ValueError:
        return b""
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed
