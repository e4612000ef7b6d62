"""Tests of zerotrust.middleware.rate_limit."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.middleware.policy_runner import policy, request, returned, run
from zerotrust.limits.client_network import network_of
from zerotrust.limits.gcra import MAX_KEYS
from zerotrust.middleware.interface import Answer
from zerotrust.middleware.policy import Policy
from zerotrust.middleware.rate_limit import RateLimitMiddleware
from zerotrust.model.middleware_settings import RateLimitConfig


def limit(rate: str = "10/s", **keys: Any) -> Policy:
    return policy(("rate_limit", {"rate": rate, **keys}))


def passes(found: Policy, *lines: str, client: str = "203.0.113.9", now: float = 0.0) -> bool:
    answer = run(found, request(*lines, client=client), now)
    assert answer is None or answer.status == 429
    return answer is None


def test_a_burst_and_then_the_rate() -> None:
    found = limit("60/minute", burst=3)
    assert [passes(found, now=100) for _ in range(4)] == [True, True, True, False]
    assert not passes(found, now=100.9)
    assert passes(found, now=101)
    assert not passes(found, now=101)
    assert [passes(found, now=200) for _ in range(4)] == [True, True, True, False]


def test_the_default_burst_is_the_number_in_the_rate() -> None:
    found = limit("5/minute")
    assert [passes(found) for _ in range(6)] == [True] * 5 + [False]


def test_the_headers_of_responses() -> None:
    found = limit("60/minute", burst=2)
    asked = request()
    assert run(found, asked, 0) is None
    expected = b'RateLimit-Policy: "default";q=60;w=60\r\nRateLimit: "default";r=1;t=1\r\n'
    assert returned(asked, b"RateLimit: backend\r\n") == expected
    assert run(found, request(), 0) is None
    answer = run(found, request(), 0)
    assert answer is not None
    assert answer.code == "rate_limited"
    assert (
        answer.lines == b'Retry-After: 1\r\nRateLimit-Policy: "default";q=60;w=60\r\nRateLimit:'
        b' "default";r=0;t=1\r\n'
    )


def test_a_client_that_waits_as_told_passes() -> None:
    found = limit("7/minute", burst=1)
    assert passes(found)
    answer = run(found, request(), 1.5)
    assert answer is not None
    wait = re.match(rb"Retry-After: (\d+)\r\n", answer.lines)
    assert wait is not None
    assert passes(found, now=1.5 + int(wait[1]))


@given(
    st.integers(1, 20),
    st.sampled_from(["s", "minute"]),
    st.integers(1, 10),
    st.lists(st.floats(0, 5), max_size=60),
)
def test_it_is_a_token_bucket(count: int, unit: str, burst: int, gaps: list[float]) -> None:
    found = limit(f"{count}/{unit}", burst=burst)
    refill = count / (1 if unit == "s" else 60)
    tokens, now = float(burst), 0.0
    for gap in gaps:
        now += gap
        tokens = min(burst, tokens + gap * refill)
        passed = passes(found, now=now)
        if abs(tokens - 1) > 1e-6:  # where the two round differently, either is right
            assert passed is (tokens >= 1)
        if passed:
            tokens -= 1


def test_clients_are_counted_apart() -> None:
    found = limit("1/minute")
    assert passes(found, client="203.0.113.9")
    assert not passes(found, client="203.0.113.9")
    assert passes(found, client="203.0.113.10")
    assert not passes(found, client="::ffff:203.0.113.9")


def test_an_ipv6_client_is_its_network() -> None:
    found = limit("1/minute")
    assert passes(found, client="2001:db8::1")
    assert not passes(found, client="2001:db8::ffff:1")
    assert passes(found, client="2001:db8:0:1::1")


def test_forwarding_headers_of_the_client_do_not_count() -> None:
    found = limit("1/minute")
    assert passes(found, "X-Forwarded-For: 1.1.1.1")
    assert not passes(
        found, "X-Forwarded-For: 2.2.2.2", "X-Real-IP: 3.3.3.3", "Forwarded: for=4.4.4.4"
    )


def test_by_header() -> None:
    found = limit("1/minute", key="header:X-Api-Key")
    assert passes(found, "x-api-key: a")
    assert not passes(found, "X-API-KEY: a", client="10.0.0.1")
    assert passes(found, "X-Api-Key: b")
    assert passes(found)
    assert not passes(found)


def test_one_count_for_the_service() -> None:
    found = limit("1/minute", key="service")
    assert passes(found, client="10.0.0.1")
    assert not passes(found, client="10.0.0.2")


def test_memory_is_bounded_whatever_the_keys() -> None:
    handler = RateLimitMiddleware(RateLimitConfig(rate="1/day", key="header:k"))
    giant = "x" * 20_000
    assert handler.request(request(f"k: {giant}"), 0) is None
    answer = handler.request(request(f"k: {giant}"), 0)
    assert answer is not None and answer.status == 429
    assert all(len(key) <= 17 for key in handler.rate.expected.entries)
    for number in range(MAX_KEYS + 10):
        handler.rate.expected.put(b"%d" % number, 1.0, until=1.0)
    assert len(handler.rate.expected) == MAX_KEYS


@pytest.mark.parametrize("client", [b"", b"\xff", b"203.0.113.9:80", b"unix"])
def test_clients_without_address_do_not_share_a_count(client: bytes) -> None:
    assert network_of(client) == b""
    for key in ("client", "header:K"):
        answer = policy_says(key, client)
        assert answer is not None and (answer.status, answer.code) == (
            400,
            "client_address_unreadable",
        )
    assert policy_says("service", client) is None
    assert policy_says("header:K", client, "K: 1") is None


def policy_says(key: str, client: bytes, *fields: str) -> Answer | None:
    asked = request(*fields)
    asked.client = client
    return run(policy(("rate_limit", {"rate": "1/hour", "key": key})), asked)


def test_a_request_that_is_tried_again_is_counted_once() -> None:
    found = limit("1/minute")
    first = request()
    assert run(found, first) is None
    again = request()
    again.counted = first.counted
    assert run(found, again) is None
    assert returned(again) == returned(first) != b""
    assert not passes(found)


def test_workers_share_the_rate() -> None:
    config = RateLimitConfig(rate="10/s", burst=6)
    alone, shared = RateLimitMiddleware(config), RateLimitMiddleware(config, 4)
    assert shared.rate.interval == 4 * alone.rate.interval
    passed = [shared.rate.wait(shared.rate.take(b"k", 0.0)) == 0 for _ in range(4)]
    assert passed == [True, True, False, False]


@pytest.mark.parametrize(
    ("rate", "workers", "said"),
    [("60/minute", 4, b"q=15;w=60"), ("10/s", 4, b"q=5;w=2"), ("3/hour", 2, b"q=3;w=7200")],
)
def test_a_worker_tells_clients_its_share(rate: str, workers: int, said: bytes) -> None:
    asked = request()
    RateLimitMiddleware(RateLimitConfig(rate=rate), workers).request(asked, 0.0)
    assert b'"default";' + said in returned(asked)
