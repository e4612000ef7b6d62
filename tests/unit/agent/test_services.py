"""What is served now, and what a new file changes about it."""

import asyncio
import math
from typing import Any

import pytest

from zerotrust.agent.services import RESPONSE_TIMEOUT, Limits, Services
from zerotrust.errors import PkiError
from zerotrust.model.agent import GlobalHealthSettings
from zerotrust.model.service import Service
from zerotrust.net.flush import Flusher
from zerotrust.net.tasks import Tasks

pytestmark = pytest.mark.anyio


def made() -> Services:
    return Services(flusher=Flusher(asyncio.get_running_loop()), tasks=Tasks())


def service(name: str = "a", **keys: Any) -> Service:
    return Service.model_validate({"id": name, "hostname": f"{name}.example.com", "backend": "10.0.0.1:80", **keys})


async def test_a_service_that_is_the_same_keeps_its_upstreams() -> None:
    services = made()
    services.replace([service("a"), service("b"), service("c")])
    before = {live.id: live.upstreams for live in services.all}
    changed, gone = services.replace([service("a"), service("b", timeout="5s")])
    assert ([live.id for live in changed], gone) == (["b"], ["c"])
    after = {live.id: live.upstreams for live in services.all}
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]
    assert services.get("c") is None


async def test_defaults_of_all_health_checks() -> None:
    services = made()
    upstreams = [{"address": "x:1", "health_check": {"timeout": "1s"}}, {"address": "y:1"}]
    given = [service("a", backend=None, upstreams=upstreams), service("b")]
    health = GlobalHealthSettings(check_interval=7.0, timeout=3.0, healthy_threshold=9)
    services.replace(given, health=health)
    live = services.get("a")
    assert live is not None
    first, second = live.upstreams.all
    assert first.check is not None
    assert (first.check.interval, first.check.timeout, first.check.healthy_threshold) == (7, 1, 9)
    assert second.check is None
    assert services.replace(given, health=health) == ([], [])
    changed, _ = services.replace(given, health=GlobalHealthSettings(check_interval=8.0))
    assert [live.id for live in changed] == ["a"], "what is not probed is not touched"


async def test_certificate_that_cannot_be_used_changes_nothing() -> None:
    services = made()
    services.replace([service("a")])
    with pytest.raises(PkiError, match="authority"):
        services.replace([service("b"), service("c", protocol="https", tls={"ca_file": "/nowhere"})])
    assert [live.id for live in services.all] == ["a"]


@pytest.mark.parametrize(
    ("keys", "limits"),
    [
        ({}, Limits(response=RESPONSE_TIMEOUT)),
        ({"timeout": "5s", "load_balancing": {"timeout": "7s"}}, Limits(response=5)),
        ({"load_balancing": {"timeout": "7s"}}, Limits(response=7)),
        ({"idle_timeout": 1, "total_timeout": 2}, Limits(idle=1, total=2)),
        ({"websocket_idle_timeout": 1, "websocket_max_duration": 2}, Limits(tunnel_idle=1, tunnel_total=2)),
    ],
)
def test_limits(keys: dict[str, Any], limits: Limits) -> None:
    assert Limits.of(service(**keys)) == limits
    assert math.isinf(Limits().tunnel_total)


@pytest.mark.parametrize(
    ("keys", "alone"),
    [
        ({}, True),
        ({"load_balancing": {"policy": "ip_hash", "session_affinity": True}}, True),
        ({"load_balancing": {"max_connections": 5}}, False),
        ({"load_balancing": {"health_check_required": True}}, False),
        ({"backend": None, "upstreams": [{"address": "x:1"}]}, True),
        ({"backend": None, "upstreams": [{"address": "x:1", "max_connections": 5}]}, False),
        ({"backend": None, "upstreams": [{"address": "x:1", "health_check": {}}]}, False),
        ({"backend": None, "upstreams": [{"address": "x:1"}, {"address": "y:1"}]}, False),
    ],
)
async def test_one_upstream_of_which_nothing_is_asked_costs_nothing(keys: dict[str, Any], alone: bool) -> None:
    services = made()
    services.replace([service(**keys)])
    assert (services.all[0].upstreams.only is not None) is alone
