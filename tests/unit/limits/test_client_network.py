"""Tests of zerotrust.limits.client_network."""

import pytest

from zerotrust.limits.client_network import network_of


@pytest.mark.parametrize(
    ("client", "same", "other"),
    [
        (b"203.0.113.9", b"::ffff:203.0.113.9", b"203.0.113.10"),
        (b"2001:db8::1", b"2001:db8:0:0:ffff::1", b"2001:db8:0:1::1"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_64_network(
    client: bytes, same: bytes, other: bytes
) -> None:
    assert network_of(client) == network_of(same) != b""
    assert network_of(client) != network_of(other) != b""


@pytest.mark.parametrize("client", [b"", b"\xff", b"203.0.113.9:80", b"unix"])
def test_other_texts_have_no_network(client: bytes) -> None:
    assert network_of(client) == b""
