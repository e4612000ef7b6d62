"""Tests of zerotrust.doctor.registrations."""

import pytest

from zerotrust.doctor.registrations import judge_facts, judge_status, judge_unknown_hosts
from zerotrust.model.doctor import DoctorFacts, HostFact
from zerotrust.model.status import AgentStatus, ServiceStatus, SessionStatus

SESSION = SessionStatus(id="a", server="192.0.2.1:8443", streams=0)


def facts(*hosts: HostFact, contested: tuple[str, ...] = ()) -> DoctorFacts:
    return DoctorFacts(
        version="1", unix_time=0, descriptors=9999, hosts=list(hosts), contested=list(contested)
    )


def fact(host: str, **changes: object) -> HostFact:
    return HostFact.model_validate({"host": host, "agent": "home", "service": "web", **changes})


def status(
    *services: ServiceStatus, sessions: tuple[SessionStatus, ...] = (SESSION,), problem: str = ""
) -> AgentStatus:
    return AgentStatus(
        agent="home",
        software="1",
        problem=problem,
        sessions=list(sessions),
        services=list(services),
    )


def test_a_healthy_server_and_agent() -> None:
    assert [*judge_facts(facts(fact("a.example.com")))] == []
    service = ServiceStatus(id="web", hosts=["a.example.com"], upstreams=[])
    assert [*judge_status(status(service))] == []


def test_a_host_name_that_is_not_granted() -> None:
    reason = "not granted to home; on the server: 0trust grants add home a.example.com"
    (seen,) = judge_facts(facts(fact("a.example.com", refusal=reason)))
    service = ServiceStatus(
        id="web", hosts=["a.example.com"], upstreams=[], refused={"a.example.com": reason}
    )
    (told,) = judge_status(status(service))
    assert seen == told
    assert str(seen) == (
        "a.example.com of agent home is not published (not granted to home); run on the server:"
        " 0trust grants add home a.example.com"
    )
    (other,) = judge_facts(facts(fact("a.example.com", refusal="too many services")))
    assert (other.seen, other.fix[:11]) == ("too many services", "correct the")


def test_one_identity_in_two_processes() -> None:
    (seen,) = judge_facts(facts(contested=("home",)))
    problem = "another process uses this agent's certificate"
    (told,) = judge_status(status(sessions=(), problem=problem))
    assert (seen.check, seen) == ("agent.twice", told)


@pytest.mark.parametrize("problem", ["cannot connect to a:1: refused", ""])
def test_an_agent_without_a_session(problem: str) -> None:
    lost = SessionStatus(id="a", server="x", streams=0, connected=False)
    (finding,) = judge_status(status(sessions=(lost,), problem=problem))
    assert (finding.check, finding.seen) == ("agent.not_connected", problem or "no session")


def test_an_agent_that_has_lost_its_connection() -> None:
    hosts = [fact("a.example.com", connected=False), fact("b.example.com", connected=False)]
    (finding,) = judge_facts(facts(*hosts))
    assert (finding.check, finding.subject) == ("agent.away", "home")


def test_rules_for_host_names_without_a_service() -> None:
    served = [fact("a.example.com"), fact("*.lab.example.com")]
    named = ["a.example.com", "x.lab.example.com", "*.other.example.com", "gone.example.com"]
    found = [*judge_unknown_hosts(named, served)]
    assert [one.subject for one in found] == ["gone.example.com"]
    assert found[0].level == "warning"
    assert [*judge_unknown_hosts(named, [fact("*")])] == []
