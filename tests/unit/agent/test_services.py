"""Tests of zerotrust.agent.services."""

import asyncio
import gc
import math
from typing import Any, cast

import pytest

from zerotrust.agent.services import RESPONSE_TIMEOUT, LiveService, Services, Timeouts
from zerotrust.agent.upstreams import UpstreamSelection, Waiter
from zerotrust.balancing.health import HealthState
from zerotrust.errors import PkiError, UpstreamsDown
from zerotrust.model.agent import AgentConfig, GlobalHealthSettings, HealthChecks
from zerotrust.model.authentication import KeySource
from zerotrust.model.service import Service
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio

CHECK = {"unhealthy_threshold": 1}


def made() -> Services:
    return Services(
        coalescer=WriteCoalescer(asyncio.get_running_loop()),
        tasks=Tasks(),
        keys_changed=lambda source: None,
    )


def service(name: str = "a", **keys: Any) -> Service:
    return Service.model_validate(
        {"id": name, "hostname": f"{name}.example.com", "backend": "10.0.0.1:80", **keys}
    )


def replace(
    services: Services,
    wanted: list[Service],
    *,
    health: GlobalHealthSettings | None = None,
    renewed: tuple[str, ...] = (),
    drain: float = 30.0,
) -> tuple[list[str], list[str]]:
    """Adopt a configuration; return the ids of changed and of removed services."""
    checks = HealthChecks(global_settings=health or GlobalHealthSettings())
    plan = services.plan(AgentConfig(services=wanted, health_checks=checks), renewed=renewed)
    services.adopt(plan, drain_timeout=drain)
    return [live.id for live in plan.changed], plan.gone


def got(services: Services, name: str = "a") -> LiveService:
    live = services.get(name)
    assert live is not None
    return live


async def test_answers_are_read_strictly_only_where_the_service_says_so() -> None:
    services = made()
    replace(services, [service("a"), service("b", strict_upstream=True)])
    lenient, strict = (got(services, name).upstreams.all[0].pool for name in "ab")
    assert lenient.forgive is not None
    assert strict.forgive is None


async def test_an_unchanged_service_keeps_its_upstreams() -> None:
    services = made()
    replace(services, [service("a"), service("b"), service("c")])
    before = {live.id: live.upstreams for live in services.all}
    assert replace(services, [service("a"), service("b", timeout="5s")]) == (["b"], ["c"])
    after = {live.id: live.upstreams for live in services.all}
    assert list(after) == ["a", "b"]
    assert after["a"] is before["a"]
    assert after["b"] is not before["b"]


async def test_a_plan_takes_effect_when_adopted() -> None:
    services = made()
    replace(services, [service("a")])
    before = got(services)
    plan = services.plan(AgentConfig(services=[service("a", timeout="5s"), service("b")]))
    assert ([live.id for live in plan.changed], plan.gone) == (["a", "b"], [])
    assert services.all == [before]


async def test_keys_of_issuers_are_announced_with_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = made()
    wanted: list[set[KeySource]] = []
    monkeypatch.setattr(services.jwks, "fetch_from", wanted.append)
    auth = {
        "type": "jwt",
        "config": {"algorithm": "RS256", "jwks_url": "https://issuer.example/keys"},
    }
    source = KeySource("https://issuer.example/keys", "RS256")
    replace(services, [service("a", security={"auth": auth}), service("b")])
    assert wanted == [{source}]
    live = got(services)
    assert (live.key_sources, got(services, "b").key_sources) == (frozenset({source}), frozenset())

    def told() -> dict[str, Any]:
        policy = live.announcement().policy
        assert policy is not None
        config: dict[str, Any] = policy["security"]["auth"]["config"]
        return config

    assert told() == auth["config"]
    services.jwks.documents[source] = {"keys": [{"kid": "1"}]}
    assert told() == {"algorithm": "RS256", "jwks": {"keys": [{"kid": "1"}]}}
    services.jwks.documents.clear()
    assert told() == auth["config"]
    replace(services, [service("b")])
    assert wanted == [{source}, set()]


