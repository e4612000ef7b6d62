"""Tests of the profiles of programs with native apps."""

import pytest

from zerotrust.access.profiles import PROFILES
from zerotrust.errors import ForwardError
from zerotrust.http.head import parse_request
from zerotrust.model.service import RouteMatch
from zerotrust.routing.match import Match
from zerotrust.routing.route_table import RouteTable

HOME_ASSISTANT = PROFILES["home_assistant"]
FIELDS = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").fields


def opened(method: bytes, target: bytes) -> bool:
    """Return True if the profile opens a request in every reading of its path."""
    methods = [method.decode() for method in HOME_ASSISTANT.methods]
    rows = [
        (Match(RouteMatch(path=path, method=methods)), True)
        for rule in HOME_ASSISTANT.paths
        for path in rule.match
    ]
    try:
        return RouteTable(rows, default=False).lookup(method, target, FIELDS)
    except ForwardError:
        return False


@pytest.mark.parametrize(
    "target", [b"/api/webhook/0123456789abcdef", b"/api/webhook/a?x=1", b"/api/webhook/%61"]
)
def test_home_assistant_opens_webhooks(target: bytes) -> None:
    assert opened(b"POST", target)


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"OPTIONS", b"HEAD"])
def test_home_assistant_opens_no_other_method(method: bytes) -> None:
    assert not opened(method, b"/api/webhook/0123456789abcdef")


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/api/websocket",
        b"/auth/token",
        b"/api/webhooks/a",
        b"/API/WEBHOOK/a",
        b"/x/api/webhook/a",
        b"/?/api/webhook/a",
        b"/api/states#/api/webhook/a",
        b"/api/webhook/../states",
        b"/api/webhook/%2e%2e/states",
        b"/api/webhook/..;/states",
        b"/api/webhook/..%2fstates",
        b"/api/webhook%5c..%5cstates",
        b"/api/webhook/%252e%252e/states",
        b"/api/webhook/%00",
        b"//api/webhook/a",
        b"//evil/api/webhook/a",
        b"/api//webhook/a",
        b"/api/states;/api/webhook/a",
        b"/api/states%3f/api/webhook/a",
        b"/api/webhook%23/../states",
        b"/api%2fwebhook/a",
    ],
)
def test_home_assistant_opens_no_other_path_in_any_reading(target: bytes) -> None:
    assert not opened(b"POST", target)


def test_home_assistant_has_a_limit_for_each_client_network() -> None:
    limit = HOME_ASSISTANT.limit
    allowed = 0
    while not limit.wait(limit.take(b"network", 0.0)):
        allowed += 1
    assert allowed == HOME_ASSISTANT.requests
    assert not limit.wait(limit.take(b"other", 0.0))
    assert not limit.wait(limit.take(b"network", HOME_ASSISTANT.seconds))
    assert str(HOME_ASSISTANT.requests) in HOME_ASSISTANT.says
