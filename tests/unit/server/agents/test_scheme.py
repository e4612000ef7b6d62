"""Tests of zerotrust.server.agents.scheme."""

import pytest

from zerotrust.http.head import parse_request
from zerotrust.server.agents.scheme import USUAL, OfferedSchemes, to_https
from zerotrust.tunnel.messages import Register


def asked(**keys: object) -> Register:
    return Register.model_validate({"id": "a", "hosts": ["a.example"], **keys})


@pytest.mark.parametrize(
    ("keys", "http", "https", "redirect"),
    [
        ({}, False, True, True),
        ({"listen_on": "both"}, False, True, True),
        ({"http_redirect": False}, True, True, False),
        ({"listen_on": "https"}, False, True, True),
        ({"listen_on": "https", "http_redirect": False}, False, True, False),
        ({"listen_on": "http", "http_redirect": False}, True, False, False),
        ({"listen_on": "http", "http_redirect": True}, True, False, False),
    ],
)
def test_each_binding(keys: dict[str, object], http: bool, https: bool, redirect: bool) -> None:
    assert OfferedSchemes.of(asked(**keys)) == OfferedSchemes(
        http=http, https=https, redirect=redirect
    )


def test_an_agent_that_says_nothing_is_served_as_ever() -> None:
    assert OfferedSchemes.of(asked()) == USUAL


@pytest.mark.parametrize(
    ("start", "host", "port", "status", "location"),
    [
        (
            "GET /a%2Fb//?x=%20&&",
            "App.Example:8080",
            443,
            301,
            "https://app.example/a%2Fb//?x=%20&&",
        ),
        ("HEAD /", "app.example.", 8443, 301, "https://app.example:8443/"),
        ("POST //evil.example/..", "app.example", 443, 308, "https://app.example//evil.example/.."),
        ("OPTIONS *", "app.example", 443, 308, "https://app.example"),
        ("get /", "[::1]:80", 444, 308, "https://[::1]:444/"),
        ("GET /é?ü", "app.example", 443, 301, "https://app.example/%C3%A9?%C3%BC"),
    ],
)
def test_the_way_to_https(start: str, host: str, port: int, status: int, location: str) -> None:
    head = parse_request(f"{start} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = to_https(head, port)
    assert (answer.status, answer.lines, answer.body) == (
        status,
        f"Location: {location}\r\n".encode(),
        b"",
    )
