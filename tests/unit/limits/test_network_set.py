import pytest

from zerotrust.limits.network_set import NetworkSet


@pytest.mark.parametrize(
    ("client", "found"),
    [
        (b"10.255.0.1", True),
        (b"192.0.2.7", True),
        (b"192.0.2.8", False),
        (b"::ffff:10.0.0.1", True),
        (b"2001:db8:7::1", True),
        (b"2001:db9::1", False),
        (b"", None),
        (b"unknown", None),
        (b"\xff", None),
    ],
)
def test_look_ups(client: bytes, found: bool | None) -> None:
    networks = NetworkSet(["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"])
    assert networks.has(client) is found
