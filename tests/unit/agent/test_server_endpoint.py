"""Tests of zerotrust.agent.server_endpoint."""

import asyncio
import ssl
from typing import Any

import pytest

from zerotrust.agent import server_endpoint
from zerotrust.agent.proxies import Proxies
from zerotrust.agent.server_endpoint import ServerEndpoint, ServerLocation
from zerotrust.model.proxy import Proxy

pytestmark = pytest.mark.anyio

PROXY = Proxy("http", "proxy", 3128, "HTTPS_PROXY")


def endpoint_of(*hosts: str) -> ServerEndpoint:
    locations = tuple(ServerLocation(host, 8443, "server") for host in hosts)
    return ServerEndpoint(
        locations, ssl.create_default_context(), Proxies(PROXY, exceptions="b.example")
    )


async def test_each_address_is_tried_with_large_segments_and_then_with_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialled: list[tuple[str, bool, Proxy | None]] = []

    async def dial(_: Any, host: str, _port: int, **keys: Any) -> None:
        dialled.append((host, keys["small_segments"], keys["proxy"]))

    monkeypatch.setattr(server_endpoint, "dial", dial)
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
    assert str(ServerLocation("fd00::1", 8443, "server")) == "[fd00::1]:8443"
