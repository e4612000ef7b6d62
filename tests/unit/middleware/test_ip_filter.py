"""Tests of zerotrust.middleware.ip_filter."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.middleware.policy_runner import policy, request, run

NETWORKS = ["192.168.1.0/24", "203.0.113.9", "2001:db8::/32", "::ffff:10.0.0.0/104"]


def passes(kind: str, networks: list[str], client: str) -> bool:
    key = "denied_ips" if kind == "ip_deny" else "allowed_ips"
    answer = run(
        policy((kind, {key: networks})), request("X-Forwarded-For: 192.168.1.1", client=client)
    )
    assert answer is None or (answer.status, answer.code) == (403, "ip_refused")
    return answer is None


def unreadable(kind: str, networks: list[str], client: str) -> bool:
    key = "denied_ips" if kind == "ip_deny" else "allowed_ips"
    answer = run(policy((kind, {key: networks})), request(client=client))
    return answer is not None and (answer.status, answer.code) == (400, "client_address_unreadable")


INSIDE = [
    "192.168.1.77",
    "203.0.113.9",
    "2001:db8::1",
    "10.1.2.3",
    "::ffff:192.168.1.77",
    "::ffff:c0a8:014d",
]
OUTSIDE = [
    "192.168.2.1",
    "203.0.113.10",
    "2001:db9::1",
    "::1",
    "::ffff:192.168.2.1",
    "::192.168.1.77",
]


@pytest.mark.parametrize("client", INSIDE)
def test_listed_addresses(client: str) -> None:
    assert passes("ip_allow", NETWORKS, client)
    assert passes("ip_whitelist", NETWORKS, client)
    assert not passes("ip_deny", NETWORKS, client)


@pytest.mark.parametrize("client", OUTSIDE)
def test_unlisted_addresses(client: str) -> None:
    assert not passes("ip_allow", NETWORKS, client)
    assert passes("ip_deny", NETWORKS, client)


@pytest.mark.parametrize(
    "client", ["", "unix", "192.168.1.1:80", "192.168.1", "0xC0A80101", "192.168.001.001"]
)
def test_an_unreadable_client_address_does_not_pass(client: str) -> None:
    assert unreadable("ip_allow", ["0.0.0.0/0", "::/0"], client)
    assert unreadable("ip_deny", NETWORKS, client)


def test_all_of_one_family() -> None:
    assert not passes("ip_allow", ["::/0"], "::ffff:192.168.1.1")
    assert passes("ip_allow", ["0.0.0.0/0"], "::ffff:192.168.1.1")
    assert passes("ip_allow", ["fe80::/10"], "fe80::1%eth0")


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(ADDRESSES, ADDRESSES, st.integers(0, 32))
def test_allow_and_deny_are_opposites(
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    base: ipaddress.IPv4Address | ipaddress.IPv6Address,
    bits: int,
) -> None:
    network = f"{base}/{bits}"
    allowed = passes("ip_allow", [network], str(client))
    assert allowed is not passes("ip_deny", [network], str(client))
    if getattr(client, "ipv4_mapped", None) is None:
        assert allowed is (client in ipaddress.ip_network(network, strict=False))
