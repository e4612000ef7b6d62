"""Tests of zerotrust.server.proxy.ping_reply, through the ingress."""

from typing import Any, cast

import pytest

from tests.unit.server.proxy_fixture import build_ingress
from zerotrust.http.body import request_framing
from zerotrust.http.head import parse_request
from zerotrust.http.ping import parse_answer, proof
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.server.agents.registry import Registry

pytestmark = pytest.mark.anyio

NONCE = "0123456789abcdef" * 2
ROOT = b"r" * 32


class Connection:
    """Connection that records its answer, and whether it closes."""

    peer_host = "127.0.0.1"

    def __init__(self, *, reusable: bool = True) -> None:
        self.answer = b""
        self.closes: bool | None = None
        self.reusable = lambda: reusable

    def reply(self, reply: bytes, *, close: bool) -> None:
        self.answer, self.closes = reply, close


def ask(start: str, *fields: str, **options: Any) -> Connection:
    ingress = build_ingress(Registry())
    ingress.roots = (ROOT,)
    lines = [start, "Host: App.example.com:444", *fields, "", ""]
    head = parse_request("\r\n".join(lines).encode())
    connection = Connection(**options)
    ingress.request(cast("HttpServerConnection", connection), head, request_framing(head.fields))
    return connection


@pytest.mark.parametrize("reusable", [True, False])
async def test_a_ping_is_answered_for_every_host_name(reusable: bool) -> None:
    found = ask(
        f"GET /.0trust/ping?nonce={NONCE} HTTP/1.1",
        "CF-Ray: 1",
        "Via: 2.0 Caddy",
        reusable=reusable,
    )
    head, _, body = found.answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Cache-Control: no-store" in head
    assert found.closes is not reusable
    answer = parse_answer(body)
    assert answer is not None
    assert answer.proofs == [proof(ROOT, "app.example.com", NONCE.encode())]
    assert answer.proxies == ["cf-ray"]


@pytest.mark.parametrize(
    ("start", "fields"),
    [
        (f"POST /.0trust/ping?nonce={NONCE} HTTP/1.1", ["Content-Length: 0"]),
        ("GET /.0trust/ping?nonce=1 HTTP/1.1", []),
        ("GET /.0trust/other HTTP/1.1", []),
        (
            f"GET /.0trust/ping?nonce={NONCE} HTTP/1.1",
            ["Connection: Upgrade", "Upgrade: websocket"],
        ),
    ],
)
async def test_other_requests_go_on(start: str, fields: list[str]) -> None:
    found = ask(start, *fields)
    assert b"unknown_host" in found.answer
