"""Check of the other members: each answers ACME challenges at the http port of its Caddy."""

import asyncio
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from zerotrust.http.acme_challenge import UNKNOWN_CHALLENGE, member_target
from zerotrust.model.base import join_address, split_address
from zerotrust.model.doctor import Finding
from zerotrust.net.timed_request import TIMEOUT, Target, attempt


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """Answer of a member to a challenge that no server has.

    Attributes:
        address: where it was asked.
        fault: what is wrong with the answer; empty if it is the right one.
    """

    address: str
    fault: str = ""


async def ask_members(
    members: Iterable[str], http_port: int, *, step_timeout: float = TIMEOUT
) -> list[MemberAnswer]:
    """Ask all members; `members` are their addresses for agents."""
    hosts = [split_address(one)[0] for one in members]
    return list(await asyncio.gather(*(_ask(host, http_port, step_timeout) for host in hosts)))


async def _ask(host: str, port: int, step_timeout: float) -> MemberAnswer:
    target = member_target(secrets.token_urlsafe(32).encode()).decode()
    question = Target(address=host, port=port, host=host, target=target)
    course = await attempt(question, step_timeout=step_timeout)
    fault = course.error
    if not fault and course.body != UNKNOWN_CHALLENGE:
        fault = f"status {course.status}, not of a server that shares this database"
    return MemberAnswer(join_address(host, port), fault)


def judge_members(answers: Iterable[MemberAnswer]) -> Iterator[Finding]:
    """Yield the members that cannot be asked."""
    for answer in answers:
        if answer.fault:
            yield Finding(
                check="member.unreachable",
                level="warning",
                subject=answer.address,
                what="this server cannot ask another one for its ACME challenges, so orders of"
                " certificates fail that are validated here",
                seen=f"http://{answer.address}: {answer.fault}",
                fix="let the servers reach each other's Caddy at caddy.http_port, the same in all"
                " files; ignore this if they share caddy.storage_dir",
            )
