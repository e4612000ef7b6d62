"""Tests of zerotrust.server.permission: for which names Caddy may get a certificate."""

from types import SimpleNamespace
from typing import cast

import pytest

from zerotrust.http.body import Kind, request_framing
from zerotrust.http.head import parse_request
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.binding import Binding
from zerotrust.server.permission import PATH, Permission
from zerotrust.server.registry import Claim, Registry


class Caddy:
    """Asks, and keeps the answer."""

    def __init__(self) -> None:
        registry = Registry()
        self.said: list[tuple[bytes, bool]] = []
        member = registry.join("home", cast("TunnelLink", SimpleNamespace(session=SimpleNamespace(attached=True))))
        for name, https in (("secure", True), ("plain", False)):
            binding = Binding(http=True, https=https, redirect=False)
            claim = Claim(member, name, name.encode(), (f"{name}.example",), True, binding=binding)
            registry.register(member, claim)
        self._permission = Permission(registry)

    def refuse(self, reply: bytes, *, close: bool) -> None:
        self.said.append((reply, close))

    def ask(self, start: str, *fields: str) -> int:
        head = parse_request("\r\n".join([f"{start} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode())
        framing = request_framing(head.fields)
        assert self._permission.request(cast("HttpServerConnection", self), head, framing) is None
        reply, close = self.said[-1]
        assert close == (framing[0] is not Kind.NONE)
        return int(reply.split()[1])


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (f"GET {PATH}?domain=secure.example", 200),
        (f"GET {PATH}?domain=SECURE.example.", 200),
        (f"GET {PATH}?domain=plain.example", 403),
        (f"GET {PATH}?domain=stranger.example", 403),
        (f"GET {PATH}?domain=secure.example&domain=stranger.example", 403),
        (f"GET {PATH}?domain=..", 403),
        (f"GET {PATH}?domain=", 403),
        (f"GET {PATH}", 403),
        ("GET /?domain=secure.example", 403),
        (f"POST {PATH}?domain=secure.example", 403),
        (f"GET {PATH}?domain=//[", 403),
        ("GET //[", 403),
        ("GET //[::1?domain=secure.example", 403),
    ],
)
def test_only_names_that_are_served_over_https(start: str, status: int) -> None:
    assert Caddy().ask(start) == status


def test_a_question_with_a_body_ends_the_connection() -> None:
    assert Caddy().ask(f"GET {PATH}?domain=secure.example", "Content-Length: 1") == 200
