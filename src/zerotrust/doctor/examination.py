"""All checks of a server or an agent: `findings` is for the command and for the dashboard."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from itertools import chain
from typing import Final

from zerotrust.doctor.agent_checks import agent_checks
from zerotrust.doctor.public_hosts import Check
from zerotrust.doctor.server_address import ServerWay
from zerotrust.doctor.server_checks import server_checks
from zerotrust.model.agent import AgentConfig
from zerotrust.model.doctor import DoctorFacts, Finding
from zerotrust.model.server import ServerConfig
from zerotrust.model.status import AgentStatus
from zerotrust.net.timed_request import TIMEOUT

CHECK_TIMEOUT: Final = 60.0
"""Seconds for all probes of one check."""


async def findings(
    config: ServerConfig | AgentConfig,
    *,
    facts: DoctorFacts | None = None,
    status: AgentStatus | None = None,
    ways: Sequence[ServerWay] = (),
    step_timeout: float = TIMEOUT,
) -> list[Finding]:
    """Return everything that is wrong with a set-up, the worst first.

    Args:
        facts: of the running server; None if none runs.
        status: of the running agent; None if none runs.
        ways: the ways from the agent to its server.
        step_timeout: seconds for each step of a probe.
    """
    checks: Iterable[Check]
    if isinstance(config, ServerConfig):
        checks = server_checks(config, facts, step_timeout)
    else:
        checks = agent_checks(config, status, ways, step_timeout)
    found = await asyncio.gather(*(_in_time(name, work) for name, work in checks))
    return sorted(_unique(chain.from_iterable(found)), key=lambda one: one.level != "broken")


async def _in_time(name: str, work: Awaitable[Iterable[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return list(await work)
    except TimeoutError:
        return [
            Finding(
                check="doctor.late",
                level="warning",
                subject=name,
                what=f"the check of {name} did not end",
                seen=f"within {CHECK_TIMEOUT:g} s",
                fix="try again; see the other findings",
            )
        ]


def _unique(found: Iterable[Finding]) -> list[Finding]:
    """Return each finding once, without those that another one explains."""
    once = {(one.check, one.subject, one.what): one for one in found}
    explained = any(one.check.startswith("server.") for one in once.values())
    return [one for one in once.values() if not (explained and one.check == "agent.not_connected")]
