"""Look-up of a host name with the resolver of the system, for diagnosis."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from zerotrust.net.channel import describe
from zerotrust.net.resolver import Resolver

_LOOPBACK: Final = ".localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameLookup:
    """Result of a look-up.

    Attributes:
        addresses: IPv4 and IPv6 addresses, in the order of the resolver.
        error: the reason, if there is no address.
        seconds: time that it took.
    """

    addresses: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0


async def look_up(host: str, *, lookup_timeout: float) -> NameLookup:
    """Return the addresses of a host name. Names below `localhost` are this machine (RFC 6761)."""
    asked = "localhost" if host.endswith(_LOOPBACK) else host
    begun_at = time.perf_counter()
    try:
        async with asyncio.timeout(lookup_timeout):
            found = await Resolver(asyncio.get_running_loop()).addresses(asked, None)
    except TimeoutError:
        return NameLookup(error=f"the resolver did not answer within {lookup_timeout:g} s")
    except (OSError, UnicodeError) as error:
        return NameLookup(error=describe(error))
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    return NameLookup(addresses=tuple(addresses), seconds=time.perf_counter() - begun_at)
