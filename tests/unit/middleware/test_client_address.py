"""Tests of zerotrust.middleware.client_address."""

from tests.unit.middleware.policy_runner import request
from zerotrust.middleware.client_address import RequireClientAddress


def test_only_requests_with_a_client_address_pass() -> None:
    handler = RequireClientAddress()
    assert handler.request(request(client="203.0.113.9"), 0) is None
    answer = handler.request(request(client=""), 0)
    assert answer is not None
    assert (answer.status, answer.code) == (400, "client_address_unreadable")
