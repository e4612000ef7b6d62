"""What the server says of a client, and whom it believes about it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zerotrust.http.body import request_framing
from zerotrust.http.head import parse_request
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.ingress import Ingress
from zerotrust.server.registry import Claim, Registry
from zerotrust.tunnel.codes import FLAG_UPGRADE
from zerotrust.tunnel.payloads import RequestOpen, unpack_open


class Session:
    """Keeps what is opened."""

    can_open = True

    def __init__(self) -> None:
        self.opened: list[tuple[RequestOpen, bool]] = []
        self.streams: dict[int, Any] = {}

    def open_stream(self, payload: bytes, sink: object, *, end: bool, now: float) -> object:
        assert sink is not None
        assert now > 0
        self.opened.append((unpack_open(payload), end))
        return object()


class Connection:
    """Keeps what is refused."""

    def __init__(self, peer: str | None) -> None:
        self.peer_host = peer
        self.replies: list[bytes] = []

    def reusable(self) -> bool:
        return True

    def refuse(self, reply: bytes, *, close: bool) -> None:
        assert not close
        self.replies.append(reply)


class Door:
    """An ingress with one service, `app.example.com`."""

    def __init__(self, *, websocket: bool = True) -> None:
        self.registry = Registry()
        self.session = Session()
        member = self.registry.join("home", cast("TunnelLink", SimpleNamespace(session=self.session)))
        self.registry.register(member, Claim(member, "app", b"app", ("app.example.com",), websocket))
        self.member = member
        self.ingress = Ingress(self.registry, trusted_proxies=["127.0.0.0/8", "10.1.0.0/16"])

    def ask(self, *fields: str, peer: str | None = "127.0.0.1", host: str = "app.example.com") -> Connection:
        head = parse_request("\r\n".join(["GET /a%2Fb//?x HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode())
        connection = Connection(peer)
        self.ingress.request(cast("HttpServerConnection", connection), head, request_framing(head.fields))
        return connection

    def fields(self, *fields: str, peer: str | None = "127.0.0.1") -> dict[str, list[str]]:
        assert not self.ask(*fields, peer=peer).replies
        lines = self.session.opened[-1][0].block.decode().split("\r\n")[1:-1]
        found: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            found.setdefault(name.lower(), []).append(value)
        return found


def run(check: Any) -> None:
    async def inside() -> None:
        check()

    asyncio.run(inside())


@pytest.mark.parametrize(
    ("peer", "said", "client", "proto"),
    [
        ("127.0.0.1", ["X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: https"], "203.0.113.7", "https"),
        ("127.0.0.1", ["X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: http"], "203.0.113.7", "http"),
        ("10.1.2.3", ["X-Forwarded-For: 6.6.6.6, 203.0.113.7"], "203.0.113.7", "https"),
        ("127.0.0.1", ["X-Real-IP: 2001:DB8::0:1"], "2001:db8::1", "https"),
        ("127.0.0.1", ["X-Real-IP: <script>"], "127.0.0.1", "https"),
        ("127.0.0.1", ["X-Real-IP: 1.1.1.1", "X-Real-IP: 2.2.2.2"], "127.0.0.1", "https"),
        (None, ["X-Real-IP: 203.0.113.7"], "203.0.113.7", "https"),
        ("192.0.2.1", ["X-Real-IP: 203.0.113.7", "X-Forwarded-Proto: https"], "192.0.2.1", "http"),
        ("192.0.2.1", ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"], "192.0.2.1", "http"),
    ],
)
def test_only_a_trusted_proxy_is_believed(peer: str | None, said: list[str], client: str, proto: str) -> None:
    def check() -> None:
        fields = Door().fields(*said, "X-Forwarded-Host: evil.example", "X-0Trust-Identity: root", peer=peer)
        assert fields["x-forwarded-for"] == [client]
        assert fields["x-real-ip"] == [client]
        assert fields["x-forwarded-proto"] == [proto]
        assert fields["x-forwarded-host"] == ["app.example.com"]
        assert not {"forwarded", "x-0trust-identity"} & set(fields)

    run(check)


def test_the_target_is_forwarded_as_it_came() -> None:
    def check() -> None:
        door = Door()
        door.ask()
        request, end = door.session.opened[0]
        assert request.block.startswith(b"GET /a%2Fb//?x HTTP/1.1\r\n")
        assert end

    run(check)


UPGRADE = ("Connection: keep-alive, UPGRADE", "Upgrade: WebSocket")


@pytest.mark.parametrize("websocket", [True, False])
def test_an_upgrade_passes_where_the_service_allows_it(websocket: bool) -> None:
    def check() -> None:
        door = Door(websocket=websocket)
        replies = door.ask(*UPGRADE).replies
        if websocket:
            request, end = door.session.opened[0]
            assert request.flags & FLAG_UPGRADE
            assert not end
        else:
            assert replies[0].startswith(b"HTTP/1.1 403 ")
            assert b"X-0Trust-Error: upgrade_refused\r\n" in replies[0]
            assert not door.session.opened
            assert not door.ask().replies

    run(check)


def test_each_reason_has_its_status() -> None:
    def check() -> None:
        door = Door()
        assert b"HTTP/1.1 404 " in door.ask(host="other.example.com").replies[0]
        door.session.can_open = False
        overloaded = door.ask().replies[0]
        assert b"HTTP/1.1 503 " in overloaded
        assert b"X-0Trust-Error: overloaded" in overloaded
        assert b"Retry-After: " in overloaded
        door.registry.leave(door.member)
        lost = door.ask().replies[0]
        assert b"HTTP/1.1 503 " in lost
        assert b"X-0Trust-Error: no_agent" in lost

    run(check)