async def test_defaults_of_all_health_checks() -> None:
    services = made()
    upstreams = [{"address": "x:1", "health_check": {"timeout": "1s"}}, {"address": "y:1"}]
    given = [service("a", backend=None, upstreams=upstreams), service("b")]
    health = GlobalHealthSettings(check_interval=7.0, timeout=3.0, healthy_threshold=9)
    replace(services, given, health=health)
    first, second = got(services).upstreams.all
    assert first.check is not None
    assert (first.check.interval, first.check.timeout, first.check.healthy_threshold) == (7, 1, 9)
    assert second.check is None
    assert replace(services, given, health=health) == ([], [])
    changed, _ = replace(services, given, health=GlobalHealthSettings(check_interval=8.0))
    assert changed == ["a"], "what is not probed is not touched"


async def test_certificate_that_cannot_be_used_changes_nothing() -> None:
    services = made()
    replace(services, [service("a")])
    with pytest.raises(PkiError, match="authority"):
        replace(
            services, [service("b"), service("c", protocol="https", tls={"ca_file": "/nowhere"})]
        )
    assert [live.id for live in services.all] == ["a"]


async def test_a_renewed_file_changes_the_services_that_name_it() -> None:
    services = made()
    tls = [{"ca_file": "/ca"}, {"client_cert_file": "/c", "client_key_file": "/k"}, None]
    given = [service(name, tls=keys) for name, keys in zip("abc", tls, strict=True)]
    replace(services, given)
    assert replace(services, given, renewed=("/ca", "/other"))[0] == ["a"]
    assert replace(services, given, renewed=("/k",))[0] == ["b"]
    assert replace(services, given, renewed=("/other",))[0] == []


# What is taken away


def ends(live: LiveService) -> list[float]:
    return [backend.ends_at for backend in live.upstreams.all]


async def test_a_removed_service_has_drain_timeout_to_end() -> None:
    now = asyncio.get_running_loop().time()
    services = made()
    replace(services, [service("a")])
    before = got(services)
    assert ends(before) == [math.inf]
    replace(services, [])
    (ends_at,) = ends(before)
    assert 30 <= ends_at - now < 40
    assert services.all == []
    assert services.get("a") is before, "for requests that were on their way"
    services.sweep(ends_at - 0.1)
    assert services.get("a") is before
    services.sweep(ends_at)
    assert services.get("a") is None


async def test_other_changes_do_not_extend_drain_timeout() -> None:
    services = made()
    replace(services, [service("a")])
    before = got(services)
    replace(services, [], drain=5)
    first = ends(before)
    replace(services, [service("b")], drain=50)
    assert ends(before) == first
    replace(services, [], drain=0)
    assert ends(before) < first


async def test_a_service_that_is_added_again_ends_no_requests() -> None:
    services = made()
    replace(services, [service("a")])
    before = got(services)
    replace(services, [])
    replace(services, [service("a")])
    assert ends(before) == [math.inf]
    assert got(services) is not before
    replace(services, [service("a", backend="10.0.0.2:80")])
    assert math.isfinite(ends(before)[0]), "and has its time again when the upstream goes"


async def test_only_removed_upstreams_drain() -> None:
    services = made()
    addresses = [{"address": f"10.0.0.{number}:80"} for number in range(3)]
    replace(services, [service(backend=None, upstreams=addresses)])
    before = got(services)
    replace(services, [service(backend=None, upstreams=addresses[1:], timeout="5s")])
    first, *others = ends(before)
    assert math.isfinite(first)
    assert others == [math.inf, math.inf]
    replace(services, [service(backend=None, upstreams=addresses[1:], protocol="https")])
    assert all(math.isfinite(one) for one in ends(before)), "another protocol is another upstream"


async def test_a_replaced_service_is_swept_until_its_last_request() -> None:
    services = made()
    replace(services, [service("a")])
    request = got(services)
    replace(services, [service("a", timeout="5s")])
    assert list(services.replaced) == [request]
    del request
    gc.collect()
    assert not services.replaced


