"""Tests of the list of services."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from zerotrust.access.gate_table import GateTable
from zerotrust.model import admin
from zerotrust.model.access import Access
from zerotrust.model.admin import NoParameters, ServiceView, UpstreamsView
from zerotrust.model.limits import Limits
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import USUAL
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session import AgentSession, ServiceRegistration
from zerotrust.server.ops.access_parts import AccessParts
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.tunnel.messages import ServiceHealth, UpstreamFault
from zerotrust.tunnel.session_stats import SessionStats

pytestmark = pytest.mark.anyio

ACCESS = Access.model_validate(
    {
        "auth_host": "auth.example.com",
        "default": "public",
        "rules": [{"hosts": ["a.example.com"], "allow": [{"group": "family"}]}],
    }
)


def session(agent: str, generation: int, *, attached: bool = True) -> AgentSession:
    link = SimpleNamespace(
        session=SimpleNamespace(
            attached=attached, can_open=True, streams={}, keepalive=SimpleNamespace(round_trip=None)
        ),
        doubtful=False,
    )
    found: Any = SimpleNamespace(
        agent=agent,
        attached=attached,
        generation=generation,
        process_generation=generation,
        rank=(-generation, 0, -generation),
        connection=0,
        instance=None,
        retired=False,
        doubtful=False,
        link=link,
        stream_count=0,
        services={},
        health={},
        host_count=0,
    )
    return cast("AgentSession", found)


def registration(
    of: AgentSession, service: str, *hosts: str, policy: Any = None
) -> ServiceRegistration:
    return ServiceRegistration(
        of, service, service.encode(), hosts, websocket=True, schemes=USUAL, policy=policy
    )


async def listed(registry: Registry, access: Access | None = ACCESS) -> list[ServiceView]:
    parts = None if access is None else SimpleNamespace(gates=GateTable(access))
    services = ServiceAdmin(registry, LoadShedding(Limits()), lambda: cast("AccessParts", parts))
    return (await services.services(NoParameters(), "")).services


async def test_each_host_name_with_its_agents_and_the_rule() -> None:
    registry = Registry()
    narrowing = {"access": {"require": [{"signed_in": True}]}}
    policy = compile_service_policy(narrowing, secret=b"s" * 32, before=None, signs_in=True)
    first, second = session("home", 1), session("home", 2)
    for one in (first, second):
        registry.add(one)
    registry.register(registration(first, "web", "a.example.com", "b.example.com"))
    registry.register(registration(second, "web", "a.example.com"))
    registry.register(registration(second, "other", "a.example.com"))
    away = session("attic", 3, attached=False)
    registry.add(away)
    registry.register(registration(away, "box", "c.example.com", policy=policy))
    registry.expect("d.example.com", "cellar", "old")
    found = await listed(registry)
    assert [(one.host, one.agent, one.service, one.state) for one in found] == [
        ("a.example.com", "home", "web", "serving"),
        ("a.example.com", "home", "other", "standby"),
        ("b.example.com", "home", "web", "serving"),
        ("c.example.com", "attic", "box", "away"),
        ("d.example.com", "cellar", "old", "offline"),
    ]
    assert [one.who for one in found[:1] + found[2:3]] == ["group family", "everyone"]
    assert found[3].require == ["everyone who has signed in"]
    assert (found[0].https, found[0].http, found[0].websocket) == (True, False, True)
    assert (await listed(registry, None))[0].who == "everyone"


def report(service: str, healthy: int, *addresses: str) -> ServiceHealth:
    faults = [UpstreamFault(address=address, reason="timed out") for address in addresses]
    return ServiceHealth(id=service, healthy=healthy, upstreams=2, unhealthy=faults)


async def test_health_of_upstreams() -> None:
    registry = Registry()
    first, second, retired = (session("home", number) for number in (1, 2, 3))
    registry.add(retired)
    for one in (first, second):
        registry.add(one)
        for service in ("db", "none", "web"):
            registry.register(registration(one, service, f"{service}.example.com"))
    retired.retired = True
    retired.health["none"] = report("none", 0)
    for one in (first, second):
        one.health["web"] = report("web", 1, "10.0.0.1:80")
        one.health["db"] = report("db", 2)
    services = ServiceAdmin(registry, LoadShedding(Limits()), lambda: None)
    (found,), more = services.unhealthy(20)
    assert more == 0
    assert (found.agent, found.service, found.host) == ("home", "web", "web.example.com")
    shown = found.upstreams.unhealthy[0]
    assert (shown.address, shown.reason) == ("10.0.0.1:80", "timed out")
    views = {one.service: one.upstreams for one in await listed(registry, None)}
    assert views["web"] == found.upstreams
    well = views["db"]
    assert well is not None and (well.healthy, well.total, well.unhealthy) == (2, 2, [])


def test_only_what_is_shown_of_unhealthy_services_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hostile agent reports a thousand of them, each with the longest texts."""
    registry = Registry()
    views: list[int] = []
    registry.add(one := session("home", 1))
    for number in range(9):
        registry.register(registration(one, f"s{number}", f"s{number}.example.com"))
        one.health[f"s{number}"] = report(f"s{number}", 0, "10.0.0.1:80")

    def noting(**values: Any) -> UpstreamsView:
        views.append(values["total"])
        return UpstreamsView(**values)

    monkeypatch.setattr(admin, "UpstreamsView", noting)
    services = ServiceAdmin(registry, LoadShedding(Limits()), lambda: None)
    found, more = services.unhealthy(2)
    assert ([one.service for one in found], more) == (["s0", "s1"], 7)
    assert len(views) == 2


def test_limits_that_are_used_up() -> None:
    load = LoadShedding(Limits())
    services = ServiceAdmin(Registry(), load, lambda: None)
    assert (services.hosts, services.offline, services.overloads) == (0, [], [])
    for _ in range(3):
        load.sample({"home": SessionStats()}, pending=0, lag=10.0)
    assert services.overloads == ["event_loop_lag"]
