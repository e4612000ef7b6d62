"""Tests of zerotrust.net.listen."""

import asyncio
import errno
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.support.ports import free_port
from zerotrust.errors import SetupError
from zerotrust.net import listen
from zerotrust.net.listen import TlsListener, listen_plain
from zerotrust.net.tasks import Tasks

pytestmark = pytest.mark.anyio


class Closing(asyncio.Protocol):
    """Send hello and close."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"hello")
        # aiofastnet begins to read after this, also on a transport that is closed.
        asyncio.get_running_loop().call_soon(transport.close)


async def hello(port: int, host: str = "127.0.0.1") -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    async with asyncio.timeout(20):
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
        with pytest.raises(
            SetupError, match=rf"api\.x: cannot listen on :{port}: address already in use"
        ):
            await listen_plain(f":{port}", Closing, key="api.x")
    listening = await listen_plain(f"127.0.0.1:{port}", Closing, key="k")
    await listening.close()


async def test_old_and_new_address_listen_together() -> None:
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


async def test_only_its_own_unix_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = await listen_plain(f"unix:{path}", Closing, key="k")
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    second = await listen_plain(f"unix:{path}", Closing, key="k")  # as another process would
    await first.close()
    assert path.exists()
    await second.close()
    assert not path.exists()


async def test_a_unix_socket_in_use_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = await listen_plain(f"unix:{path}", Closing, key="k")
    with pytest.raises(SetupError) as raised:
        await listen_plain(f"unix:{path}", Closing, key="api.x")
    assert str(raised.value) == (
        f"api.x: cannot listen on unix:{path}: another process listens there"
    )
    reader, writer = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), 20) == b"hello"
    writer.close()
    await first.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let this process open no more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as next_one:
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one.fileno(), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_accepting_pauses_without_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listen, "ACCEPT_PAUSE", 0.2)
    port = free_port()
    listening = await listen_plain(f"127.0.0.1:{port}", Closing, key="api.x")
    clients = [socket.socket() for _ in range(5)]
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: pytest.fail(str(context)))
    for client in clients:
        client.setblocking(False)
    with capture_logs() as lines, no_descriptors_left():
        for client in clients:
            assert client.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
        began, used = time.monotonic(), time.process_time()
        while time.monotonic() < began + 0.5:
            await asyncio.sleep(0.05)
        assert time.process_time() - used < 0.2
    for client in clients:
        assert await asyncio.wait_for(loop.sock_recv(client, 10), 5) == b"hello"
        client.close()
    assert [(line["event"], line["error"]) for line in lines] == [
        ("cannot accept connections; they wait", "too many open files")
    ]
    await listening.close()


async def test_transports_are_aiofastnets() -> None:
    made: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

    class Kept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set_result(transport)

    port = free_port()
    listening = await listen_plain(f"127.0.0.1:{port}", Kept, key="k")
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    transport = await asyncio.wait_for(made, 20)
    assert type(transport).__module__.startswith("aiofastnet")
    transport.close()
    writer.close()
    await listening.close()


async def test_a_connection_without_a_protocol_is_closed() -> None:
    port = free_port()
    listening = await listen_plain(f"127.0.0.1:{port}", lambda: None, key="k")
    assert not await hello(port)
    await listening.close()


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
    async with asyncio.timeout(20):
        while not refusals:
            await asyncio.sleep(0.01)
    writer.close()
    await after.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await tasks.close()
