"""Tests of the rate limits of profiles."""

from tests.unit.access.credentials import gate
from zerotrust.access.profiles import PROFILES
from zerotrust.server.access.profile_limits import ProfileLimits

PROFILE = PROFILES["home_assistant"]


def allowed(limits: ProfileLimits, client: bytes, host: str = "home.example.com") -> int:
    """Return how many requests of a client pass at once."""
    opened = gate("nobody", host=host, profile="home_assistant")
    return next(n for n in range(10_000) if limits.wait(opened, client, 1000.0))


def test_each_client_network_has_its_own_limit() -> None:
    limits = ProfileLimits()
    assert allowed(limits, b"192.0.2.1") == PROFILE.requests
    assert allowed(limits, b"192.0.2.1") == 0
    assert allowed(limits, b"192.0.2.2") == PROFILE.requests
    assert allowed(limits, b"2001:db8::1") == PROFILE.requests
    assert allowed(limits, b"2001:db8::2") == 0


def test_a_reload_of_the_rules_does_not_reset_it() -> None:
    limits = ProfileLimits()
    assert allowed(limits, b"192.0.2.1") == PROFILE.requests
    again = gate("nobody", host="home.example.com", profile="home_assistant", basic=True)
    assert limits.wait(again, b"192.0.2.1", 1000.0) > 0


def test_clients_without_a_readable_address_share_a_limit() -> None:
    limits = ProfileLimits()
    assert allowed(limits, b"") == PROFILE.requests


def test_a_rule_without_a_profile_has_no_limit() -> None:
    limits = ProfileLimits()
    opened = gate("anyone", host="a.example.com")
    assert not any(limits.wait(opened, b"192.0.2.1", 0.0) for _ in range(1000))
