"""Check of the services that agents have registered: refused names, processes with one identity."""

from collections.abc import Iterable, Iterator

from zerotrust.model.doctor import DoctorFacts, Finding, HostFact
from zerotrust.model.status import AgentStatus


def judge_facts(facts: DoctorFacts) -> Iterator[Finding]:
    """Yield what is wrong with the agents of a running server."""
    for fact in facts.hosts:
        if fact.refusal:
            yield _refused(fact.host, fact.refusal, agent=fact.agent)
    for agent in facts.contested:
        yield _twice(agent)
    for agent in sorted({fact.agent for fact in facts.hosts if not fact.connected}):
        yield Finding(
            check="agent.away",
            level="broken",
            subject=agent,
            what=f"agent {agent} has lost its connection",
            seen="its session waits to be resumed",
            fix="run 0trust doctor on the agent's machine",
        )


def judge_status(status: AgentStatus) -> Iterator[Finding]:
    """Yield what is wrong with the sessions and registrations of a running agent."""
    if not any(session.connected for session in status.sessions):
        if "another process" in status.problem:
            yield _twice(status.agent)
            return
        yield Finding(
            check="agent.not_connected",
            level="broken",
            subject=status.agent,
            what=f"agent {status.agent} is not connected to its server",
            seen=status.problem or "no session",
            fix="see the findings about the server's address, and the logs of both ends",
        )
        return
    for service in status.services:
        for host, reason in service.refused.items():
            yield _refused(host, reason, agent=status.agent)


def judge_unknown_hosts(hosts: Iterable[str], served: Iterable[HostFact]) -> Iterator[Finding]:
    """Yield a finding for each host name of a rule of access that no agent has registered."""
    known = {fact.host for fact in served}
    for host in hosts:
        if host not in known and not host.startswith("*") and not _covered(host, known):
            yield Finding(
                check="agent.no_service",
                level="warning",
                subject=host,
                what=f"no agent serves {host}, which a rule of access names",
                fix="start its agent, or correct the rule in access.rules",
            )


def _covered(host: str, patterns: Iterable[str]) -> bool:
    wildcard = f"*.{host.partition('.')[2]}"
    return any(one in (wildcard, "*") for one in patterns)


def _refused(host: str, reason: str, *, agent: str) -> Finding:
    # The registrar's reason ends with the command that helps, if one does.
    seen, _, command = reason.partition("; on the server: ")
    return Finding(
        check="agent.host_refused",
        level="broken",
        subject=host,
        what=f"{host} of agent {agent} is not published",
        seen=seen,
        fix=f"run on the server: {command}"
        if command
        else "correct the service in the agent's file, or the server's settings",
    )


def _twice(agent: str) -> Finding:
    return Finding(
        check="agent.twice",
        level="broken",
        subject=agent,
        what=f"two processes use the identity of agent {agent}",
        seen="each takes the host names from the other",
        fix="stop one of them, or give it an identity of its own: 0trust agent join",
    )
