"""Tests of the health that zerotrust.agent.upstreams reports."""

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zerotrust.agent.upstreams import Upstreams
from zerotrust.balancing.passive_health import Failure
from zerotrust.model.service import Service
from zerotrust.net.http_client import BackendPool
from zerotrust.tunnel.messages import MAX_TEXT, MAX_UNHEALTHY, ServiceHealth, UpstreamFault, decode

CHECK = {"unhealthy_threshold": 1, "healthy_threshold": 1}


def made(*addresses: str, **keys: Any) -> Upstreams:
    upstreams = [{"address": address, "health_check": CHECK} for address in addresses]
    service = Service.model_validate(
        {"hostname": "a.example.com", "upstreams": upstreams} if addresses else keys
    )
    pools = [cast("BackendPool", SimpleNamespace(sweep=lambda _now: None))] * len(service.backends)
    return Upstreams(service, pools, secret=bytes(32), rng=random.Random(0), now=0.0)


def health(upstreams: Upstreams) -> ServiceHealth:
    """Return the health after the next sweep."""
    upstreams.sweep(2.0)
    assert upstreams.health is not None
    return upstreams.health


@pytest.mark.parametrize(
    "keys",
    [
        {"hostname": "a.example.com", "backend": "10.0.0.1:80"},
        {"hostname": "a.example.com", "redirect_to": "b.example.com"},
    ],
)
def test_nothing_is_known_of_an_upstream_without_checks(keys: dict[str, Any]) -> None:
    assert made(**keys).health is None


def test_each_change_is_another_object() -> None:
    upstreams = made("10.0.0.1:80", "10.0.0.2:80")
    before = health(upstreams)
    assert (before.id, before.healthy, before.upstreams, before.unhealthy) == (
        "a.example.com",
        2,
        2,
        [],
    )
    ill = upstreams.all[0]
    upstreams.probed(ill, "connection refused", 1.0)
    after = health(upstreams)
    assert after is not before and health(upstreams) is after
    fault = UpstreamFault(address="10.0.0.1:80", reason="health checks fail: connection refused")
    assert (after.healthy, after.unhealthy) == (1, [fault])
    upstreams.probed(ill, "", 2.0)
    assert health(upstreams) == before


def test_an_ejection_counts_until_its_end() -> None:
    upstreams = made("10.0.0.1:80", "10.0.0.2:80")
    member = upstreams.all[1].member
    change = member.health.eject(Failure.CONNECT, 1.0)
    assert change is not None
    upstreams.note(member, change)
    (fault,) = health(upstreams).unhealthy
    assert fault.reason.startswith("requests failed (connection failed): ejected for")


def test_a_successor_knows_the_reason() -> None:
    before, after = made("10.0.0.1:80"), made("10.0.0.2:80", "10.0.0.1:80")
    before.probed(before.all[0], "timed out", 1.0)
    assert health(after).healthy == 2
    after.inherit(before, same_tls=True)
    assert health(after).healthy == 1
    assert [one.reason for one in health(after).unhealthy] == ["health checks fail: timed out"]
    before.probed(before.all[0], "", 2.0)
    assert health(after).healthy == 2, "both share what is known"


def test_texts_and_lists_are_cut_to_what_the_server_takes() -> None:
    addresses = [f"{'x' * 60}.{'y' * 60}.{'z' * 60}.example:{port}" for port in range(1, 20)]
    upstreams = made(*addresses)
    for upstream in upstreams.all:
        upstreams.probed(upstream, "\x00" * 500, 1.0)
    found = decode(ServiceHealth, health(upstreams).encode())
    assert (found.healthy, found.upstreams, len(found.unhealthy)) == (0, 19, MAX_UNHEALTHY)
    assert {len(one.address) for one in found.unhealthy} == {MAX_TEXT}
    assert {len(one.reason) for one in found.unhealthy} == {MAX_TEXT}
