"""Tests of zerotrust.caddy.ports."""

import asyncio
import errno
from collections.abc import AsyncIterator

import pytest

from zerotrust.caddy.ports import ListenAddress, check_free, endpoints, explain
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def busy() -> AsyncIterator[int]:
    async with await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0
    ) as server:
        yield server.sockets[0].getsockname()[1]


def test_endpoints_of_every_address() -> None:
    found = endpoints(Caddy(bind=["127.0.0.1", "[::1]"], http_port=8080, https_port=8443))
    assert [(e.host, e.port, e.udp) for e in found] == [
        ("127.0.0.1", 8443, False),
        ("127.0.0.1", 8443, True),
        ("127.0.0.1", 8080, False),
        ("::1", 8443, False),
        ("::1", 8443, True),
        ("::1", 8080, False),
    ]


def test_no_http_port_without_http() -> None:
    assert {e.key for e in endpoints(Caddy(http_port=0))} == {"caddy.https_port"}


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
async def test_busy(busy: int, host: str) -> None:
    with pytest.raises(
        CaddyError,
        match=rf"^TCP port {busy} on .* is in use by another program.*caddy\.https_port$",
    ):
        check_free([ListenAddress(host, busy, "caddy.https_port")])


async def test_busy_udp() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    with pytest.raises(CaddyError, match=f"UDP port {port} on 127"):
        check_free([ListenAddress("127.0.0.1", port, "caddy.https_port", udp=True)])
    transport.close()


async def test_a_free_port_stays_free() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    for _ in range(2):
        check_free(
            [
                ListenAddress(host, port, "k", udp=udp)
                for host in ("", "127.0.0.1")
                for udp in (False, True)
            ]
        )


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def only_ipv4(host: str, port: int, *, udp: bool) -> None:
        if host == "::":
            raise OSError(number, "no IPv6")
        bound.append((host, port, udp))

    bound: list[tuple[str, int, bool]] = []
    monkeypatch.setattr("zerotrust.caddy.ports.try_bind", only_ipv4)
    check_free([ListenAddress("", 443, "caddy.https_port", udp=True)])
    assert bound == [("0.0.0.0", 443, True)]
    with pytest.raises(CaddyError, match=r"caddy\.bind"):
        check_free([ListenAddress("::", 443, "caddy.https_port")])


def test_not_an_address_of_this_machine() -> None:
    with pytest.raises(
        CaddyError, match=r'caddy\.bind "192\.0\.2\.1" is not an address of this machine'
    ):
        check_free([ListenAddress("192.0.2.1", 8443, "caddy.https_port")])


def test_a_missing_privilege() -> None:
    text = explain(
        ListenAddress("", 443, "caddy.https_port"), PermissionError(errno.EACCES, "denied")
    )
    assert "CAP_NET_BIND_SERVICE" in text
    assert "above 1023 for caddy.https_port" in text


def test_another_reason() -> None:
    text = explain(ListenAddress("", 443, "caddy.https_port"), OSError(errno.ENOBUFS, "no buffers"))
    assert (
        text
        == "cannot listen on TCP port 443 on all interfaces (no buffers); check caddy.https_port"
        " and caddy.bind"
    )