@pytest.mark.parametrize(
    ("keys", "timeouts"),
    [
        ({}, Timeouts(response=RESPONSE_TIMEOUT)),
        ({"timeout": "5s", "load_balancing": {"timeout": "7s"}}, Timeouts(response=5)),
        ({"load_balancing": {"timeout": "7s"}}, Timeouts(response=7)),
        ({"idle_timeout": 1, "total_timeout": 2}, Timeouts(idle=1, total=2)),
    ],
)
def test_timeouts_of_a_service(keys: dict[str, Any], timeouts: Timeouts) -> None:
    assert Timeouts.of(service(**keys)) == timeouts
    assert math.isinf(Timeouts().total)


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
async def test_a_single_upstream_without_checks_skips_selection(
    keys: dict[str, Any], alone: bool
) -> None:
    services = made()
    replace(services, [service(**keys)])
    assert (services.all[0].upstreams.only is not None) is alone


LIMITED: dict[str, Any] = {"load_balancing": {"max_connections": 1}}


@pytest.mark.parametrize("gone", [False, True])
async def test_a_changed_service_counts_running_requests(gone: bool) -> None:
    services = made()
    replace(services, [service(**LIMITED)])
    before = got(services)
    request = UpstreamSelection(before.upstreams, b"")
    assert request.take(0.0) is not None
    if gone:
        replace(services, [])
    replace(services, [service(**LIMITED, timeout="5s")])
    after = got(services).upstreams
    assert UpstreamSelection(after, b"").take(0.0) is None
    waiter: Any = None
    request.end(waiter, 0.0)
    assert UpstreamSelection(after, b"").take(0.0) is not None


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"timeout": "5s"}, HealthState.UNHEALTHY),
        (
            {"backend": None, "upstreams": [{"address": "http://10.0.0.1", "health_check": CHECK}]},
            HealthState.UNHEALTHY,
        ),
        ({"protocol": "https"}, HealthState.HEALTHY),
        ({"upstreams": [{"address": "10.0.0.2:80", "health_check": CHECK}]}, HealthState.HEALTHY),
        (
            {"upstreams": [{"address": "10.0.0.1:80", "health_check": {**CHECK, "path": "/x"}}]},
            HealthState.HEALTHY,
        ),
        ({"tls": {"min_version": "1.2"}}, HealthState.HEALTHY),
    ],
)
async def test_health_is_kept_if_the_check_is_the_same(
    change: dict[str, Any], state: HealthState
) -> None:
    services = made()
    keys: dict[str, Any] = {
        "backend": None,
        "upstreams": [{"address": "10.0.0.1:80", "health_check": CHECK}],
    }
    replace(services, [service(**keys)])
    upstreams = got(services).upstreams
    upstreams.probed(upstreams.all[0], "no answer", 1.0)
    replace(services, [service(**{**keys, **change})])
    (backend,) = got(services).upstreams.all
    assert backend.member.health.state is state


async def test_health_is_unknown_after_a_tls_file_is_renewed() -> None:
    """It may have failed because of a certificate that is valid now."""
    services = made()
    keys: dict[str, Any] = {
        "backend": None,
        "upstreams": [{"address": "10.0.0.1:80", "health_check": CHECK}],
    }
    given = [service(**keys, tls={"ca_file": "/ca"})]
    replace(services, given)
    upstreams = got(services).upstreams
    upstreams.probed(upstreams.all[0], "no answer", 1.0)
    replace(services, given, renewed=("/ca",))
    (backend,) = got(services).upstreams.all
    assert backend.member.health.state is HealthState.HEALTHY


async def test_a_service_that_redirects_has_no_upstreams() -> None:
    services = made()
    alias = service("a", backend=None, redirect_to="example.org")
    replace(services, [alias])
    live = got(services)
    assert (live.upstreams.all, live.upstreams.only) == ([], None)
    assert live.announcement().policy == {
        "global_middleware": [],
        "routes": [
            {
                "handle": [
                    {
                        "type": "redirect",
                        "config": {"location": "https://example.org{uri}", "status": 308},
                    }
                ]
            }
        ],
    }
    selection = UpstreamSelection(live.upstreams, b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(UpstreamsDown):
        live.upstreams.admit(cast("Waiter", None), selection, 0.0)
    services.sweep(0.0)
    replace(services, [service("a")])
    assert len(got(services).upstreams.all) == 1
