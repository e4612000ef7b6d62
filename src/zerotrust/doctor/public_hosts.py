"""Parts of the checks of server and agent: the public host names to ask."""

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from zerotrust.doctor.public_names import Roots, ask_host, judge_host
from zerotrust.model.doctor import Finding
from zerotrust.net import tls as tls_contexts

MAX_HOSTS: Final = 200
"""Host names that are asked; the others are left out."""
AT_ONCE: Final = 16

Check = tuple[str, Awaitable[Iterable[Finding]]]
"""Name of a check, and its work."""


@dataclass(frozen=True, slots=True)
class PublicHost:
    """A host name to ask, with its port, over https or plain HTTP."""

    host: str
    port: int
    secured: bool = True


async def examine_hosts(
    hosts: Sequence[PublicHost], roots: Roots, *, outside: bool, step_timeout: float
) -> Iterable[Finding]:
    """Return what is wrong with public host names.

    Args:
        outside: they are asked from another network than the server's.
    """
    limit, trusting = asyncio.Semaphore(AT_ONCE), await asyncio.to_thread(_browser_context)

    async def ask(one: PublicHost) -> list[Finding]:
        async with limit:
            tls = trusting if one.secured else None
            answer = await ask_host(
                one.host, port=one.port, tls=tls, roots=roots, step_timeout=step_timeout
            )
            return list(judge_host(answer, outside=outside))

    return chain.from_iterable(await asyncio.gather(*map(ask, hosts[:MAX_HOSTS])))


def _browser_context() -> ssl.SSLContext:
    """Return a context that trusts what browsers trust. To read all authorities takes 0.1 s."""
    context = ssl.create_default_context()
    context.set_alpn_protocols([tls_contexts.HTTP])
    return context


async def now(found: Iterable[Finding]) -> Iterable[Finding]:
    """Return findings that need no probe, as a check."""
    return list(found)


def utc_now() -> datetime.datetime:
    """Return the time of this machine."""
    return datetime.datetime.now(datetime.UTC)
