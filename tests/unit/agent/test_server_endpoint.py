"""Tests of zerotrust.agent.server_endpoint."""

import asyncio
import ssl
from typing import Any

import pytest

from zerotrust.agent import server_location
from zerotrust.agent.proxies import Proxies
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.server_location import ServerLocation
from zerotrust.agent.transport_selector import TransportSelector
from zerotrust.model.proxy import Proxy

pytestmark = pytest.mark.anyio

PROXY = Proxy("http", "proxy", 3128, "HTTPS_PROXY")


def endpoint_of(*hosts: str) -> ServerEndpoint:
    return ServerEndpoint(
        tuple(map(ServerLocation.of, hosts)),
        ssl.create_default_context(),
        TransportSelector("direct"),
        Proxies(PROXY, exceptions="b.example"),
    )


async def test_each_address_is_tried_with_large_segments_and_then_with_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialled: list[tuple[str, bool, Proxy | None]] = []

    async def dial(_: Any, host: str, _port: int, **keys: Any) -> None:
        dialled.append((host, keys["small_segments"], keys["proxy"]))

    monkeypatch.setattr(server_location, "dial", dial)
    endpoint = endpoint_of("a.example", "b.example")
    for turn in range(5):
        await endpoint.connect(asyncio.Protocol, turn)
    assert dialled == [
        ("a.example", False, PROXY),
        ("b.example", False, None),
        ("a.example", True, PROXY),
        ("b.example", True, None),
        ("a.example", False, PROXY),
    ]


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert str(ServerLocation.of("[fd00::1]")) == "[fd00::1]:8443"


@pytest.mark.parametrize(
    ("address", "keys", "web_server"),
    [
        ("tunnel.example.com", {}, ("tunnel.example.com", 443, "tunnel.example.com")),
        ("192.0.2.1:9", {"server_name": "tunnel"}, ("192.0.2.1", 443, "tunnel")),
        ("tunnel:9", {"websocket_address": "www.test"}, ("www.test", 443, "www.test")),
        ("tunnel:9", {"websocket_address": "www:444"}, ("www", 444, "www")),
    ],
)
def test_the_web_server_of_an_address(
    address: str, keys: dict[str, str], web_server: tuple[str | int, ...]
) -> None:
    assert ServerLocation.of(address, **keys).web_server == web_server


def test_another_server_of_the_authority_is_dialled_by_its_own_name() -> None:
    home = endpoint_of("a.example")
    other = home.at("[fd00::1]:9")
    assert other.locations == (ServerLocation.of("[fd00::1]:9"),)
    assert other.location(0).server_name == "fd00::1"
    assert (other.tls, other.proxies) == (home.tls, home.proxies)
    assert other.transport is not home.transport, "the way that works may be another one"
    assert not other.same_server(home)


def test_the_same_server_has_an_address_in_common() -> None:
    former, latter = endpoint_of("a.example", "b.example"), endpoint_of("b.example")
    assert former.same_server(latter) and not endpoint_of("a.example").same_server(latter)
