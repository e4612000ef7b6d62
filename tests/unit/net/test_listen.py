"""Addresses to listen at: what is left behind, and what takes the place of what."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import cast

import pytest

from tests.kits.ports import free_port
from zerotrust.errors import SetupError
from zerotrust.net.listen import TlsListener, listen_plain
from zerotrust.net.tasks import Tasks

pytestmark = pytest.mark.anyio


class Closing(asyncio.Protocol):
    """Says hello and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"hello")
        transport.close()


async def hello(port: int, host: str = "127.0.0.1") -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    async with asyncio.timeout(5):
        said = await reader.read()
    writer.close()
    return said == b"hello"


async def test_all_interfaces_of_both_families() -> None:
    port = free_port()
    listening = await listen_plain(f":{port}", Closing, key="k")
    assert await hello(port)
    if len(listening.sockets) == 2:
        assert await hello(port, "::1")
    await listening.close()
    assert not await hello(port)


async def test_an_address_in_use_leaves_nothing_open() -> None:
    port = free_port()
    with socket.create_server(("::", port), family=socket.AF_INET6) as taken:
        taken.listen()
        with pytest.raises(SetupError, match=rf"api\.x: cannot listen on :{port}: address already in use"):
            await listen_plain(f":{port}", Closing, key="api.x")
    listening = await listen_plain(f"127.0.0.1:{port}", Closing, key="k")
    await listening.close()


async def test_both_listen_until_the_former_is_closed() -> None:
    port = free_port()
    former = await listen_plain(f":{port}", Closing, key="k")
    with pytest.raises(SetupError):
        await listen_plain(f"127.0.0.1:{port}", Closing, key="k")
    after = await listen_plain(f"127.0.0.1:{port}", Closing, key="k", beside=former)
    assert await hello(port)
    await former.close()
    assert await hello(port)
    await after.close()
    assert not await hello(port)


async def test_a_unix_socket_goes_with_its_listener_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = await listen_plain(f"unix:{path}", Closing, key="k")
    assert path.stat().st_mode & 0o777 == 0o600
    second = await listen_plain(f"unix:{path}", Closing, key="k")  # as another process would
    await first.close()
    assert path.exists()
    await second.close()
    assert not path.exists()


async def test_agents_are_accepted_until_it_is_closed() -> None:
    port, tasks = free_port(), Tasks()
    refusals: list[str] = []
    listener = TlsListener(
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        factory=Closing,
        refused=lambda _, reason: refusals.append(reason),
        tasks=tasks,
    )
    former = listener.listen(f"127.0.0.1:{port}", key="k")
    after = listener.listen(f":{port}", key="k", beside=former)
    await former.close()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        while not refusals:
            await asyncio.sleep(0.01)
    writer.close()
    await after.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await tasks.close()
