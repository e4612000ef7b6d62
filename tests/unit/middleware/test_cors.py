"""Tests of zerotrust.middleware.cors."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.middleware.policy_runner import policy, request, returned, run
from zerotrust.http import grammar
from zerotrust.middleware import cors
from zerotrust.middleware.interface import Answer

APP = "https://app.example.com"
PREFLIGHT = [f"Origin: {APP}", "Access-Control-Request-Method: PUT"]


def decorated(origin: str | None, backend: bytes = b"", **config: Any) -> bytes:
    asked = request(*([f"Origin: {origin}"] if origin else []))
    assert run(policy(("cors", {"origins": [APP], **config})), asked) is None
    return returned(asked, backend)


def preflight(*lines: str, **config: Any) -> Answer:
    asked = request(*lines, method="OPTIONS")
    answer = run(policy(("cors", {"origins": [APP], **config})), asked)
    assert answer is not None
    assert re.fullmatch(grammar.LINES, answer.lines)
    return answer


def test_an_allowed_origin_gets_cors_headers() -> None:
    assert (
        decorated(APP)
        == b"Access-Control-Allow-Origin: https://app.example.com\r\nVary: Origin\r\n"
    )


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{APP}.evil.example", f"{APP}:8443", None, "x"]
)
def test_other_origins_get_no_cors_headers(origin: str | None) -> None:
    backend = (
        b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nA: b\r\n"
    )
    assert decorated(origin, backend) == b"A: b\r\nVary: Origin\r\n"


def test_cors_headers_of_the_backend_are_replaced() -> None:
    lines = decorated(
        APP, b"access-control-allow-origin: *\r\nVary: Accept\r\n", expose_headers=["X-A", "X-B"]
    )
    assert (
        lines == b"Vary: Accept\r\nAccess-Control-Allow-Origin: https://app.example.com\r\n"
        b"Access-Control-Expose-Headers: X-A, X-B\r\nVary: Origin\r\n"
    )


def test_credentials() -> None:
    assert b"Access-Control-Allow-Credentials: true\r\n" in decorated(APP, allow_credentials=True)
    assert b"Credentials" not in decorated("https://evil.example", allow_credentials=True)
    assert (
        b"Access-Control-Allow-Credentials: true\r\n"
        in preflight(*PREFLIGHT, allow_credentials=True).lines
    )


def test_a_star_allows_every_origin() -> None:
    assert decorated("https://any.example", origins=["*"]) == b"Access-Control-Allow-Origin: *\r\n"


WILD = "https://*.example.com"


@pytest.mark.parametrize(
    "origin", ["https://a.example.com", "https://a.b.example.com", "https://a-1_x.example.com"]
)
def test_a_wildcard_origin_allows_every_subdomain(origin: str) -> None:
    assert f"Origin: {origin}\r\n".encode() in decorated(origin, origins=[WILD])


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "https://evilexample.com",
        "http://a.example.com",
        "https://a.example.com:8443",
        "https://a.example.com.evil.example",
        "https://evil.example/.example.com",
        "https://evil.example#.example.com",
        "https://evil.example:1@a.example.com",
        "https://.example.com",
        "https://a..example.com",
        "https://A.example.com",
    ],
)
def test_a_wildcard_origin_refuses_other_domains(origin: str) -> None:
    assert b"Allow-Origin" not in decorated(origin, origins=[WILD])


def test_a_hostile_origin_costs_linear_time() -> None:
    assert b"Allow-Origin" not in decorated("https://" + "a." * 10_000 + "x", origins=[WILD])


def test_an_origin_is_not_longer_than_a_host_name() -> None:
    longest = "https://" + "a." * 120 + "example.com:8443"
    assert f"Origin: {longest}\r\n".encode() in decorated(longest, origins=[f"{WILD}:8443"])
    assert b"Allow-Origin" not in decorated("https://" + "a." * 150 + "example.com", origins=[WILD])


def test_the_number_of_patterns_costs_a_request_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each suffix of an origin is looked up once, however many patterns are configured."""
    looked_up, every = [], cors.patterns

    def patterns(origin: bytes) -> Iterator[bytes]:
        for pattern in every(origin):
            looked_up.append(pattern)
            yield pattern

    monkeypatch.setattr(cors, "patterns", patterns)
    found = policy(("cors", {"origins": [f"https://*.x{i}.example" for i in range(1000)]}))
    assert run(found, asked := request("Origin: https://a.b.x999.example")) is None
    assert b"Allow-Origin: https://a.b.x999.example" in returned(asked)
    assert looked_up == [b"https://*.b.x999.example", b"https://*.x999.example"]


def test_two_origin_headers_count_as_none() -> None:
    asked = request(f"Origin: {APP}", f"Origin: {APP}")
    assert run(policy(("cors", {"origins": [APP]})), asked) is None
    assert b"Allow-Origin" not in returned(asked)


def test_a_preflight_is_answered() -> None:
    answer = preflight(*PREFLIGHT, methods=["get", "put"], headers=["X-A", "X-B"], max_age=60)
    assert answer.status == 204
    assert answer.code == ""
    assert (
        answer.lines
        == b"Access-Control-Allow-Origin: https://app.example.com\r\nAccess-Control-Allow-Methods:"
        b" GET, PUT\r\nAccess-Control-Allow-Headers: X-A, X-B\r\nAccess-Control-Max-Age:"
        b" 60\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
    )


def test_default_methods_are_the_safe_ones() -> None:
    assert b"Methods: GET, HEAD, POST\r\n" in preflight(*PREFLIGHT).lines
    assert (
        b"Allow-Headers" not in preflight(*PREFLIGHT, "Access-Control-Request-Headers: x-a").lines
    )


def test_a_star_allows_every_method_and_header() -> None:
    answer = preflight(
        *PREFLIGHT, "Access-Control-Request-Headers: x-a, x-b", methods=["*"], headers=["*"]
    )
    assert b"Methods: PUT\r\n" in answer.lines
    assert b"Headers: x-a, x-b\r\n" in answer.lines
    odd = preflight(*PREFLIGHT, "Access-Control-Request-Headers: <x>", methods=["*"], headers=["*"])
    assert b"Allow-Headers" not in odd.lines


def test_a_preflight_from_another_origin_is_refused() -> None:
    answer = preflight("Origin: https://evil.example", "Access-Control-Request-Method: PUT")
    assert (answer.status, answer.code) == (403, "origin_refused")
    assert b"Allow-Origin" not in answer.lines


@pytest.mark.parametrize("lines", [[], [f"Origin: {APP}"], ["Access-Control-Request-Method: PUT"]])
def test_other_options_requests_pass(lines: list[str]) -> None:
    assert run(policy(("cors", {"origins": [APP]})), request(*lines, method="OPTIONS")) is None


def test_a_refusal_of_a_later_handler_has_cors_headers() -> None:
    found = policy(("cors", {"origins": [APP]}), ("respond", {"status": 503}))
    answer = run(found, request(f"Origin: {APP}"))
    assert answer is not None
    assert b"Access-Control-Allow-Origin: https://app.example.com\r\n" in answer.lines


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30))
def test_any_origin_gets_at_most_its_own_permission(origin: str) -> None:
    for lines in (
        decorated("x" + origin, origins=[WILD]),
        decorated("https://" + origin, origins=[WILD]),
    ):
        if b"Allow-Origin" in lines:
            assert re.fullmatch(r"[a-z0-9_.-]+\.example\.com", origin)
