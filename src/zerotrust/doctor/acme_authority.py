"""Check of the ACME authority, from which Caddy gets certificates: reachable, and its clock."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import httpx2

from zerotrust.doctor.clock_offset import date_ahead, judge_clock
from zerotrust.model.doctor import Finding
from zerotrust.net.timed_request import TIMEOUT, cut

DEFAULT: Final = "https://acme-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityAnswer:
    """Answer of an ACME authority; `ahead` are the seconds that its clock is ahead."""

    url: str
    error: str = ""
    ahead: float | None = None


async def ask_authority(url: str, *, step_timeout: float = TIMEOUT) -> AuthorityAnswer:
    """Fetch the directory of an ACME authority (RFC 8555 s7.1.1)."""
    try:
        async with asyncio.timeout(step_timeout), httpx2.AsyncClient() as client:
            async with client.stream("GET", url) as response:
                date, status = response.headers.get("date", ""), response.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        return AuthorityAnswer(url=url, error=cut(str(error)) or type(error).__name__)
    ahead = date_ahead(date, now=time.time())
    return AuthorityAnswer(url=url, error="" if status == 200 else f"status {status}", ahead=ahead)


def judge_authority(answer: AuthorityAnswer) -> Iterator[Finding]:
    """Yield what is wrong with the ACME authority."""
    if answer.error:
        yield Finding(
            check="acme.unreachable",
            level="warning",
            subject=answer.url,
            what="Caddy cannot get certificates from its ACME authority",
            seen=f"{answer.url}: {answer.error}",
            fix="let this machine reach it, or set caddy.acme.ca_url or caddy.certificates",
        )
    yield from judge_clock(answer.ahead, whose="the ACME authority")
