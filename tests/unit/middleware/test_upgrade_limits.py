"""Tests of zerotrust.middleware.upgrade_limits."""

import pytest

from tests.unit.middleware.policy_runner import request
from zerotrust.middleware.upgrade_limits import HandshakeLimit, UpgradeOrigins

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
OWN = "Origin: https://app.example.com"


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ((), True),
        ((OWN,), True),
        (("Origin: https://APP.example.com:443",), True),
        (("Origin: http://app.example.com:443",), False),
        (("Origin: http://app.example.com",), False),
        (("Origin: https://app.example.com:8443",), False),
        (("Origin: https://other.example.com",), True),
        (("Origin: https://evil.example",), False),
        (("Origin: https://app.example.com.evil.example",), False),
        (("Origin: null",), False),
        (("Origin: file://",), False),
        ((OWN, "Origin: https://evil.example"), False),
    ],
)
def test_pages_of_other_origins_are_refused(fields: tuple[str, ...], passes: bool) -> None:
    origins = UpgradeOrigins(["https://other.example.com"])
    answer = origins.request(request(*UPGRADE, *fields), 0.0)
    assert (answer is None) is passes
    assert answer is None or (answer.status, answer.code) == (403, "origin_refused")


@pytest.mark.parametrize(
    ("scheme", "origin", "passes"),
    [
        ("http", "http://app.example.com", True),
        ("http", "http://app.example.com:80", True),
        ("http", "https://app.example.com", False),
        ("https", "https://app.example.com", True),
        ("https", "http://app.example.com", False),
        ("https", "http://app.example.com:80", False),
    ],
)
def test_a_page_by_the_other_scheme_is_of_another_origin(
    scheme: str, origin: str, passes: bool
) -> None:
    asked = request(*UPGRADE, f"Origin: {origin}", scheme=scheme, host="app.example.com")
    assert (UpgradeOrigins([]).request(asked, 0.0) is None) is passes


def test_other_requests_have_any_origin() -> None:
    assert UpgradeOrigins([]).request(request("Origin: https://evil.example"), 0.0) is None


def test_handshakes_of_a_client_are_limited() -> None:
    limit = HandshakeLimit("2/s")
    first, second = (request(*UPGRADE, client="2001:db8::1") for _ in range(2))
    assert limit.request(first, 0.0) is None
    assert limit.request(first, 0.0) is None  # the same request, on another agent
    assert limit.request(second, 0.0) is None
    answer = limit.request(request(*UPGRADE, client="2001:db8::2"), 0.0)
    assert answer is not None
    assert (answer.status, answer.code, answer.lines) == (
        429,
        "rate_limited",
        b"Retry-After: 1\r\n",
    )
    assert limit.request(request(*UPGRADE, client="2001:db8:0:1::1"), 0.0) is None
    assert limit.request(request(*UPGRADE, client="2001:db8::3"), 0.5) is None
    assert limit.request(request(client="2001:db8::3"), 0.5) is None


def test_a_client_without_an_address_is_refused() -> None:
    answer = HandshakeLimit("2/s").request(request(*UPGRADE, client=""), 0.0)
    assert answer is not None and answer.status == 400


def test_a_reload_keeps_the_counts() -> None:
    limit = HandshakeLimit.of("1/s", None)
    assert HandshakeLimit.of("1/s", limit) is limit
    assert HandshakeLimit.of("2/s", limit) is not limit
